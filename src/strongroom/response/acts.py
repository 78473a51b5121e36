"""What people do in an incident: each act is signed by a key of theirs, for this incident, once.

A name in a record or in a run is worth nothing: whoever reaches the responder's door could write one. So everything
that a person says comes as an envelope over canonical bytes. It names the deployment and the incident, has a nonce and
a time, and is taken once, within ten minutes: what was signed for one incident is no agreement in another, or tomorrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope, payload_type, verify
from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, model_id, person_id
from strongroom.core.signature import PublicKey
from strongroom.response.actions import ActionName
from strongroom.response.clocks import DUTIES
from strongroom.response.entries import Phase, Role
from strongroom.response.grading import Severity
from strongroom.response.run import MAX_VALUE, MAX_VARIABLES, Outcome, Pending
from strongroom.response.subjects import Subject

ACT_TYPE: Final = payload_type("incident-act.v1")
MAX_ACT: Final = 512 * 1024
MAX_WORDS: Final = 256 * 1024
"""Bytes of a note, a report or what was learned, in UTF-8."""
FRESH_SECONDS: Final = 600
NONCE_BYTES: Final = 16
ACT_KNOWN: Final = "act-known"
"""Why an act is refused that was taken before."""


class ActRefusedError(DeniedError):
    """An act that can't be taken: another deployment's, too old, taken before, or by somebody who may not."""

    code = "incident-act-refused"


class ActKind(StrEnum):
    """Everything that a person can do in an incident."""

    AGREE = "agree"
    """To a command that waits for people."""
    RESOLVE = "resolve-step"
    """Answer what the playbook asks a person."""
    TAKE = "take"
    MOVE = "move"
    GRADE = "grade"
    NOTE = "note"
    EXPOSE = "expose"
    """Enter what the log's answer about exposure came to."""
    START = "start-clock"
    STOP = "stop-clock"
    DRAFT = "draft"
    SENT = "sent"
    CLOSE = "close"


class _Form(StrEnum):
    KEY = "key"
    CODE = "code"
    DIGEST = "digest"
    NUMBER = "number"
    WORDS = "words"
    CLOCK = "clock"
    ROLE = "role"
    PHASE = "phase"
    SEVERITY = "severity"
    OUTCOME = "outcome"
    ACTION = "action"
    SUBJECT = "subject"
    MODEL = "model"


_F: Final = _Form
FACTS: Final[Mapping[ActKind, Mapping[str, _Form]]] = MappingProxyType(
    {
        ActKind.AGREE: {"key": _F.KEY, "action": _F.ACTION, "subject": _F.SUBJECT},
        ActKind.RESOLVE: {"key": _F.KEY, "asked": _F.DIGEST, "outcome": _F.OUTCOME},
        ActKind.TAKE: {"role": _F.ROLE},
        ActKind.MOVE: {"phase": _F.PHASE},
        ActKind.GRADE: {"severity": _F.SEVERITY, "cause": _F.CODE},
        ActKind.NOTE: {"words": _F.WORDS},
        ActKind.EXPOSE: {
            "model": _F.MODEL,
            "exposure": _F.DIGEST,
            "bits": _F.NUMBER,
            "bound": _F.NUMBER,
            "people": _F.NUMBER,
            "hosts": _F.NUMBER,
            "holders": _F.NUMBER,
        },
        ActKind.START: {"clock": _F.CLOCK},
        ActKind.STOP: {"clock": _F.CLOCK, "cause": _F.CODE},
        ActKind.DRAFT: {"clock": _F.CLOCK, "words": _F.WORDS},
        ActKind.SENT: {"clock": _F.CLOCK, "words": _F.WORDS},
        ActKind.CLOSE: {"words": _F.WORDS},
    }
)
"""The facts of each kind of act."""


def _clock(text: str) -> str:
    if text not in DUTIES:
        raise MalformedError("no such clock is known")
    return text


def _outcome(text: str) -> str:
    if text not in {Outcome.DONE.value, Outcome.FAILED.value}:
        raise MalformedError("a step is resolved as `done` or `failed`")
    return text


_READ: Final[Mapping[_Form, tuple[int, Callable[[str], object]]]] = MappingProxyType(
    {
        _F.KEY: (64, str),
        _F.CODE: (96, str),
        _F.DIGEST: (80, Digest.parse),
        _F.CLOCK: (64, _clock),
        _F.ROLE: (32, Role),
        _F.PHASE: (32, Phase),
        _F.SEVERITY: (32, Severity),
        _F.OUTCOME: (32, _outcome),
        _F.ACTION: (64, ActionName),
        _F.SUBJECT: (160, Subject.parse),
        _F.MODEL: (64, model_id),
    }
)


