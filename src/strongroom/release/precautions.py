"""What a responder may ask of the keeper beside a freeze: precautions, which take something away and never give.

approver   each request of a person needs one approver more than its rule asks for; ends by itself
sampling   every answer of a model is replayed whole; ends by itself, or is lifted by people
hold       nothing of a model, or of all, is destroyed, nobody erased, no log pruned; lifted by people alone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import incident_name, model_id, person_id

PRECAUTION_TYPE: Final = payload_type("precaution.v1")
LEAST_SECONDS: Final = 60
"""How long one that ends must last when it is taken."""
TAKEN_SECONDS: Final = 3600
"""How long after it was signed a precaution may be taken: one that was kept back isn't taken after it was lifted."""
DAY: Final = 86_400
APPROVER_SECONDS: Final = 7 * DAY
"""The longest that one approver more is asked for."""
_MAX: Final = 4096


class PrecautionKind(StrEnum):
    """What is asked for."""

    APPROVER = "approver"
    SAMPLING = "sampling"
    HOLD = "hold"


class Cause(StrEnum):
    """Why. A closed list: the log holds no free text."""

    INCIDENT = "incident"
    """An open incident, which is named."""
    STATISTICS = "statistics"
    """Something happened more often than it used to."""
    INQUIRY = "inquiry"
    """People look into something that is no incident yet."""
    LEGAL = "legal"
    """A court, an authority or a lawyer asked for it."""


MOST_SECONDS: Final[Mapping[PrecautionKind, int | None]] = {
    PrecautionKind.APPROVER: APPROVER_SECONDS,
    PrecautionKind.SAMPLING: 30 * DAY,
    PrecautionKind.HOLD: None,
}
"""How long each may last; None for one that has no end."""
LIFTED: Final = frozenset({PrecautionKind.SAMPLING, PrecautionKind.HOLD})
"""What people may lift. One approver more is over within a week: lifting it would need the approvers it asks for."""
_SUBJECTS: Final[Mapping[PrecautionKind, Callable[[str], str]]] = {
    PrecautionKind.APPROVER: person_id,
    PrecautionKind.SAMPLING: model_id,
    PrecautionKind.HOLD: model_id,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precaution:
    """A precaution as its responder signs it."""

    genesis: Digest
    kind: PrecautionKind
    subject: str | None
    """A person for ``approver``, else a model; None for a hold on the whole deployment."""
    cause: Cause
    incident: str | None
    at: Instant
    """When it was signed."""
    until: Instant | None
    """When it ends by itself; None for a hold."""

    @classmethod
    def parse(cls, payload: bytes) -> Precaution:
        """Read canonical bytes.

        :raises MalformedError: another form, or members that don't fit the kind.
        """
        with Fields(decode(payload, max_bytes=_MAX), "precaution") as fields:
            fields.constant("v", 1)
            precaution = cls(
                genesis=fields.digest("genesis"),
                kind=fields.parsed("kind", PrecautionKind),
                subject=fields.text("subject", max_length=64) if fields.optional("subject") else None,
                cause=fields.parsed("cause", Cause),
                incident=fields.parsed("incident", incident_name) if fields.optional("incident") else None,
                at=fields.instant("at"),
                until=fields.instant("until") if fields.optional("until") else None,
            )
        precaution._check()
        return precaution

    def _check(self) -> None:
        check_form(self.kind, self.subject, self.at, self.until)
        if self.cause is Cause.INCIDENT and self.incident is None:
            raise MalformedError("a precaution for an incident names it")

    def to_bytes(self) -> bytes:
        """Return the canonical bytes.

        :raises MalformedError: the members don't fit together, as in :meth:`parse`.
        """
        self._check()
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "kind": self.kind.value,
                "subject": self.subject,
                "cause": self.cause.value,
                "incident": self.incident,
                "at": format_instant(self.at),
                "until": None if self.until is None else format_instant(self.until),
            }
        )


def check_form(kind: PrecautionKind, subject: str | None, begins: Instant, until: Instant | None) -> None:
    """Check that a kind has a subject and an end that fit it, counted from ``begins``.

    :raises MalformedError: they don't.
    """
    if subject is not None:
        _SUBJECTS[kind](subject)
    elif kind is not PrecautionKind.HOLD:
        raise MalformedError(f"a precaution of kind `{kind.value}` names a subject")
    most = MOST_SECONDS[kind]
    if (until is None) is not (most is None):
        raise MalformedError(f"a precaution of kind `{kind.value}` has {'no end' if most is None else 'an end'}")
    if until is not None and most is not None and not begins < until <= begins + most:
        raise MalformedError(f"a precaution of kind `{kind.value}` lasts at most {most // DAY} days")
