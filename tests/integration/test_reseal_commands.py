"""``strongroom reseal`` as people type it, against the real keeper: which grants it takes, and what it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.access.request import Action
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import ModelId
from strongroom.sealing.adapters import job
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment whose model may be exported, by who may publish it too."""
    with Place.opened(tmp_path, monkeypatch) as made:
        policy = made.deployment.policy
        rules = tuple(
            replace(rule, requester_role="requester") if rule.action is Action.EXPORT_PLAINTEXT else rule
            for rule in policy.rules
        )
        made.deployment.next_policy(
            replace(policy, models=tuple(replace(one, export=True) for one in policy.models), rules=rules)
        )
        yield made


def asked(place: Place, identity: str = "station") -> str:
    """Ask for an export to an identity; returns the request."""
    station = place.folder / identity
    if not station.exists():
        place.json("recipient", "new", str(station))
    ask = ("request", "create", "--model", "minilm", "--purpose", "research", "--action", "export-plaintext")
    return str(place.json(*ask, "--to", f"{station}.pub", by="dana")["request"])


def agreed(place: Place) -> str:
    """Ask for an export, and have it agreed on."""
    digest = asked(place)
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    return digest


def reseal(place: Place, digest: str, *more: str, code: int = 0, source: str = "sealed", by: str = "dana") -> Any:
    identity = str(place.folder / "station")
    out = str(place.folder / "anew")
    return place.json(
        "reseal", digest, str(place.folder / source), "--out", out, "--identity", identity, *more, by=by, code=code
    )


def test_the_weights_become_the_next_version_under_another_key(place: Place) -> None:
    first = place.seal()
    digest = agreed(place)
    made = reseal(place, digest)
    assert (made["model"], made["version"]) == ("minilm", 2)
    keys = [version.data_key for version in place.deployment.keeper.journal.ledger.versions[ModelId("minilm")]]
    assert len(set(keys)) == 2
    # The next export opens the new version, and what is in it is what was sealed at first.
    assert place.json("status", by="dana")["models"]["minilm"]["manifest"] == made["manifest"] != first["manifest"]
    take = agreed(place)
    out = place.folder / "plain"
    place.json(
        *("export", take, str(place.folder / "anew"), str(out), "--identity", str(place.folder / "station")), by="dana"
    )
    weights = place.weights()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in weights.iterdir()
    }
    assert not list((place.wallets["dana"]).glob("*kept*"))


def test_without_a_grant_to_export_nothing_is_opened(place: Place) -> None:
    place.seal()
    digest = asked(place)
    assert reseal(place, digest, code=3)["code"] == "quorum-not-met"
    assert not (place.folder / "anew").exists()
    open_request = place.ask()
    assert reseal(place, open_request, code=2)["code"] == "usage"
    other = asked(place, "other")
    assert reseal(place, other, code=2)["code"] == "usage"


def test_another_sealed_directory_than_the_exported_one_is_refused(place: Place) -> None:
    place.seal()
    digest = agreed(place)
    place.seal(name="newer")
    assert reseal(place, digest, source="newer", code=2)["code"] == "usage"
    # The exported version isn't current any more: the keeper would refuse it, and nobody is asked for anything.
    assert reseal(place, digest, code=2)["code"] == "usage"
    assert len(place.deployment.keeper.journal.ledger.versions[ModelId("minilm")]) == 2


def test_an_interruption_costs_neither_grant(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.seal()
    digest = agreed(place)
    real = job.seal_files

    def dies(*_arguments: object, **_named: object) -> object:
        raise UnavailableError("the power went")

    monkeypatch.setattr("strongroom.sealing.adapters.reseal.seal_files", dies)
    reseal(place, digest, code=7)
    used = place.deployment.keeper.journal.ledger.keys.data_keys
    count = {model: len(keys) for model, keys in used.items()}
    monkeypatch.setattr("strongroom.sealing.adapters.reseal.seal_files", real)
    assert reseal(place, digest)["version"] == 2
    assert {model: len(keys) for model, keys in used.items()} == count
