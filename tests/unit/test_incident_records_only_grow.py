"""An incident's record: a chain of entries that make sense one after the other, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.response import entries as entries_module
from strongroom.response import incident as incident_module
from strongroom.response.entries import FACTS, SERVES, Fact, Function, Happened, IncidentEntry, Phase
from strongroom.response.grading import Certainty, Severity, grade
from strongroom.response.incident import (
    WINDOW,
    BrokenRecordError,
    RecordError,
    add_alert,
    belongs,
    file_under,
    fold,
    incident_id,
)
from strongroom.response.subjects import EVERYTHING, Subject, subject_of_alert
from support.responses import MACHINE, NOW, Record, alert

D = str(Digest.of(b"x"))
DRILL = Digest.of(b"drill")
ACTION: Mapping[str, Fact] = {"action": "freeze-releases", "subject": "model:atlas", "key": "k1"}
DANA = "person:dana"
H = Happened


def record(*steps: Step) -> Record:
    made = Record.of(alert())
    for happened, facts, by in steps:
        made.add(happened, facts, by)
    return made


Step = tuple[Happened, Mapping[str, Fact], str]
READY: tuple[Step, ...] = (
    (H.ROLE_TAKEN, {"role": "commander"}, DANA),
    (H.EVIDENCE_FROZEN, {"evidence": D, "entries": 40}, MACHINE),
    (H.ACTION_PROPOSED, ACTION, MACHINE),
    (H.ACTION_TRIED, {**ACTION, "falls": 1}, MACHINE),
    (H.ACTION_DONE, {**ACTION, "micros": 80}, MACHINE),
    (H.ACTION_VERIFIED, {**ACTION, "answer": "refused", "micros": 99}, MACHINE),
    (H.PHASE_CHANGED, {"phase": "contained"}, DANA),
    (H.NOTE_ADDED, {"note": D}, DANA),
    (H.PHASE_CHANGED, {"phase": "analysed"}, DANA),
    (H.PHASE_CHANGED, {"phase": "reviewed"}, DANA),
)


def test_a_whole_record_folds_to_its_incident() -> None:
    incident = record(*READY, (H.CLOSED, {"lessons": D}, DANA)).incident
    assert incident.phase is Phase.CLOSED
    assert not incident.is_open
    assert incident.size == len(READY) + 2
    (doing,) = incident.doings.values()
    assert (doing.falls, doing.done, doing.verified) == (1, NOW, NOW)
    assert str(incident.lessons) == D


def test_nothing_follows_a_closed_record() -> None:
    made = record(*READY, (H.CLOSED, {"lessons": D}, DANA))
    with pytest.raises(RecordError, match="closed"):
        made.add(H.NOTE_ADDED, {"note": D})


@pytest.mark.parametrize("left_out", [0, 1, 5, 9])
def test_an_unfinished_incident_is_not_closed(left_out: int) -> None:
    made = record(*(one for i, one in enumerate(READY) if i != left_out))
    with pytest.raises(RecordError, match="can't be closed"):
        made.add(H.CLOSED, {"lessons": D}, DANA)


def test_a_running_clock_keeps_an_incident_open() -> None:
    made = record(*READY, (H.CLOCK_STARTED, {"clock": "eu-cop-initial"}, DANA))
    with pytest.raises(RecordError, match="clock"):
        made.add(H.CLOSED, {"lessons": D}, DANA)
    made.add(H.REPORT_DRAFTED, {"clock": "eu-cop-initial", "report": D})
    incident = made.add(H.REPORT_SENT, {"clock": "eu-cop-initial", "report": D}, DANA)
    assert incident.clocks == {}
    assert made.add(H.CLOSED, {"lessons": D}, DANA).phase is Phase.CLOSED


def test_reports_that_are_owed_again_start_their_clock_again() -> None:
    made = record((H.CLOCK_STARTED, {"clock": "eu-cop-update"}, DANA))
    with pytest.raises(RecordError):
        made.add(H.CLOCK_STARTED, {"clock": "eu-cop-update"}, DANA, NOW + 99)
    made.add(H.REPORT_SENT, {"clock": "eu-cop-update", "report": D}, DANA)
    incident = made.add(H.CLOCK_STARTED, {"clock": "eu-cop-update"}, DANA, NOW + 99)
    assert incident.clocks == {"eu-cop-update": NOW + 99}
    assert len(incident.sent) == 1


def test_only_legal_stops_a_clock_that_asks_for_nothing() -> None:
    made = record((H.CLOCK_STARTED, {"clock": "ny-raise-report"}, MACHINE))
    stop = {"clock": "ny-raise-report", "cause": "not-applicable"}
    for by in (MACHINE, DANA):
        with pytest.raises(RecordError):
            made.add(H.CLOCK_STOPPED, stop, by)
    made.add(H.ROLE_TAKEN, {"role": "legal"}, "person:eli")
    with pytest.raises(RecordError):
        made.add(H.CLOCK_STOPPED, stop, DANA)
    assert made.add(H.CLOCK_STOPPED, stop, "person:eli").stopped == {"ny-raise-report": NOW}
    # Where they find that it is owed after all, it goes on, and isn't set back by having been stopped.
    incident = made.add(H.CLOCK_STARTED, {"clock": "ny-raise-report"}, MACHINE, NOW + 99)
    assert incident.clocks == {"ny-raise-report": NOW}


WRONG: dict[str, Step] = {
    "a second opening": (
        H.OPENED,
        {
            "rule": "r",
            "certainty": "sure",
            "event": D,
            "model": "",
            "micros": 0,
            "subject": "model:atlas",
            "severity": "low",
            "drill": "",
        },
        MACHINE,
    ),
    "done before proposed": (H.ACTION_DONE, {**ACTION, "micros": 1}, MACHINE),
    "verified before done": (H.ACTION_VERIFIED, {**ACTION, "answer": "refused", "micros": 1}, MACHINE),
    "undone before done": (H.ACTION_UNDONE, {**ACTION, "undone": "k2", "people": 2}, DANA),
    "a step over phases": (H.PHASE_CHANGED, {"phase": "reviewed"}, DANA),
    "closed by phase": (H.PHASE_CHANGED, {"phase": "closed"}, DANA),
    "a machine lowers": (H.SEVERITY_CHANGED, {"severity": "low", "cause": "benign"}, MACHINE),
    "a machine's role": (H.ROLE_TAKEN, {"role": "legal"}, MACHINE),
    "a machine sends": (H.REPORT_SENT, {"clock": "eu-cop-initial", "report": D}, MACHINE),
    "a stand-in in a real incident": (H.ACTION_PROPOSED, {**ACTION, "subject": "model:shadow-atlas"}, MACHINE),
    "stops no clock": (H.CLOCK_STOPPED, {"clock": "eu-cop-initial", "cause": "x"}, DANA),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_makes_no_sense_is_refused(wrong: Step) -> None:
    made = record()
    with pytest.raises(RecordError):
        made.add(*wrong)


def test_an_action_is_what_it_was_proposed_as_once() -> None:
    made = record(*READY[2:5])
    steps: tuple[tuple[Happened, Mapping[str, Fact]], ...] = (
        (H.ACTION_PROPOSED, ACTION),
        (H.ACTION_DONE, {**ACTION, "micros": 1}),
        (H.ACTION_VERIFIED, {**ACTION, "subject": "model:other", "answer": "refused", "micros": 1}),
        (H.ACTION_UNDONE, {**ACTION, "undone": "k2", "people": 1}),
    )
    for happened, facts in steps:
        with pytest.raises(RecordError):
            made.add(happened, facts)
    assert made.add(H.ACTION_UNDONE, {**ACTION, "undone": "k2", "people": 2}, DANA).outstanding == ()


def test_a_person_lowers_and_a_machine_raises() -> None:
    made = record()
    assert made.add(H.SEVERITY_CHANGED, {"severity": "low", "cause": "benign"}, DANA).severity is Severity.LOW
    assert made.add(H.SEVERITY_CHANGED, {"severity": "high", "cause": "more"}).severity is Severity.HIGH


def test_a_record_with_a_hole_or_a_change_is_broken() -> None:
    entries = record(*READY).entries
    assert fold(entries).size == len(entries)
    for i in range(len(entries) - 1):
        with pytest.raises((BrokenRecordError, RecordError)):
            fold([*entries[:i], *entries[i + 1 :]])
    changed = replace(entries[0], at=entries[0].at + 1)
    for spoilt in ([changed, *entries[1:]], entries[1:], [], [entries[0], entries[2], entries[1]]):
        with pytest.raises(BrokenRecordError):
            fold(spoilt)


def test_alerts_of_one_cause_make_one_incident() -> None:
    made = Record.of(alert())
    for hour in range(3):
        more = alert(at=NOW + hour * 3600, rule="egress-unexplained")
        found = file_under(more, [made.incident])
        assert found is not None
        made.entries.append(add_alert(found, more, by=MACHINE, at=more.at))
    incident = made.incident
    assert (incident.alerts, incident.rules) == (4, ("decoy-shard-opened", "egress-unexplained"))
    # Later than the window after the last one, or about something else: another incident.
    last = NOW + 2 * 3600
    assert belongs(incident, alert(at=last + WINDOW))
    assert not belongs(incident, alert(at=last + WINDOW + 1))
    assert file_under(alert("host:w1"), [incident]) is None
    with pytest.raises(RecordError):
        add_alert(incident, alert("host:w1"), by=MACHINE, at=NOW)


def test_a_drill_and_the_real_thing_never_join() -> None:
    drill = Record.of(alert("model:shadow-atlas", drill=DRILL)).incident
    assert drill.shadow
    # The same names with no token, and a real subject with one: neither is the drill's.
    assert file_under(alert("model:shadow-atlas"), [drill]) is None
    assert file_under(alert("model:atlas", drill=DRILL), [drill]) is None
    real = Record.of(alert()).incident
    assert file_under(alert(drill=DRILL), [real]) is None
    for wrong in (alert("model:atlas", drill=DRILL), alert("model:shadow-atlas")):
        with pytest.raises(RecordError):
            _ = Record.of(wrong).incident
    with pytest.raises(RecordError, match="no clock"):
        Record.of(alert("model:shadow-atlas", drill=DRILL)).add(H.CLOCK_STARTED, {"clock": "eu-cop-initial"})


def test_the_same_alert_makes_the_same_incident() -> None:
    assert incident_id(alert()) == incident_id(alert())
    others = {incident_id(one) for one in (alert(), alert(at=NOW + 1), alert("model:b"), alert(drill=DRILL))}
    assert len(others) == 4


def test_every_kind_of_entry_serves_a_category_of_csf() -> None:
    assert set(SERVES) == set(FACTS) == set(Happened)
    assert {phase.function for phase in Phase} | set(SERVES.values()) == set(Function)


@pytest.mark.parametrize(
    "change",
    [
        {"incident": "inc-1"},
        {"by": "dana"},
        {"by": "person:Dana"},
        {"facts": {}},
        {"facts": {"note": D, "text": "more"}},
        {"facts": {"note": "hello"}},
        {"facts": {"note": 7}},
        {"seq": -1},
    ],
)
def test_other_forms_are_neither_written_nor_read(change: dict[str, object]) -> None:
    entry = record().incident.next(H.NOTE_ADDED, DANA, NOW, {"note": D})
    assert IncidentEntry.parse(entry.to_bytes()).facts == {"note": D}
    with pytest.raises(MalformedError):
        replace(entry, **change).to_bytes()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("certainty", "exposed", "bound", "level", "severity"),
    [
        (Certainty.HINT, 0, 0, 0, Severity.LOW),
        (Certainty.HINT, 0, 100, 5, Severity.LOW),
        (Certainty.HINT, 24, 100, 1, Severity.LOW),
        (Certainty.HINT, 25, 100, 1, Severity.MEDIUM),
        (Certainty.HINT, 50, 100, 1, Severity.HIGH),
        (Certainty.HINT, 100, 100, 1, Severity.CRITICAL),
        (Certainty.LIKELY, 0, 100, 2, Severity.MEDIUM),
        (Certainty.LIKELY, 0, 100, 3, Severity.HIGH),
        (Certainty.SURE, 0, 0, 0, Severity.HIGH),
        (Certainty.SURE, 0, 100, 3, Severity.CRITICAL),
    ],
)
def test_severity_is_graded(certainty: Certainty, exposed: int, bound: int, level: int, severity: Severity) -> None:
    assert grade(certainty, exposed_bits=exposed, theft_bits=bound, level=level) is severity


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("model:atlas-7b", "model:atlas-7b"),
        ("requester:Dana", "person:dana"),
        ("principal:svc", "service:svc"),
        ("person:dana,model:m", "person:dana"),
        ("", str(EVERYTHING)),
        ("site:x", str(EVERYTHING)),
        ("model:../../etc", str(EVERYTHING)),
        ("model:" + "x" * 500, str(EVERYTHING)),
        # Nobody hides behind a drill's names.
        ("model:shadow-atlas", str(EVERYTHING)),
        ("deployment:shadow-all", str(EVERYTHING)),
    ],
)
def test_no_alert_is_lost_for_its_words(text: str, subject: str) -> None:
    assert str(subject_of_alert(text)) == subject


@pytest.mark.parametrize("text", ["atlas", "model:", "model:A", "site:x", "deployment:some", "model:a b", "model:-a"])
def test_other_subjects_are_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        Subject.parse(text)


def test_a_record_that_is_read_in_parts_says_the_same_and_what_was_read_before_stays() -> None:
    made = record(*READY, (H.CLOSED, {"lessons": D}, DANA))
    for parts in range(1, len(made.entries)):
        first = fold(made.entries[:parts])
        again = fold(made.entries[:parts])
        assert fold(made.entries[parts:], before=first) == made.incident
        assert first == again


def test_an_entry_that_is_refused_in_the_middle_leaves_nothing_of_those_before_it() -> None:
    before, again = record(*READY).incident, record(*READY).incident
    noted = before.next(H.NOTE_ADDED, DANA, NOW, {"note": D})
    after = before.apply(noted)
    with pytest.raises(RecordError):
        fold([noted, after.next(H.OPENED, DANA, NOW, record().entries[0].facts)], before=before)
    with pytest.raises(BrokenRecordError):
        fold([noted, noted], before=before)
    assert before == again != after
    for name in [one.name for one in fields(before)]:
        value = getattr(before, name)
        assert not isinstance(value, dict | list | set) or getattr(after, name) is not value


def test_an_entry_that_was_read_is_written_as_it_was_read_and_a_changed_one_is_not() -> None:
    entry = record(*READY).entries[3]
    read = IncidentEntry.parse(entry.to_bytes())
    assert read == entry
    assert (read.to_bytes(), read.digest) == (entry.to_bytes(), entry.digest)
    assert replace(read, seq=9).to_bytes() == replace(entry, seq=9).to_bytes() != entry.to_bytes()


def test_a_record_that_was_read_is_folded_without_writing_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incident_module, "MAX_ENTRIES", 300)
    entries = [IncidentEntry.parse(record().entries[0].to_bytes())]
    for number in range(1, 300):
        facts = {"action": "notify", "subject": "model:atlas", "key": f"k{number}"}
        after = replace(entries[0], seq=number, previous=entries[-1].digest, happened=H.ACTION_PROPOSED, facts=facts)
        entries.append(IncidentEntry.parse(after.to_bytes()))
    with monkeypatch.context() as patch:
        patch.setattr(entries_module, "encode", lambda _value: pytest.fail("an entry was written again"))
        incident = fold(entries)
    assert (incident.size, len(incident.doings)) == (300, 299)
    with pytest.raises(RecordError, match="close it"):
        incident.apply(incident.next(H.NOTE_ADDED, DANA, NOW, {"note": D}))
