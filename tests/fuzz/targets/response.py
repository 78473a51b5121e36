"""Targets of response: playbooks, runs and records from a disk, drill tokens, budgets, and answers about exposure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.console import incident_facts
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, sign
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.release.incident_statements import IncidentStanding
from strongroom.release.precautions import MOST_SECONDS, Cause, Precaution, PrecautionKind
from strongroom.responder.drilling import Drills
from strongroom.responder.reading import DeskReader
from strongroom.responder.response_settings import ResponseSettings
from strongroom.response.actions import ActionName
from strongroom.response.acts import Act, ActKind
from strongroom.response.cacao import read_playbook
from strongroom.response.clocks import running
from strongroom.response.conditions import read_condition
from strongroom.response.drills import DRILL_TYPE, DrillToken
from strongroom.response.entries import Happened, IncidentEntry
from strongroom.response.executor import begin, due, tick, withheld
from strongroom.response.exposure import read_exposure
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import Alert, fold, open_incident
from strongroom.response.limits import Budget, Signal, judge
from strongroom.response.run import Run, Terms
from strongroom.response.subjects import Subject, subject_of_alert
from strongroom.response.wiring import playbook_called, shipped_playbooks

NOW: Final = 1_795_000_000
MASTER: Final = Ed25519Signer.from_seed(bytes(32))
TERMS: Final = Terms(certainty=Certainty.SURE, eligible=frozenset({"dana", "eli"}), quorum=2)


class FixedClock:
    """A clock that stands."""

    def __init__(self, at: Instant) -> None:
        self._at = at

    def now(self) -> Instant:
        """Return the time."""
        return self._at


def playbook(data: bytes) -> None:
    """Read a playbook and begin a run of it."""
    book = read_playbook(data)
    variables = dict.fromkeys(book.external, "model:atlas")
    due(begin({book.id: book}, book.id, incident="inc-1", variables=variables, terms=TERMS, now=NOW))


def condition(data: bytes) -> None:
    """Read a condition and look whether it holds."""
    read_condition(data.decode("latin-1")).holds({"a": "1"})


def run(data: bytes) -> None:
    """Read a run from a disk that somebody changed, and carry it on."""
    read = Run.parse(data)
    tick(read, shipped_playbooks(), NOW + 10**8)
    due(read)
    withheld(read)


def record(data: bytes) -> None:
    """Read a record, an entry a line, and fold it."""
    incident = fold(IncidentEntry.parse(line) for line in data.split(b"\n"))
    running(incident)


def drill(data: bytes) -> None:
    """Read a drill token's payload."""
    DrillToken.parse(data)


def budget(data: bytes) -> None:
    """Read a budget and judge a signal by it."""
    one = Signal(source="w1", certainty=Certainty.SURE, subject=Subject.parse("model:atlas"))
    judge(Budget.parse(data), one, tuple(ActionName), NOW)


def exposure(data: bytes) -> None:
    """Read an answer about exposure."""
    read = read_exposure(parse(data), theft_bits=1000)
    read.lines()


def subject(data: bytes) -> None:
    """File an alert under whatever it says that it is about, and write a real subject back."""
    text = data.decode("latin-1")
    assert not subject_of_alert(text).shadow
    assert str(Subject.parse(text)) == text


def act(data: bytes) -> None:
    """Read what a person does in an incident."""
    read = Act.parse(data)
    assert Act.parse(read.to_bytes()) == read


def standing(data: bytes) -> None:
    """Read what a responder says of an incident's record."""
    read = IncidentStanding.parse(data)
    assert IncidentStanding.parse(read.to_bytes()) == read


def precaution(data: bytes) -> None:
    """Read what a responder asks to be taken away."""
    read = Precaution.parse(data)
    assert Precaution.parse(read.to_bytes()) == read


def settings(data: bytes) -> None:
    """Read whom a responder tells."""
    with reading(parse(data), "response") as fields:
        ResponseSettings.read(fields)


def hold(data: bytes) -> None:
    """Ask for a drill."""
    drills = Drills(
        Digest.of(b"genesis"),
        lambda: (MASTER.public_key,),
        frozenset,
        lambda _digest, _token: None,
        lambda _event: None,
        FixedClock(NOW),
    )
    drills.hold(Envelope.parse(data))


