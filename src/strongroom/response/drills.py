"""Drills: a signed synthetic event through the real pipeline, against stand-ins, with the times measured.

A drill token says which playbook is practised, on which stand-ins, and until when; a drill master's key signs it. It
is no permission to look away: only the event that the responder makes of such a token is a drill's, and it names
nothing but the token's stand-ins. Whatever comes in otherwise is real, whatever it carries. Stand-ins are called
``shadow-…``, which nothing real may be called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import SHADOW
from strongroom.core.signature import PublicKey, SignatureError
from strongroom.response.action_list import CONTAINMENT, in_order, is_late
from strongroom.response.actions import ActionName, Command
from strongroom.response.cacao import Manual, Playbook
from strongroom.response.entries import Happened, IncidentEntry
from strongroom.response.subjects import Subject, SubjectKind

DRILL_TYPE: Final = payload_type("drill-token.v1")
MAX_DRILL: Final = 86400
"""Seconds that a token may live: a day."""
NONCE_BYTES: Final = 16
MAX_SUBJECTS: Final = 8
LIFE: Final = 3600
"""Seconds that a token lives that is made here."""
EARLY: Final = 60
"""Seconds that it is good before it was made: the responder's clock may be behind."""
PACE: Final = 10
"""Minutes between the cards of a drill at a table, where nobody says another number."""
MOST_PACE: Final = 240
"""The most minutes between them."""


class DrillRefusedError(DeniedError):
    """A drill token isn't one that may be used now."""

    code = "response-drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillToken:
    """What is practised, on which stand-ins, and when."""

    genesis: Digest
    """The deployment that it is for."""
    playbook: str
    event: str
    """The name of the synthetic event."""
    subjects: tuple[Subject, ...]
    not_before: Instant
    expires: Instant
    nonce: bytes

    @classmethod
    def parse(cls, data: bytes) -> DrillToken:
        """Read canonical bytes.

        :raises MalformedError: another form, a subject that is real, or a life of more than a day.
        """
        with Fields(decode(data, max_bytes=8192), "drill") as fields:
            fields.constant("v", 1)
            token = cls(
                genesis=fields.digest("genesis"),
                playbook=fields.text("playbook", max_length=96),
                event=fields.text("event", max_length=96),
                subjects=tuple(Subject.parse(one) for one in fields.texts("subjects", most=MAX_SUBJECTS)),
                not_before=fields.instant("not_before"),
                expires=fields.instant("expires"),
                nonce=fields.binary("nonce", max_length=NONCE_BYTES),
            )
        if not token.subjects or not all(one.shadow for one in token.subjects):
            raise MalformedError("a drill names stand-ins, `shadow-` and a name, and nothing else")
        if not 0 < token.expires - token.not_before <= MAX_DRILL or len(token.nonce) != NONCE_BYTES:
            raise MalformedError(f"a drill lives at most {MAX_DRILL} seconds and has a nonce of {NONCE_BYTES} bytes")
        return token

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what is signed."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "playbook": self.playbook,
                "event": self.event,
                "subjects": [str(one) for one in self.subjects],
                "not_before": format_instant(self.not_before),
                "expires": format_instant(self.expires),
                "nonce": to_base64(self.nonce),
            }
        )


def drill_of(playbook: str, *, genesis: Digest, now: Instant, nonce: bytes) -> DrillToken:
    """Return the token of a drill of one of :data:`PRACTISED`, on a stand-in of each kind, to be signed."""
    return DrillToken(
        genesis=genesis,
        playbook=playbook,
        event=PRACTISED[playbook],
        subjects=_STAND_INS,
        not_before=now - EARLY,
        expires=now - EARLY + LIFE,
        nonce=nonce,
    )


def open_drill(
    envelope: Envelope, masters: Sequence[PublicKey], *, genesis: Digest, now: Instant, used: frozenset[Digest]
) -> DrillToken:
    """Return a token that a drill master signed, for this deployment, now and for the first time.

    :param used: digests of tokens that were used before.
    :raises SignatureError: no drill master signed it.
    :raises MalformedError: it isn't a drill token.
    :raises DrillRefusedError: another deployment's, not yet or no longer valid, or used before.
    """
    try:
        verify(envelope, DRILL_TYPE, masters, threshold=1)
    except SignatureError:
        raise SignatureError(
            "nobody who may hold drills signed it",
            remedy="whoever may act in incidents may: active, not suspended, in a role that does",
        ) from None
    token = DrillToken.parse(envelope.payload)
    if token.genesis != genesis:
        raise DrillRefusedError("the drill is another deployment's", reason="drill-elsewhere")
    if not token.not_before <= now < token.expires:
        raise DrillRefusedError("the drill isn't to be held now", reason="drill-expired")
    if envelope.digest in used:
        raise DrillRefusedError("the drill was held already", reason="drill-used")
    return token


