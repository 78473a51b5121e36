"""Whatever the responder keeps, people can read at its desk: each answer is one that a frame holds."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.fields import Fields
from strongroom.ipc import frames
from strongroom.responder.cases import Case
from strongroom.responder.desk import MAX_LISTED, PAGE, Desk
from strongroom.responder.reading import DeskReader
from strongroom.responder.responding import MAX_RUNS
from strongroom.response.actions import ActionName
from strongroom.response.entries import Happened, IncidentEntry
from strongroom.response.executor import begin
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import Alert, fold, open_incident
from strongroom.response.run import LONG, MAX_RUN, Run, RunStatus
from strongroom.response.subjects import Subject
from support.clocks import FixedClock
from support.playbooks import END, START, ask, playbook, sid
from support.responses import NOW, TERMS

WIDE: Final = "host:" + "h" * 128
RULE: Final = "r" * 96


def answered(asking: Coroutine[Any, Any, dict[str, Json]]) -> dict[str, Json]:
    """Return the answer of a desk that has nothing to wait for."""
    try:
        asking.send(None)
    except StopIteration as done:
        return dict(done.value)
    raise AssertionError("the desk waits")


def framed(desk: Desk) -> DeskReader:
    """Return a reader whose every question and answer passes as frames do."""

    def asked(operation: str, /, **members: Json) -> Fields:
        call = frames.read_call(frames.call(1, operation, members)[frames.HEADER :])
        answer = frames.answer(call.id, answered(desk.serve(call, 0)))
        _number, told = frames.read_answer(answer[frames.HEADER :])
        assert isinstance(told, dict)
        return Fields(told, operation)

    return DeskReader(asked)


def opened(number: int = 0) -> IncidentEntry:
    """Return the first entry of an incident: as long as one can be."""
    alert = Alert(
        rule=RULE,
        certainty=Certainty.SURE,
        subject=Subject.parse(WIDE),
        at=NOW + number,
        event=Digest.of(number.to_bytes(4, "big")),
    )
    return open_incident(alert, Severity.HIGH, by="machine:" + "m" * 64, at=NOW + number)


def case_of(entries: list[IncidentEntry], runs: Mapping[str, Run] | None = None) -> Case:
    """Return an incident with these entries."""
    clock = FixedClock(NOW)
    return Case(
        incident=fold(entries),
        entries=entries,
        store=SimpleNamespace(),
        clock=clock,
        by="machine:m",
        runs=dict(runs or {}),
    )


def desk_of(cases: Mapping[str, Case], broken: Mapping[str, str] | None = None) -> Desk:
    """Return a desk for these incidents."""
    responding = SimpleNamespace(cases=cases, broken=broken or {})
    return Desk(responding, FixedClock(NOW), None, None)  # type: ignore[arg-type]  # nobody acts here


def asking(incident: str, *, letter: str, calls: int) -> Run:
    """Return a run that asks people 16 things at once for each call, in 2,000 letters each."""
    inner, outer = sid("parallel", 30), sid("parallel", 31)
    steps: dict[str, Any] = {
        START: {"type": "start", "on_completion": inner},
        inner: {"type": "parallel", "next_steps": [sid("action", 64 + n) for n in range(16)], "on_completion": END},
        END: {"type": "end"},
    }
    for n in range(16):
        steps[sid("end", 96 + n)] = {"type": "end"}
        asked = ask(sid("end", 96 + n))
        steps[sid("action", 64 + n)] = {**asked, "commands": [{"type": "manual", "command": letter * 2000}]}
    called = playbook(steps, number=8)
    steps = {
        START: {"type": "start", "on_completion": outer},
        outer: {
            "type": "parallel",
            "next_steps": [sid("playbook-action", 128 + n) for n in range(calls)],
            "on_completion": END,
        },
        END: {"type": "end"},
    }
    for n in range(calls):
        end = sid("end", 160 + n)
        steps[end] = {"type": "end"}
        call = {"type": "playbook-action", "playbook_id": called.id, "on_completion": end}
        steps[sid("playbook-action", 128 + n)] = call
    book = playbook(steps, number=9)
    library = {one.id: one for one in (book, called)}
    return begin(library, book.id, incident=incident, variables={"model": "model:atlas"}, terms=TERMS, now=NOW)


def test_a_run_that_asks_more_than_can_be_read_back_is_stopped() -> None:
    # An incident with a run that no start reads is one that nobody sees any more.
    run = asking("inc-1", letter="\u4e2d", calls=16)
    assert run.status is RunStatus.FAILED
    assert LONG < len(run.to_bytes()) < MAX_RUN
    assert Run.parse(run.to_bytes()) == run
    assert (len(run.to_bytes()) + 2) // 3 * 4 < frames.MAX_FRAME - 1024


def test_an_incident_is_read_whole_however_long_its_entries_and_runs_are() -> None:
    first = opened()
    entries, incident = [first], fold([first])
    for number in range(2 * PAGE):
        facts = {"action": ActionName.NOTIFY.value, "subject": WIDE, "key": f"{number:096}"}
        entry = incident.next(Happened.ACTION_PROPOSED, "person:" + "p" * 64, NOW, facts)
        entries.append(entry)
        incident = incident.apply(entry)
    stopped = asking(first.incident, letter="\u4e2d", calls=16)
    going_on = asking(first.incident, letter="a", calls=6)
    assert going_on.status is RunStatus.RUNNING
    short = replace(going_on, pending=(), threads=())
    runs = {f"run-{number:03}": (stopped, going_on, short)[number % 3] for number in range(MAX_RUNS)}
    shown = framed(desk_of({first.incident: case_of(entries, runs)})).read(first.incident)
    assert list(shown.entries) == entries
    assert dict(shown.runs) == runs


def test_a_full_list_is_read_and_leaves_out_closed_ones_first() -> None:
    made = [opened(number) for number in range(MAX_LISTED + 5)]
    cases = {one.incident: case_of([one]) for one in made}
    broken = {f"inc-{number:032x}": "responder-record-broken" for number in range(2 * MAX_LISTED)}
    listed, unread = framed(desk_of(cases, broken)).incidents()
    assert 1000 < len(listed) <= MAX_LISTED
    assert listed[0].opened == NOW + MAX_LISTED + 4
    assert 1000 < len(unread) <= MAX_LISTED