def desk(data: bytes) -> None:
    """Read what a responder's desk says, as a page and the command line do."""
    told = parse(data)
    answers = told if isinstance(told, dict) else {}

    def ask(operation: str, /, **_members: Json) -> Fields:
        return Fields(answers.get(operation), operation)

    reader = DeskReader(ask)
    shown = reader.read(f"inc-{'0' * 32}" if (name := answers.get("name")) is None else str(name))
    incident_facts.told(shown, shipped_playbooks(), person="dana", here=lambda _subject: True, now=NOW)
    for one in shown.entries:
        incident_facts.entry(one)
    for row in reader.incidents()[0]:
        row.to_json()


def _playbooks() -> Iterable[bytes]:
    folder = files("strongroom.response") / "playbooks"
    for name in ("insider.json", "sensor-silent.json"):
        yield encode(parse((folder / name).read_bytes()))


def _conditions() -> Iterable[bytes]:
    yield b"__a__:value = 'x' AND __b__:value >= 3"
    yield b"__a__:value != 'x' OR __a__:value < 7"


def _runs(incident: str = "inc-1") -> Iterable[bytes]:
    for name in ("key-compromise", "weight-exfiltration-suspected"):
        book = playbook_called(name)
        variables = {"model": "model:atlas"}
        begun = begin(shipped_playbooks(), book.id, incident=incident, variables=variables, terms=TERMS, now=NOW)
        yield begun.to_bytes()
        yield tick(begun, shipped_playbooks(), NOW + 10**6).to_bytes()


def _records() -> Iterable[bytes]:
    event = Digest.of(b"event")
    told = Alert(rule="r", certainty=Certainty.SURE, subject=Subject.parse("model:a"), at=NOW, event=event)
    entries = [open_incident(told, Severity.HIGH, by="machine:m", at=NOW)]
    yield entries[0].to_bytes()
    action = {"action": "freeze-releases", "subject": "model:a", "key": "k"}
    for happened, facts in (
        (Happened.ROLE_TAKEN, {"role": "legal"}),
        (Happened.CLOCK_STARTED, {"clock": "eu-cop-initial"}),
        (Happened.ACTION_PROPOSED, action),
        (Happened.ACTION_DONE, {**action, "micros": 3}),
    ):
        entries.append(fold(entries).next(happened, "person:dana", NOW, facts))  # type: ignore[arg-type]
    yield b"\n".join(entry.to_bytes() for entry in entries)


def _drills() -> Iterable[bytes]:
    yield DrillToken(
        genesis=Digest.of(b"genesis"),
        playbook="insider",
        event="host:file:opened",
        subjects=(Subject.parse("model:shadow-a"),),
        not_before=NOW,
        expires=NOW + 60,
        nonce=bytes(16),
    ).to_bytes()


def _budgets() -> Iterable[bytes]:
    one = Signal(source="w1", certainty=Certainty.SURE, subject=Subject.parse("model:atlas"))
    yield judge(Budget(), one, tuple(ActionName), NOW)[1].to_bytes()


def _exposures() -> Iterable[bytes]:
    holding: dict[str, Json] = {
        "way": "released",
        "version": 1,
        "person": "dana",
        "approvers": ["eli"],
        "platform": "tpm-x",
        "image": None,
        "isolation": ["process"],
        "weights": None,
        "request": "sha256:0",
        "use": 1,
        "recipient": "sha256:1",
        "since": "2026-11-26T10:00:00Z",
        "proved": "2026-11-26T10:00:00Z",
        "ended": None,
        "reason": None,
        "until": None,
        "deliveries": 1,
        "bits": 7,
        "entries": [1, 2],
        "more_entries": 0,
    }
    let_out: Json = {"ever": 7, "within": 7, "entry": 3}
    totals: Json = {"holdings": 1, "for_ever": 1, "people": 1, "hosts": 1, "freezes": 0, "versions": 1}
    yield encode(
        {
            "model": "atlas",
            "totals": totals,
            "holdings": [holding],
            "list": str(Digest.of(b"")),
            "freezes": [],
            "let_out": let_out,
            "registered": {"1": 0},
            "entries": 9,
            "unknowable": ["copies"],
        }
    )