@dataclass(frozen=True, kw_only=True)
class Act:
    """One thing that one person does in one incident."""

    genesis: Digest
    incident: str
    person: PersonId
    at: Instant
    kind: ActKind
    nonce: bytes
    facts: Mapping[str, str | int]
    found: Mapping[str, str] = field(default_factory=dict)
    """What an answer to a step sets: variables of the playbook."""

    @classmethod
    def parse(cls, data: bytes) -> Act:
        """Read canonical bytes.

        :raises MalformedError: another form, kind or facts.
        """
        with Fields(decode(data, max_bytes=MAX_ACT), "act") as fields:
            fields.constant("v", 1)
            kind = fields.parsed("kind", ActKind)
            with fields.child("facts") as facts:
                read = {name: _fact(facts, name, form) for name, form in FACTS[kind].items()}
            with fields.child("found") as found:
                names = found.names(most=MAX_VARIABLES)
                values = {name: found.text(name, max_length=MAX_VALUE) for name in names}
            act = cls(
                genesis=fields.digest("genesis"),
                incident=fields.text("incident", max_length=64),
                person=fields.parsed("person", person_id),
                at=fields.instant("at"),
                kind=kind,
                nonce=fields.binary("nonce", max_length=NONCE_BYTES),
                facts=MappingProxyType(read),
                found=MappingProxyType(values),
            )
        if len(act.nonce) != NONCE_BYTES or (act.found and act.kind is not ActKind.RESOLVE):
            raise MalformedError(f"an act has a nonce of {NONCE_BYTES} bytes, and only an answer sets anything")
        return act

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what is signed."""
        forms = FACTS[self.kind]
        facts: dict[str, Json] = {
            name: to_base64(str(value).encode()) if forms[name] is _Form.WORDS else value
            for name, value in self.facts.items()
        }
        found: dict[str, Json] = dict(self.found)
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "incident": self.incident,
                "person": self.person,
                "at": format_instant(self.at),
                "kind": self.kind.value,
                "nonce": to_base64(self.nonce),
                "facts": facts,
                "found": found,
            }
        )

    def text(self, name: str) -> str:
        """Return a fact that is text."""
        return str(self.facts[name])


def said_of(pending: Pending) -> dict[str, str | int]:
    """Return what an act says of what it agrees to or answers: the person's signature is over what they saw.

    With its key alone, whoever shows a person something harmless could hand in their word for something else.
    """
    if pending.action is None:
        return {"key": pending.key, "asked": str(Digest.of(pending.text.encode()))}
    return {"key": pending.key, "action": pending.action.value, "subject": str(pending.subject)}


def open_act(
    envelope: Envelope, keys: Callable[[PersonId], tuple[PublicKey, ...]], *, genesis: Digest, now: Instant
) -> Act:
    """Return an act that the person whom it names signed, for this deployment, just now.

    :param keys: the keys of a person as the roster in force lists them; none for somebody who may not act.
    :raises MalformedError: it isn't an act. :raises SignatureError: the person didn't sign it.
    :raises ActRefusedError: another deployment's, or too old or too new; the person may not act in incidents.
    """
    act = Act.parse(envelope.payload)
    if act.genesis != genesis:
        raise ActRefusedError("the act is for another deployment", reason="act-elsewhere")
    listed = keys(act.person)
    if not listed:
        raise ActRefusedError(f"`{act.person}` may not act in incidents", reason="act-not-theirs")
    verify(envelope, ACT_TYPE, listed, threshold=1)
    if abs(now - act.at) > FRESH_SECONDS:
        raise ActRefusedError(
            "the act was signed too long ago, or its time is still to come",
            reason="act-stale",
            remedy="sign it again; see that the clocks agree",
        )
    return act


def _fact(fields: Fields, name: str, form: _Form) -> str | int:
    if form is _Form.NUMBER:
        return fields.integer(name, most=MAX_INTEGER)
    if form is _Form.WORDS:
        # In base64: what people write has lines, and the bytes that are signed are the bytes that are kept.
        try:
            return fields.binary(name, max_length=MAX_WORDS).decode()
        except UnicodeDecodeError:
            raise MalformedError(f"`{fields.where}.{name}` isn't UTF-8") from None
    most, read = _READ[form]
    text = fields.text(name, max_length=most)
    try:
        read(text)
    except (MalformedError, ValueError):
        raise MalformedError(f"`{fields.where}.{name}` isn't a {form.value}") from None
    return text
