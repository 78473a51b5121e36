"""What lies in a delivery's folder is believed for a signature or a digest; a refusal leaves nothing that opens."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulators.deployment_in_memory import signer
from strongroom.audit.entries import read_entry
from strongroom.client.adapters import wallet_folder
from strongroom.client.api import BrokerApi
from strongroom.core.adapters.durable import write_durably
from strongroom.core.envelope import sign
from strongroom.core.events import EventName
from strongroom.intake.states import State
from strongroom.quarantine.adapters import delivery_folder
from strongroom.quarantine.adapters.delivery_folder import DeliveryFolder
from strongroom.quarantine.gate import checked
from strongroom.release.intake_statements import INTAKE_RECORD_TYPE, IntakeRecord
from strongroom.sealing.adapters.directory import read_envelope
from support.delivered import delivery
from support.gated import judge_here, lay_out, receive, review, seal, with_reviewers
from support.place import Place

pytestmark = pytest.mark.integration


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    judge_here(monkeypatch)
    with Place.opened(tmp_path, monkeypatch) as made:
        yield with_reviewers(made)


@pytest.fixture
def into(place: Place) -> Path:
    """A delivery that waits for reviews."""
    path = place.folder / "first"
    receive(place, lay_out(place.folder / "delivered", delivery()), path)
    return path


def events(place: Place, event: EventName) -> int:
    return sum(read_entry(one).event is event for one in place.deployment.log.entries)


def kept(place: Place) -> list[Path]:
    return list(place.wallets["dana"].glob("*kept*"))


@pytest.mark.parametrize("name", ["next.json", "records/5.json"])
def test_a_review_that_somebody_wrote_into_the_folder_seals_nothing(place: Place, into: Path, name: str) -> None:
    standing = checked(DeliveryFolder(into))
    forged = standing.waive(State.REVIEWED, place.deployment.clock.now()).last
    said = IntakeRecord(genesis=place.deployment.genesis.digest, record=forged)
    (into / name).write_bytes(sign(INTAKE_RECORD_TYPE, said.to_bytes(), signer("sam")).to_bytes())
    assert seal(place, into, code=6)["code"] == "intake-records"
    assert events(place, EventName.VERSION_REGISTERED) == 0
    assert not (into / "verdict.json").exists()
    (into / name).unlink()
    assert seal(place, into, review(place, into, "otto"))["state"] == "sealed"


def test_a_version_from_before_the_review_isnt_what_was_reviewed(place: Place, into: Path) -> None:
    place.seal()
    shutil.copytree(place.folder / "sealed", into / "sealed")
    before = read_envelope(into / "sealed").digest
    assert seal(place, into, review(place, into, "otto"))["state"] == "sealed"
    assert read_envelope(into / "sealed").digest != before
    assert place.json("status", by="dana")["models"]["minilm"]["version"] == 2


class Stopped(BaseException):
    """The process ends here."""


def stopped(*_arguments: object, **_named: object) -> None:
    raise Stopped


def test_a_delivery_given_up_in_the_middle_of_its_sealing_opens_no_more(
    place: Place, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(BrokerApi, "register", stopped)
        with pytest.raises(Stopped):
            place.run("intake", "seal", str(into), "--review", str(review(place, into, "otto")), by="dana")
    assert (into / "sealed").is_dir()
    assert place.json("intake", "discard", str(into), "--yes", by="dana")["state"] == "quarantined"
    assert kept(place) == []
    assert not (into / "sealed").exists()


def test_a_version_that_is_registered_cant_be_given_up(
    place: Place, into: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        register = BrokerApi.register

        def registers(*arguments: object) -> None:
            register(*arguments)  # type: ignore[arg-type]  # as called
            raise Stopped

        patched.setattr(BrokerApi, "register", registers)
        with pytest.raises(Stopped):
            place.run("intake", "seal", str(into), "--review", str(review(place, into, "otto")), by="dana")
    assert place.json("intake", "discard", str(into), "--yes", by="dana", code=9)["code"] == "intake-wrong-state"
    assert (into / "sealed").is_dir()
    assert seal(place, into)["state"] == "sealed"
    assert kept(place) == []


@pytest.mark.parametrize("again", ["discard", "convert", "seal", "receive"])
def test_whatever_is_typed_next_destroys_the_key_of_what_was_refused(
    place: Place, into: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(DeliveryFolder, "accept", stopped)
        with pytest.raises(Stopped):
            place.run("intake", "discard", str(into), "--yes", by="dana")
    assert len(kept(place)) == 1
    named = {
        "discard": (str(into), "--yes"),
        "convert": (str(into), "--into", str(place.folder / "second")),
        "seal": (str(into),),
        "receive": (str(place.folder / "delivered"), "--model", "minilm", "--into", str(into)),
    }
    assert place.run("intake", again, *named[again], by="dana").exit_code != 0
    assert kept(place) == []
    assert not (into / "copy").exists()
    assert (into / "verdict.json").exists()


def test_no_room_for_a_verdict_keeps_no_key(place: Place, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(DeliveryFolder, "judge", stopped)
        with pytest.raises(Stopped):
            place.run("intake", "discard", str(into), "--yes", by="dana")
    assert kept(place) == []


@pytest.mark.parametrize("at", range(12))
def test_no_room_for_a_small_file_is_an_interruption_too(
    place: Place, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    source, path = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    left = [at]

    def full(*arguments: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "no space")
        write_durably(*arguments)  # type: ignore[arg-type]  # as called

    with monkeypatch.context() as patched:
        for module in (delivery_folder, wallet_folder):
            patched.setattr(module, "write_durably", full)
        assert receive(place, source, path, code=7)["code"] == "system"
    assert receive(place, source, path)["state"] == "scanned"


@pytest.mark.parametrize(
    "option", [("--leave-out", "README.md"), ("--rules", "gate.json"), ("--attach", "bom.json")], ids=lambda one: one[0]
)
def test_other_terms_than_it_began_with_are_refused_and_not_forgotten(
    place: Place, into: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, str]
) -> None:
    monkeypatch.chdir(place.folder)
    (place.folder / "gate.json").write_text('{"v": 1, "reviews": 2, "scanners": []}')
    (place.folder / "bom.json").write_text('{"bomFormat": "CycloneDX", "specVersion": "1.6"}')
    before = sorted(into.rglob("*"))
    assert receive(place, place.folder / "delivered", into, *option, code=9)["code"] == "intake-other-terms"
    assert sorted(into.rglob("*")) == before
    assert receive(place, place.folder / "delivered", into)["state"] == "scanned"


def test_terms_that_nobody_signed_yet_are_those_that_are_given(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source, path = lay_out(place.folder / "delivered", delivery()), place.folder / "first"
    rules = place.folder / "gate.json"
    rules.write_text('{"v": 1, "reviews": 0, "scanners": []}')
    named = ("receive", str(source), "--model", "minilm", "--into", str(path), "--rules", str(rules))
    with monkeypatch.context() as patched:
        patched.setattr(DeliveryFolder, "propose", stopped)
        with pytest.raises(Stopped):
            place.run("intake", *named, by="dana")
    assert receive(place, source, path, code=9)["code"] == "intake-other-terms"
    assert receive(place, source, path, "--rules", str(rules))["terms"]["rules"]["reviews"] == 0


@pytest.mark.parametrize("name", ["terms.json", "records/4.json", "next.json"])
@pytest.mark.parametrize("what", ["link", "folder", "pipe", "text"])
def test_a_hostile_folder_is_refused_and_hides_no_other(place: Place, into: Path, name: str, what: str) -> None:
    receive(place, place.folder / "delivered", place.folder / "good")
    path = into / name
    path.unlink(missing_ok=True)
    if what == "link":
        path.symlink_to("/etc/hostname")
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.write_text("{")
    listed = {one["folder"]: one["state"] for one in place.json("intake", "ls", str(place.folder))}
    assert listed["good"] == "scanned"
    assert place.run("intake", "seal", str(into), by="dana").exit_code in {2, 6}
    if name != "next.json":
        assert place.run("intake", "show", str(into)).exit_code in {2, 6}
