"""An open incident's exposure is read from the log by the responder: at once, and again while it lasts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.errors import LogError
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, model_id, person_id
from strongroom.responder import exposing as exposing_module
from strongroom.responder.adapters import log_exposure
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.log_exposure import LogExposures
from strongroom.responder.cases import Case
from strongroom.responder.exposing import AGAIN_SECONDS, NO_MODEL, TOO_MANY, Exposing, LogAnswer, is_news, models_of
from strongroom.response.acts import ActKind
from strongroom.response.entries import Fact, Happened
from strongroom.response.grading import Severity
from strongroom.response.incident import MAX_EXPOSED, RecordError, add_alert
from strongroom.response.subjects import Subject, SubjectKind, subject_of_alert
from support.log_views import MODELS, REQUESTS, MemoryView, log_of
from support.logs import KEEPER
from support.respondings import QuietPort, Room, TestClock, responding_room
from support.responses import MACHINE, NOW, Record, alert

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
OPENED = {"event": "host:file:opened", "decoy": True, "model": "atlas", "path": "/weights/old", "uid": 7}


class Log:
    """A log that says what tests have it say."""

    def __init__(self) -> None:
        self.bits, self.entries, self.asked, self.down = 0, 10, list[ModelId](), False
        self.lacks = set[str]()

    async def read(self, model: ModelId) -> LogAnswer:
        self.asked.append(model)
        self.entries += 1
        if self.down:
            raise UnavailableError("nobody answers")
        if model in self.lacks:
            raise NotFoundError(f"there is no model `{model}`")
        told: dict[str, Json] = {
            "model": model,
            "totals": dict.fromkeys(("holdings", "for_ever", "people", "hosts", "freezes", "versions"), 0),
            "holdings": [],
            "list": str(Digest.of(b"")),
            "freezes": [],
            "let_out": {"ever": self.bits, "within": self.bits, "entry": None},
            "registered": {},
            "entries": self.entries,
            "unknowable": [],
        }
        return LogAnswer(told=told, theft_bits=1000)


@dataclass
class Models:
    """A deployment of some models."""

    bounds: dict[str, int]

    def theft_bound(self, model: ModelId) -> int | None:
        return self.bounds.get(model)


def read_of(case: Case) -> list[tuple[str, object]]:
    return [(one.by, one.facts["bits"]) for one in case.entries if one.happened is Happened.EXPOSURE_READ]


async def opened(room: Room) -> Case:
    room.take(OPENED, "guard")
    await room.until(lambda: bool(room.cases()))
    (case,) = room.responding.cases.values()
    return case


def test_exposure_is_entered_when_it_says_something_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposing_module, "LOOK_SECONDS", 0.01)

    async def told() -> None:
        log, now, failed = Log(), [0.0], list[StrongroomError]()
        async with responding_room(tmp_path, clock=TestClock(), acting=("guard",), real=QuietPort()) as room:
            case = await opened(room)
            exposing = Exposing(
                room.responding.cases,
                log,
                level=lambda _incident: 1,
                ticks=lambda: now[0],
                failed=lambda _what, error: failed.append(error),
            )
            task = asyncio.create_task(exposing.serve())
            await room.until(lambda: read_of(case) == [("machine:warden", 0)])
            for bits, wanted in ((0, [0]), (600, [0, 600]), (600, [0, 600])):
                log.bits, asked = bits, len(log.asked)
                now[0] += AGAIN_SECONDS
                await room.until(lambda before=asked: len(log.asked) > before)  # type: ignore[misc]
                await asyncio.sleep(0.05)
                assert [one for _by, one in read_of(case)] == wanted
            # What a person read elsewhere isn't pushed aside by what was known before.
            answer = str(Digest.of(b"elsewhere"))
            counts: dict[str, str | int] = {"model": "atlas", "bits": 700, "bound": 2000, "people": 1, "hosts": 0}
            await room.act(ActKind.EXPOSE, case.id, by="dana", exposure=answer, holders=1, **counts)
            asked = len(log.asked)
            now[0] += AGAIN_SECONDS
            await room.until(lambda: len(log.asked) > asked)
            await asyncio.sleep(0.05)
            assert [one for _by, one in read_of(case)] == [0, 600, 700]
            log.down = True
            now[0] += AGAIN_SECONDS
            await room.until(lambda: bool(failed))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # Half of what a thief needs raises the severity, and the answer is kept with the incident.
            assert case.incident.severity.rank >= Severity.HIGH.rank
            answers = [one.facts["exposure"] for one in case.entries if one.happened is Happened.EXPOSURE_READ]
            digest = Digest.parse(str(answers[1]))
            kept = CaseFiles(tmp_path).kept(case.id, f"exposure-{digest.value.hex()}.json")
            assert kept is not None
            assert Digest.of(kept) == digest

    asyncio.run(told())


def test_what_is_done_about_another_model_hides_nothing_of_the_first() -> None:
    record = Record.of(alert("model:atlas"))
    other: dict[str, Fact] = {"action": "freeze-releases", "subject": "model:orion", "key": "k1"}
    assert models_of(record.add(Happened.ACTION_PROPOSED, other)) == ("atlas",)
    # Nor does what another alert about it names.
    named = replace(alert("model:atlas", at=NOW + 1), model="orion")
    assert models_of(record.incident.apply(add_alert(record.incident, named, by=MACHINE, at=NOW + 1))) == ("atlas",)
    person = Record.of(alert("person:rina"))
    assert models_of(person.add(Happened.ACTION_PROPOSED, other)) == ("orion",)


def test_each_model_of_an_incident_about_a_person_is_read_and_what_is_left_out_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposing_module, "LOOK_SECONDS", 0.01)
    names = [f"m{number}" for number in range(exposing_module.MAX_MODELS + 3)]

    async def told() -> None:
        log, now, failed = Log(), [0.0], list[StrongroomError]()
        log.lacks = {"m1"}
        async with responding_room(tmp_path, clock=TestClock(), acting=("guard",), real=QuietPort()) as room:
            for name in names[:5]:
                opened = {"event": "release:data-key:released", "requester": "rina", "model": name}
                room.take(opened, "log")
            await room.until(lambda: bool(room.cases()))
            (case,) = room.responding.cases.values()
            assert case.incident.subject == Subject.parse("person:rina")
            # The fifth is what the alert's event names, before anything is done.
            assert case.incident.models == ("m4",)
            for name in names:
                proposed: dict[str, Fact] = {"action": "freeze-releases", "subject": f"model:{name}", "key": name}
                await case.note(Happened.ACTION_PROPOSED, proposed)
            exposing = Exposing(
                room.responding.cases,
                log,
                level=lambda _incident: 1,
                ticks=lambda: now[0],
                failed=lambda _what, error: failed.append(error),
            )
            task = asyncio.create_task(exposing.serve())
            for _ in range(2):
                wanted = len(log.asked) + exposing_module.MAX_MODELS + 1
                now[0] += AGAIN_SECONDS
                await room.until(lambda most=wanted: len(log.asked) >= most)  # type: ignore[misc]
                await asyncio.sleep(0.05)
            # Each that can be read is one entry, also where another one can't; looked at again, none is made anew. What
            # no model is called takes none of their places.
            read = [one.facts["model"] for one in case.entries if one.happened is Happened.EXPOSURE_READ]
            assert read == ["m4", *(name for name in names[:-2] if name not in {"m1", "m4"})]
            left = [one.facts for one in case.entries if one.happened is Happened.EXPOSURE_UNREAD]
            assert [(one["model"], one["cause"]) for one in left] == [
                ("m1", NO_MODEL),
                *((name, TOO_MANY) for name in names[-2:]),
            ]
            assert {*log.asked} == {*names[:-2]}
            # Of one alone something new is entered, and the worst of all raises the severity.
            log.lacks, log.bits = {*names} - {"m3"}, 1000
            now[0] += AGAIN_SECONDS
            await room.until(lambda: case.incident.exposures["m3"].bits == 1000)
            await room.until(lambda: case.incident.severity is Severity.CRITICAL)
            assert case.incident.exposures["m4"].bits == 0
            # What people enter of one that was left out stands in its place.
            counts = {"bits": 5, "bound": 0, "people": 1, "hosts": 0, "holders": 1}
            await room.act(
                ActKind.EXPOSE, case.id, by="dana", model=names[-1], exposure=str(Digest.of(b"by hand")), **counts
            )
            await asyncio.sleep(0.05)
            assert {*case.incident.unread} == {"m1", names[-2]}
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(told())


def test_an_incident_about_a_person_is_about_each_model_that_its_alerts_name() -> None:
    record = Record.of(replace(alert("person:rina"), model="vela"))
    for number, name in enumerate(("orion", "", "vela", "atlas")):
        more = replace(alert("person:rina", at=NOW + number), model=name)
        record.entries.append(add_alert(record.incident, more, by=MACHINE, at=NOW + number))
    assert models_of(record.incident) == ("vela", "orion", "atlas")
    done: dict[str, Fact] = {"action": "freeze-releases", "subject": "model:lyra", "key": "k1"}
    assert models_of(record.add(Happened.ACTION_PROPOSED, done)) == ("vela", "orion", "atlas", "lyra")


def test_what_people_enter_leaves_room_for_what_the_responder_reads() -> None:
    record = Record.of(alert("person:rina"))

    def enter(model: str, by: str) -> int:
        facts: dict[str, Fact] = {"model": model, "exposure": str(Digest.of(model.encode())), "bits": 0, "bound": 0}
        return len(record.add(Happened.EXPOSURE_READ, facts | {"people": 0, "hosts": 0, "holders": 0}, by).exposures)

    for number in range(MAX_EXPOSED):
        enter(f"made-up-{number}", "person:dana")
    with pytest.raises(RecordError):
        enter("one-more", "person:dana")
    # One that is there may be entered anew.
    assert enter("made-up-0", "person:dana") == MAX_EXPOSED
    assert enter("atlas", "machine:warden") == MAX_EXPOSED + 1


def test_a_drill_s_exposure_and_nobody_s_is_never_asked_about(tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill("key-compromise"))
            assert models_of(case.incident) == ()
            room.take({**OPENED, "model": "nobody knows"}, "guard")
            await room.until(lambda: len(room.cases()) == 2)
            (other,) = [one for one in room.cases() if not one.shadow]
            assert models_of(other) == ()

    asyncio.run(told())


@pytest.mark.parametrize("name", ["a" * 65, "a..b", "a" * 128])
def test_a_name_that_no_model_can_have_ends_nothing(name: str, tmp_path: Path) -> None:
    async def told() -> None:
        async with responding_room(tmp_path, clock=TestClock(), acting=("guard",), real=QuietPort()) as room:
            room.take({**OPENED, "model": name}, "guard")
            await room.until(lambda: bool(room.cases()))
            named = [one.subject for one in room.cases()[0].doings.values()] + [room.cases()[0].subject]
            assert all(one.name == model_id(one.name) for one in named if one.kind is SubjectKind.MODEL)
            assert {*models_of(room.cases()[0])} <= {"atlas"}

    asyncio.run(told())


@given(text=st.text(max_size=140) | st.from_regex(r"(model|person|requester):[a-z0-9._-]{1,130}", fullmatch=True))
def test_what_an_alert_is_about_is_called_as_everywhere(text: str) -> None:
    subject = subject_of_alert(text)
    assert Subject.parse(str(subject)) == subject
    if subject.kind is SubjectKind.MODEL:
        assert model_id(subject.name) == subject.name
    if subject.kind is SubjectKind.PERSON:
        assert person_id(subject.name) == subject.name


def test_what_a_served_model_lets_out_by_the_minute_fills_no_record() -> None:
    entered = list[dict[str, Fact]]()
    for bits in range(0, 1_000_001, 10):
        facts: dict[str, Fact] = {"bits": bits, "bound": 1_000_000, "people": 1, "hosts": 1, "holders": 1}
        if not entered or is_news(entered[-1], facts):
            entered.append(facts)
    # A thousand at most, and among them what the severity turns on, at once.
    assert len(entered) == 1001
    assert {0, 250_000, 500_000, 1_000_000} <= {one["bits"] for one in entered}
    assert is_news(entered[-1], {**entered[-1], "people": 2})
    assert is_news({**entered[-1], "bound": 0}, {**entered[-1], "bound": 0, "bits": 1_000_001})


def test_the_log_is_read_once_and_then_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_exposure, "PAUSE_SECONDS", 0.0)

    async def told() -> None:
        log = log_of([(EventName.RELEASED, 1, {"request": REQUESTS[0], "use": 1, "model": MODELS[0]})] * 3)
        view = MemoryView(log, keeper_key=KEEPER.public_key)
        exposures = LogExposures(view, Models({MODELS[0]: 1000, MODELS[1]: 0}))
        first = await exposures.read(ModelId(MODELS[0]))
        assert (first.told["entries"], first.theft_bits) == (4, 1000)
        view.shown[1] = b"edited"
        # What was read isn't read again; for another model it is, and then it is judged.
        assert (await exposures.read(ModelId(MODELS[0]))).told == first.told
        for _ in range(2):
            with pytest.raises(LogError):
                await exposures.read(ModelId(MODELS[1]))

    asyncio.run(told())


def test_a_name_that_somebody_made_up_has_no_log_read() -> None:
    async def told() -> None:
        view = MemoryView(log_of([]), keeper_key=KEEPER.public_key)
        exposures = LogExposures(view, Models({}))
        for number in range(100):
            with pytest.raises(NotFoundError):
                await exposures.read(ModelId(f"made-up-{number}"))
        assert view.reads == 0

    asyncio.run(told())


def test_a_reading_that_was_ended_halfway_says_nothing_wrong_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_exposure, "PAUSE_SECONDS", 3600.0)

    async def told() -> None:
        log = log_of([(EventName.RELEASED, 1, {"request": REQUESTS[0], "use": 1, "model": MODELS[0]})] * 3)
        exposures = LogExposures(MemoryView(log, keeper_key=KEEPER.public_key), Models({MODELS[0]: 1000}))
        task = asyncio.create_task(exposures.read(ModelId(MODELS[0])))
        await asyncio.sleep(0.2)
        # It waits between two steps: whoever ends the process waits for one of them at most.
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        monkeypatch.setattr(log_exposure, "PAUSE_SECONDS", 0.0)
        answer = await exposures.read(ModelId(MODELS[0]))
        holdings = answer.told["holdings"]
        assert isinstance(holdings, list)
        assert len(holdings) == 3

    asyncio.run(told())
