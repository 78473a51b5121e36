"""A copy for a recipient, and whose a leaked one is: as people type it, against the real keeper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from strongroom.access.request import Action
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import ModelId
from strongroom.sealing.adapters.resume import JournalFile
from support.marked_models import NAME, arrays, file_of
from support.place import Place

pytestmark = pytest.mark.integration
COPIES = ("minilm-acme", "minilm-borea")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment whose model may be exported, by who may publish it too, and has two marked copies."""
    with Place.opened(tmp_path, monkeypatch) as made:
        policy = made.deployment.policy
        rules = tuple(
            replace(rule, requester_role="requester") if rule.action is Action.EXPORT_PLAINTEXT else rule
            for rule in policy.rules
        )
        models = tuple(replace(one, export=True) for one in policy.models)
        (terms,) = (one for one in models if one.model == "minilm")
        copies = tuple(replace(terms, model=ModelId(name), copy_of=terms.model) for name in COPIES)
        made.deployment.next_policy(replace(policy, models=(*models, *copies), rules=rules))
        weights = made.weights()
        (weights / "model.bin").unlink()
        (weights / NAME).write_bytes(file_of(arrays(), "F16"))
        yield made


def exportable(place: Place, model: str = "minilm") -> str:
    """Ask for an export to the station, and have it agreed on; returns the request."""
    station = place.folder / "station"
    if not station.exists():
        place.json("recipient", "new", str(station))
    ask = ("request", "create", "--model", model, "--purpose", "research", "--action", "export-plaintext")
    digest = str(place.json(*ask, "--to", f"{station}.pub", by="dana")["request"])
    for name in ("sam", "rina"):
        place.json("approve", digest, "--yes", by=name)
    return digest


def station(place: Place) -> tuple[str, str]:
    return "--identity", str(place.folder / "station")


def copy_for(place: Place, name: str, *more: str, code: int = 0) -> Any:
    """Make a marked copy at a folder of its own name."""
    arguments = (exportable(place), str(place.folder / "sealed"), "--out", str(place.folder / name), "--for", name)
    return place.json("reseal", *arguments, *station(place), *more, by="dana", code=code)


def in_clear(place: Place, name: str) -> Path:
    """Write a model out, as a recipient could; returns the folder."""
    out = place.folder / f"{name}.plain"
    place.json("export", exportable(place, name), str(place.folder / name), str(out), *station(place), by="dana")
    return out


def attributed(place: Place, found: Path, *more: str, code: int = 0) -> Any:
    arguments = (exportable(place), str(place.folder / "sealed"), str(found))
    return place.json("attribute", *arguments, *station(place), *more, by="dana", code=code)


def test_a_leaked_copy_names_its_recipient(place: Place) -> None:
    original = place.seal()
    for name in COPIES:
        made = copy_for(place, name)
        assert (made["model"], made["version"]) == (name, 1)
    # The original's current version is still what it was.
    assert place.json("status", by="dana")["models"]["minilm"]["manifest"] == original["manifest"]
    leaked = in_clear(place, "minilm-borea")
    weights = place.weights()
    assert (leaked / "config.json").read_bytes() == (weights / "config.json").read_bytes()
    assert (leaked / NAME).read_bytes() != (weights / NAME).read_bytes()
    for found in (leaked, leaked / NAME):
        said = attributed(place, found)
        assert said["named"] == ["minilm-borea"]
        assert said["tensors"] == said["tensors_in_all"] == 3
        assert [one["copy"] for one in said["scores"]] == ["minilm-borea", "minilm-acme"]
    text = place.run(
        *("attribute", exportable(place), str(place.folder / "sealed"), str(leaked), *station(place)), by="dana"
    ).output
    assert "it is made from minilm-borea" in text
    assert "not read: config.json: intake-safetensors" in text
    assert not list((place.wallets["dana"]).glob("*kept*"))


def test_unmarked_weights_name_nobody(place: Place) -> None:
    place.seal()
    said = attributed(place, place.weights())
    assert (said["named"], said["values_changed"]) == ([], 0)
    text = place.run(
        *("attribute", exportable(place), str(place.folder / "sealed"), str(place.weights()), *station(place)),
        by="dana",
    ).output
    assert "these are the unmarked weights" in text


