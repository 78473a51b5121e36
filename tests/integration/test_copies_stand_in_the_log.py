"""What a register says of copies stands in the log, in its order, and neither can lose what the other has."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.audit.entries import Entry, read_entry
from strongroom.cli import copies_parts, copies_told
from strongroom.client.copies import RecordedCopies
from strongroom.client.service import Session
from strongroom.core.canonical import Json
from strongroom.core.errors import UnavailableError
from strongroom.core.events import EventName
from strongroom.intake.adapters.register_folder import STATEMENTS, OpenRegister
from support.copies import CopiesLab, opened_lab

pytestmark = pytest.mark.integration


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CopiesLab]:
    with opened_lab(tmp_path, monkeypatch) as made:
        for name in ("a", "b", "c"):
            (made.tree / name).mkdir()
            (made.tree / name / "model.bin").write_bytes(os.urandom(5000))
        yield made


def logged(lab: CopiesLab) -> list[Entry]:
    entries = [read_entry(one) for one in lab.deployment.log.entries]
    return [one for one in entries if one.event is EventName.COPY_RECORDED]


def states(lab: CopiesLab) -> list[str]:
    return [one.text("state") for one in logged(lab)]


def from_log(lab: CopiesLab, *args: str) -> list[Any]:
    found: list[Any] = lab.json("copies", "ls", *args, "--as", lab.wallet)["copies"]
    return found


def unreachable(lab: CopiesLab, patch: pytest.MonkeyPatch, *, after_it_was_taken: bool) -> None:
    """Cut the connection whenever a statement is handed in."""
    real = lab.deployment.call

    def call(method: str, path: str, **rest: Any) -> Json:
        if path.startswith("/v1/statements/"):
            if after_it_was_taken:
                real(method, path, **rest)
            raise UnavailableError("the deployment can't be reached")
        return real(method, path, **rest)

    patch.setattr(lab.deployment, "call", call)


def proved(lab: CopiesLab, copy: str) -> None:
    lab.copies("challenge", copy, "--out", lab.folder / "asked")
    lab.copies("answer", lab.folder / "asked", lab.tree / "a", "--out", lab.folder / "answered")
    lab.copies("verify", copy, lab.folder / "answered", "--against", lab.tree / "a")


def test_every_step_of_a_copy_stands_in_the_log_and_no_place_or_holder_does(lab: CopiesLab) -> None:
    copy = lab.add(lab.tree / "a", "--prove-every", "1h")["copy"]
    proved(lab, copy)
    lab.copies("retire", copy, "--how", "lost")
    assert states(lab) == ["added", "challenged", "proved", "lost"]
    first, third = logged(lab)[0], logged(lab)[2]
    assert (first.text("copy"), first.text("model"), first.text("kind")) == (copy, "atlas", "exported")
    assert (first.text("person"), first.text("expires")) == ("dana", "2999-01-01T00:00:00Z")
    assert third.text("due") >= first.text("due") > first.text("made")
    everything = b"".join(lab.deployment.log.entries)
    for hidden in (str(lab.tree), "platform team", "evaluation"):
        assert hidden.encode() not in everything
    assert from_log(lab) == []
    (shown,) = from_log(lab, "--all")
    assert (shown["copy"], shown["stands"], shown["registrar"]) == (copy, "lost", "dana")


def test_the_log_shows_all_registrars_copies_without_any_register(lab: CopiesLab) -> None:
    lab.add(lab.tree / "a")
    dana, lab.register = lab.register, lab.folder / "another"
    lab.wallet = lab.deployment.wallet(lab.folder, "sam")
    lab.add(lab.tree / "b", kind="sealed")
    assert {(one["registrar"], one["kind"], one["stands"]) for one in from_log(lab)} == {
        ("dana", "exported", "good"),
        ("sam", "sealed", "good"),
    }
    assert dana != lab.register
    told = lab.run("copies", "ls", "--as", lab.wallet)
    assert told.exit_code == 0
    assert "dana" in told.output


def test_an_auditor_reads_the_whole_statement_by_what_the_log_says(lab: CopiesLab) -> None:
    lab.add(lab.tree / "a")
    answer = lab.deployment.call("GET", f"/v1/statements/copy/{logged(lab)[0].digest('statement')}")
    assert isinstance(answer, dict)
    assert answer["envelope"] == json.loads((lab.register / STATEMENTS).read_bytes())


@pytest.mark.parametrize("after_it_was_taken", [False, True])
def test_a_log_that_couldnt_be_asked_is_told_and_has_it_later_once(
    lab: CopiesLab,
    monkeypatch: pytest.MonkeyPatch,
    after_it_was_taken: bool,  # noqa: FBT001
) -> None:
    lab.add(lab.tree / "a")
    with monkeypatch.context() as patch:
        unreachable(lab, patch, after_it_was_taken=after_it_was_taken)
        told = lab.add(lab.tree / "b", code=7)
        assert "the log doesn't" in told["message"]
        assert "strongroom copies record" in told["remedy"]
    if not after_it_was_taken:
        checked = lab.run("copies", "check", "--register", lab.register, "--as", lab.wallet)
        assert checked.exit_code == 9
        assert "lacks 1 statement" in checked.output
    assert lab.copies("record")["recorded"] == (0 if after_it_was_taken else 1)
    assert lab.copies("record")["recorded"] == 0
    assert states(lab) == ["added", "added"]
    assert lab.check() == []


def test_who_speaks_next_hands_in_what_an_interruption_left(lab: CopiesLab, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        unreachable(lab, patch, after_it_was_taken=False)
        for name in ("a", "b"):
            lab.add(lab.tree / name, code=7)
    lab.add(lab.tree / "c")
    assert states(lab) == ["added"] * 3
    assert lab.check() == []


@pytest.mark.parametrize("known", range(8))
def test_an_older_register_is_handed_in_from_where_the_log_ends(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch, known: int
) -> None:
    for number in range(7):
        with monkeypatch.context() as patch:
            if number >= known:
                unreachable(lab, patch, after_it_was_taken=False)
            lab.add(lab.tree / "a", "--host", f"host-{number}", code=7 if number >= known else 0)
    assert lab.copies("record")["recorded"] == 7 - known
    assert states(lab) == ["added"] * 7
    assert lab.check() == []


def test_what_the_log_refuses_doesnt_stay_in_the_register(lab: CopiesLab) -> None:
    lab.wallet = lab.deployment.wallet(lab.folder, "rina")
    assert lab.add(lab.tree / "a", code=3)["code"] == "signer-may-not"
    assert (lab.register / STATEMENTS).read_bytes() == b""
    assert logged(lab) == []


@pytest.mark.parametrize(
    "odd",
    [("--holder", ""), ("--reason", "two\nlines"), ("--holder", "x" * 257), ("--prove-every", "1s"), ("--host", "")],
    ids=lambda odd: odd[0],
)
def test_what_no_statement_may_say_is_never_written(lab: CopiesLab, odd: tuple[str, str]) -> None:
    # Once in the file, it would be all that anybody reads of the register from then on.
    lab.add(lab.tree / "a")
    assert lab.add(lab.tree / "b", *odd, code=6)["code"] == "malformed"
    (lab.tree / "odd\nname").mkdir()
    (lab.tree / "odd\nname" / "model.bin").write_bytes(bytes(5000))
    assert lab.add(lab.tree / "odd\nname", code=6)["code"] == "malformed"
    lab.add(lab.tree / "c")
    assert lab.check() == []


def test_a_register_that_was_cut_off_or_replaced_is_refused_by_the_log(lab: CopiesLab) -> None:
    lab.add(lab.tree / "a")
    lost = lab.add(lab.tree / "b")["copy"]
    lab.copies("retire", lost, "--how", "lost")
    statements = lab.register / STATEMENTS
    whole = statements.read_bytes()
    for lines in (2, 1, 0):
        # Cut off, the lost copy would be a good one; emptied, there would be none.
        statements.write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]))
        cut = statements.read_bytes()
        told = lab.run("copies", "check", "--register", lab.register, "--as", lab.wallet)
        assert told.exit_code == 6, told.output
        assert "doesn't begin with them" in told.output
        # Nor does it go on from there, and what it tried isn't left in it.
        assert lab.add(lab.tree / "c", code=6)["code"] == "register-broken"
        assert statements.read_bytes() == cut
    statements.write_bytes(whole)
    assert [one["cause"] for one in lab.check(code=1)] == ["lost"]
    assert states(lab) == ["added", "added", "lost"]


@pytest.mark.parametrize("while_the_log_is_read", [False, True])
def test_a_copy_that_is_added_during_a_check_alarms_nobody(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch, *, while_the_log_is_read: bool
) -> None:
    lab.add(lab.tree / "a")
    real = copies_told._recorded

    def recorded(person: Session) -> RecordedCopies:
        found = real(person) if while_the_log_is_read else None
        lab.add(lab.tree / "b")
        return found or real(person)

    monkeypatch.setattr(copies_told, "_recorded", recorded)
    assert lab.check() == []


class Killed(BaseException):
    """The process is gone: nothing of what follows runs."""


@pytest.mark.parametrize("at", ["before it is written", "before it is handed in", "before the answer"])
def test_a_registrar_killed_anywhere_leaves_what_the_next_command_mends(
    lab: CopiesLab, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    lab.add(lab.tree / "a")
    with monkeypatch.context() as patch:
        _kill_at(lab.deployment, at, patch)
        with pytest.raises(Killed):
            lab.add(lab.tree / "b")
    lab.copies("record")
    assert lab.check() == []
    there = {one["terms"]["place"] for one in lab.copies("ls")["copies"]}
    assert there == {str(lab.tree / "a")} | ({str(lab.tree / "b")} if at != "before it is written" else set())
    assert len(states(lab)) == len(there)
    lab.add(lab.tree / "c")
    assert lab.check() == []


def _kill_at(deployment: InMemoryDeployment, at: str, patch: pytest.MonkeyPatch) -> None:
    real = deployment.call

    def killed(*_args: object, **_named: object) -> None:
        raise Killed

    def call(method: str, path: str, **rest: Any) -> Json:
        if path.startswith("/v1/statements/"):
            real(method, path, **rest)
            raise Killed
        return real(method, path, **rest)

    if at == "before it is written":
        patch.setattr(OpenRegister, "append", killed)
    elif at == "before it is handed in":
        patch.setattr(copies_parts, "record_missing", killed)
    else:
        patch.setattr(deployment, "call", call)
