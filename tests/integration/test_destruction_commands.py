"""Destroying a model's keys, typed as people type it: asked, agreed on, waited for, carried out, and certified."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.access.invariants import CUSTODIAN
from strongroom.audit.facts import Fact
from strongroom.core.clock import SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import ExitCode
from strongroom.core.events import EventName
from strongroom.personnel.roster import Person
from support.clocks import FixedClock
from support.place import Place

pytestmark = pytest.mark.integration
DAY = 86_400


def keeps(one: Person) -> Person:
    return replace(one, roles=one.roles | {CUSTODIAN}) if one.id in {"rina", "olga"} else one


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A deployment with everything in force, two who answer for keys, and one sealed model."""
    with Place.opened(tmp_path, monkeypatch) as made:
        made.deployment.change_roster(keeps)
        made.seal()
        yield made


def later(place: Place, seconds: int) -> None:
    clock = place.deployment.clock
    assert isinstance(clock, FixedClock)
    clock.at += seconds


def finish(place: Place) -> None:
    place.deployment._run(place.deployment.shredding.finish())


def agreed(place: Place) -> str:
    request = str(
        place.json("key", "destroy", "minilm", "--ticket", "T-9", by="dana", code=ExitCode.PENDING)["request"]
    )
    for name in ("sam", "rina"):
        assert place.run("approve", request, "--yes", by=name).exit_code == 0
    return request


def test_it_is_seen_by_everybody_while_it_waits_and_then_happens(place: Place) -> None:
    request = agreed(place)
    (waiting,) = place.json("status", by="olga")["destructions"]
    assert (waiting["model"], waiting["request"], waiting["requester"]) == ("minilm", request, "dana")
    for verb in (("status",), ("key", "ls")):
        shown = place.run(*verb, by="olga").output
        assert "TO BE DESTROYED   minilm" in shown
        assert f"strongroom deny {request}" in shown
    early = place.json("key", "destroy", "--request", request, "--yes", by="dana", code=ExitCode.DENIED)
    assert early["code"] == "cooling-off"
    later(place, DAY)
    asked = place.run("key", "destroy", "--request", request, by="dana", text="n\n")
    assert asked.exit_code != 0
    assert "every key of `minilm`, for good?" in asked.output
    place.json("key", "destroy", "--request", request, "--yes", by="dana")
    assert place.json("key", "certificate", "minilm", by="olga", code=ExitCode.NOT_FOUND)["code"] == (
        "destruction-unfinished"
    )
    finish(place)
    told = place.json("key", "certificate", "minilm", by="olga")
    assert (told["body"]["model"], told["body"]["approvers"]) == ("minilm", ["rina", "sam"])
    assert place.json("status", by="olga")["destroyed"] == ["minilm"]
    assert "destroyed         minilm: strongroom key certificate minilm" in place.run("status", by="olga").output
    assert "model-destroyed" in place.run("explain", request, "--json", by="dana").output


def test_the_request_says_what_it_means_before_anybody_signs(place: Place) -> None:
    request = str(place.json("key", "destroy", "minilm", by="dana", code=ExitCode.PENDING)["request"])
    shown = place.run("approve", request, by="sam", text="n\n").output
    assert "DESTROY THE KEYS OF EVERY VERSION FOR GOOD" in shown
    assert "at the earliest 1 d after its quorum agreed" in shown
    assert CUSTODIAN in shown


def test_a_denial_stops_it(place: Place) -> None:
    request = agreed(place)
    assert place.run("deny", request, "--yes", by="olga").exit_code == 0
    assert place.json("status", by="sam")["destructions"] == []
    later(place, DAY)
    assert place.json("key", "destroy", "--request", request, "--yes", by="dana", code=ExitCode.DENIED)


def test_the_certificate_is_verified_offline_and_not_with_one_byte_changed(place: Place) -> None:
    request = agreed(place)
    later(place, DAY)
    place.json("key", "destroy", "--request", request, "--yes", by="dana")
    finish(place)
    file, genesis = place.folder / "gone.json", place.folder / "genesis.json"
    genesis.write_bytes(place.deployment.genesis.to_bytes())
    place.json("key", "certificate", "minilm", "--out", str(file), by="olga")
    offline = ("key", "verify-certificate", str(file), "--genesis", str(genesis))
    told = place.json(*offline)
    assert (told["model"], told["serial"], told["log"]) == ("minilm", 1, False)
    text = place.run(*offline).output
    for line in (
        "NOT REACHED       the key service local:",
        "had a data key    publisher by dana",
        "gone              epoch 1",
    ):
        assert line in text
    whole = file.read_bytes()
    at = whole.index(b'"payload":"') + 60
    file.write_bytes(whole[:at] + (b"A" if whole[at : at + 1] != b"A" else b"B") + whole[at + 1 :])
    assert place.run(*offline).exit_code in {ExitCode.TAMPERED, ExitCode.USAGE}
    other = InMemoryDeployment(FixedClock(SystemClock().now()))
    other.close()
    file.write_bytes(whole)
    genesis.write_bytes(other.genesis.to_bytes())
    assert place.run(*offline).exit_code == ExitCode.TAMPERED


def test_a_custodian_says_that_a_share_is_gone_and_the_next_certificate_quotes_it(place: Place) -> None:
    facts: dict[str, Fact] = {
        "authority": Digest.of(b"an order"),
        "generation": 1,
        "escrow": Digest.of(b"an escrow"),
        "custodians": ("rina", "olga"),
        "threshold": 2,
    }
    place.deployment._run(place.deployment.keeper.record_pinned(EventName.ESCROW_ADOPTED, facts))
    request = agreed(place)
    assert place.json("custodian", "destroyed", "1", "--yes", by="rina", code=ExitCode.CONFLICT)
    later(place, DAY)
    place.json("key", "destroy", "--request", request, "--yes", by="dana")
    finish(place)
    assert place.run("custodian", "destroyed", "1", by="rina", text="n\n").exit_code != 0
    place.json("custodian", "destroyed", "1", "--yes", by="rina")
    before = place.json("key", "certificate", "minilm", by="olga")["body"]
    after = place.json("key", "certificate", "minilm", "--again", by="olga")["body"]
    assert (before["serial"], after["serial"]) == (1, 2)
    assert [one["custodian"] for one in after["answered"]] == ["rina"]


def test_what_is_given_must_make_sense(place: Place) -> None:
    assert place.run("key", "destroy", by="dana").exit_code == ExitCode.USAGE
    assert place.run("key", "destroy", "minilm", "--request", "abc", by="dana").exit_code == ExitCode.USAGE
    assert place.json("key", "certificate", "minilm", by="dana", code=ExitCode.NOT_FOUND)["code"] == "not-destroyed"