PRACTISED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "attestation-downgrade": "detector:algorithm:refused",
        "insider": "detector:conflict:declared",
        "key-compromise": "identity:credential:used",
        "lost-approver-key": "access:authenticator:regressed",
        "sensor-silent": "detector:sensor:silent",
        "stray-copy-found": "scanner:copy:found",
        "supply-chain-artifact": "host:file:changed",
        "weight-exfiltration-suspected": "host:file:opened",
    }
)
"""Playbook -> the event that a drill of it begins with: one for which a shipped rule names that playbook."""
_STAND_INS: Final = tuple(
    Subject(kind, f"{SHADOW}{kind.value}") for kind in (SubjectKind.MODEL, SubjectKind.PERSON, SubjectKind.HOST)
)


def synthetic_event(token: DrillToken, digest: Digest) -> Mapping[str, str | bool]:
    """Return the event that goes through the real pipeline: what the rules look for, about the stand-ins."""
    fields: dict[str, str | bool] = {"event": token.event, "source": "drill", "drill": str(digest)}
    # What makes the event one that a rule is about: a decoy was opened or used, a copy is in no register.
    fields |= {"decoy": True, "registered": False}
    for subject in token.subjects:
        fields[subject.kind.value] = subject.name
    return fields


def keep_apart(command: Command, token: DrillToken | None) -> None:
    """Check, at the port and right before it acts, that a drill's command is for its stand-ins and no other one is.

    :raises DrillRefusedError: a drill's command names something real or another drill's, or a real one a stand-in.
    """
    mixed = command.subject.shadow if token is None else command.subject not in token.subjects
    if mixed:
        raise DrillRefusedError("what is real and what is practised don't act on each other", reason="drill-mixed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a drill came to. Microseconds are the processes' own; seconds come from the record's times. None: never."""

    detect_micros: int | None
    """From the event to the alert."""
    acknowledge_seconds: int | None
    """From the opening until the first person took a role."""
    contain_micros: int | None
    """From the event until the last of the planned actions that stop bytes was verified."""
    missed: tuple[ActionName, ...]
    """Planned actions that weren't verified."""
    late: tuple[ActionName, ...]
    """Planned actions that were verified after their deadlines."""

    def to_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {
            "detect_micros": self.detect_micros,
            "acknowledge_seconds": self.acknowledge_seconds,
            "contain_micros": self.contain_micros,
            "missed": [name.value for name in self.missed],
            "late": [name.value for name in self.late],
        }


def measure(entries: Sequence[IncidentEntry], planned: Iterable[ActionName]) -> Measured:
    """Return a drill's times and what was missed, from its record.

    :param planned: the actions that the playbook should have come to.
    """
    verified = {entry.text("action"): entry.integer("micros") for entry in _of(entries, Happened.ACTION_VERIFIED)}
    names = tuple(dict.fromkeys(planned))
    stops = [name for name in names if name in CONTAINMENT]
    contained = bool(stops) and all(name.value in verified for name in stops)
    opened = next(_of(entries, Happened.OPENED), None)
    roles = [entry.at for entry in _of(entries, Happened.ROLE_TAKEN)]
    return Measured(
        detect_micros=None if opened is None else opened.integer("micros"),
        acknowledge_seconds=None if opened is None or not roles else max(0, min(roles) - opened.at),
        contain_micros=max(verified[name.value] for name in stops) if contained else None,
        missed=tuple(name for name in names if name.value not in verified),
        late=tuple(name for name in names if is_late(name, verified.get(name.value, 0))),
    )


def telling(entries: Sequence[IncidentEntry]) -> tuple[IncidentEntry, ...]:
    """Return the few entries of a record that :func:`measure` reads, in their order: one for each action, and two more.

    Of them it measures the same as of the whole record, however long that is.
    """
    opened = next(_of(entries, Happened.OPENED), None)
    role = min(_of(entries, Happened.ROLE_TAKEN), key=lambda entry: entry.at, default=None)
    verified = {entry.text("action"): entry for entry in _of(entries, Happened.ACTION_VERIFIED)}
    found = (one for one in (opened, role, *verified.values()) if one is not None)
    return tuple(sorted(found, key=lambda entry: entry.seq))


def _of(entries: Sequence[IncidentEntry], happened: Happened) -> Iterator[IncidentEntry]:
    return (entry for entry in entries if entry.happened is happened)


def planned_at_once(playbook: Playbook) -> tuple[ActionName, ...]:
    """Return the actions of a playbook that its every run comes to: those before its first question to a person.

    Of branches only the first action of each is looked at.
    """
    names: list[ActionName] = []
    step = playbook.steps[playbook.start]
    while step.ways and not isinstance(step.command, Manual):
        for name in (step.id, *step.branches):
            command = playbook.steps[name].command
            if command is not None and not isinstance(command, Manual):
                names.append(command.action)
        following = step.on_completion or step.on_success
        step = playbook.steps[following]
    return in_order(tuple(dict.fromkeys(names)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """One card of a tabletop drill: read out ``minute`` minutes after its start."""

    minute: int
    text: str
    asks: str
    """The step of the playbook that people should come to."""


def tabletop(playbook: Playbook, *, pace: int) -> tuple[Inject, ...]:
    """Return a playbook's questions to people as cards, one every ``pace`` minutes, in the order of its steps."""
    asked = [step for step in playbook.in_order if isinstance(step.command, Manual)]
    return tuple(
        Inject(minute=pace * i, text=step.command.text, asks=step.name)
        for i, step in enumerate(asked)
        if isinstance(step.command, Manual)
    )