def _acts() -> Iterable[bytes]:
    for kind, facts, found in (
        (ActKind.TAKE, {"role": "legal"}, {}),
        (ActKind.RESOLVE, {"key": "0" * 32, "asked": str(Digest.of(b"Is it?")), "outcome": "done"}, {"exposed": "no"}),
        (ActKind.SENT, {"clock": "eu-cop-initial", "words": "# Report\n"}, {}),
    ):
        yield Act(
            genesis=Digest.of(b"genesis"),
            incident=f"inc-{'0' * 32}",
            person=PersonId("dana"),
            at=NOW,
            kind=kind,
            nonce=bytes(16),
            facts=facts,
            found=found,
        ).to_bytes()


def _standings() -> Iterable[bytes]:
    yield IncidentStanding(
        genesis=Digest.of(b"genesis"),
        incident=f"inc-{'0' * 32}",
        entry=Digest.of(b"entry"),
        entries=3,
        phase="contained",
        drill=False,
        at=NOW,
    ).to_bytes()


def _precautions() -> Iterable[bytes]:
    for kind in PrecautionKind:
        most = MOST_SECONDS[kind]
        yield Precaution(
            genesis=Digest.of(b"genesis"),
            kind=kind,
            subject=None if most is None else "atlas",
            cause=Cause.INCIDENT,
            incident=f"inc-{'0' * 32}",
            at=NOW,
            until=None if most is None else NOW + most,
        ).to_bytes()


def _settings() -> Iterable[bytes]:
    receiver: Json = {"name": "team", "form": "webhook", "url": "https://hooks.example/x", "secret": "/s"}
    platforms: Json = {"w1": ["tpm-" + "0" * 64]}
    yield encode({"v": 1, "receivers": [receiver], "platforms": platforms, "users": [1000]})


def _signed_drills() -> Iterable[bytes]:
    for payload in _drills():
        yield sign(DRILL_TYPE, payload, MASTER).to_bytes()


def _desks() -> Iterable[bytes]:
    (_first, record) = _records()
    lines = record.split(b"\n")
    opened = IncidentEntry.parse(lines[0])
    row: Json = {
        "incident": opened.incident,
        "subject": "model:a",
        "severity": "high",
        "phase": "detected",
        "certainty": "sure",
        "opened": NOW,
        "rule": "r",
        "alerts": 1,
        "drill": None,
        "entries": len(lines),
        "running": True,
    }
    shown: Json = {
        "entries": [to_base64(line) for line in lines],
        "runs": {f"run-{number}": to_base64(one) for number, one in enumerate(_runs(opened.incident))},
        "further": [],
        "drill": None,
        "held": True,
    }
    listed: Json = {"incidents": [row], "broken": {opened.incident: "tampered"}}
    yield encode({"name": opened.incident, "incident": shown, "incidents": listed})


def _subjects() -> Iterable[bytes]:
    yield b"model:atlas-7b"
    yield b"deployment:all"


RESPONSE: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "response-playbook": Target(read=playbook, seeds=_playbooks, changes=200),
        "response-act": Target(read=act, seeds=_acts),
        "response-precaution": Target(read=precaution, seeds=_precautions),
        "response-standing": Target(read=standing, seeds=_standings),
        "response-settings": Target(read=settings, seeds=_settings),
        "response-desk": Target(read=desk, seeds=_desks, changes=200),
        "response-drill-held": Target(read=hold, seeds=_signed_drills),
        "response-condition": Target(read=condition, seeds=_conditions),
        "response-run": Target(read=run, seeds=_runs, changes=200),
        "response-record": Target(read=record, seeds=_records),
        "response-drill": Target(read=drill, seeds=_drills),
        "response-budget": Target(read=budget, seeds=_budgets),
        "response-exposure": Target(read=exposure, seeds=_exposures),
        "response-subject": Target(read=subject, seeds=_subjects),
    }
)