def test_what_holds_no_weights_costs_no_grant(place: Place) -> None:
    place.seal()
    digest = exportable(place)
    found = place.folder / "notes.txt"
    found.write_text("nothing")
    arguments = (digest, str(place.folder / "sealed"))
    refused = place.json("attribute", *arguments, str(found), *station(place), by="dana", code=2)
    assert (refused["code"], refused["remedy"]) == ("usage", "notes.txt: intake-safetensors")
    leaked = place.weights() / NAME
    assert place.json("attribute", *arguments, str(leaked), *station(place), by="dana")["named"] == []


def test_a_copy_that_the_policy_doesnt_name_isnt_made(place: Place) -> None:
    place.seal()
    assert copy_for(place, "atlas", code=3)["code"] == "not-as-named"
    assert not (place.folder / "atlas").exists()


def test_unmarked_weights_arent_sealed_as_a_copy(place: Place) -> None:
    out = str(place.folder / "anew")
    arguments = ("--model", "minilm-acme", "--out", out)
    assert place.json("seal", str(place.weights()), *arguments, by="dana", code=3)["code"] == "not-as-named"
    assert not (place.folder / "anew").exists()


def test_a_copy_sealed_anew_keeps_its_mark(place: Place) -> None:
    place.seal()
    copy_for(place, "minilm-acme")
    anew = str(place.folder / "anew")
    arguments = (exportable(place, "minilm-acme"), str(place.folder / "minilm-acme"), "--out", anew)
    assert place.json("reseal", *arguments, *station(place), by="dana")["version"] == 2
    out = place.folder / "plain"
    place.json("export", exportable(place, "minilm-acme"), anew, str(out), *station(place), by="dana")
    assert attributed(place, out)["named"] == ["minilm-acme"]


def test_one_whom_the_policy_names_no_more_is_still_found(place: Place) -> None:
    place.seal()
    copy_for(place, "minilm-acme")
    leaked = in_clear(place, "minilm-acme")
    policy = place.deployment.policy
    kept = tuple(one for one in policy.models if one.model != "minilm-acme")
    place.deployment.next_policy(replace(policy, models=kept))
    assert attributed(place, leaked)["named"] == []
    assert attributed(place, leaked, "--also", "minilm-acme")["named"] == ["minilm-acme"]


def test_a_model_that_cant_be_marked_is_refused_and_nothing_is_left(place: Place) -> None:
    (place.weights() / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(1000))
    place.seal()
    assert copy_for(place, "minilm-acme", code=9)["code"] == "unmarkable"
    assert not (place.folder / "minilm-acme").exists()


def test_an_interrupted_copy_goes_on_with_the_same_mark(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.seal()
    digest = exportable(place)
    given = ("reseal", digest, str(place.folder / "sealed"), "--out", str(place.folder / "acme"))
    arguments = [*given, "--for", "minilm-acme", *station(place)]
    real, done = JournalFile.append, []

    def dies(self: Any, record: Any) -> None:
        done.append(record)
        if len(done) == 2:
            raise UnavailableError("the power went")
        real(self, record)

    monkeypatch.setattr(JournalFile, "append", dies)
    assert place.json(*arguments, by="dana", code=7)["code"] == "unavailable"
    monkeypatch.setattr(JournalFile, "append", real)
    assert place.json(*arguments, by="dana")["model"] == "minilm-acme"
    out = place.folder / "plain"
    place.json(
        "export", exportable(place, "minilm-acme"), str(place.folder / "acme"), str(out), *station(place), by="dana"
    )
    assert attributed(place, out)["named"] == ["minilm-acme"]


def test_canaries_come_along_unless_others_are_given(place: Place) -> None:
    canaries = place.folder / "canaries.json"
    canaries.write_text('{"canaries":[{"input":[1],"kind":"tokens","name":"a","output":[2]}]}')
    place.seal()
    refused = place.json(
        *("reseal", exportable(place), str(place.folder / "sealed"), "--out", str(place.folder / "x")),
        *("--canaries", str(canaries), *station(place)),
        by="dana",
        code=2,
    )
    assert refused["code"] == "usage"
    copy_for(place, "minilm-acme", "--canaries", str(canaries))
