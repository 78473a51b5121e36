"""What the log says of precautions: which stand, since when, and until when.

Part of :class:`strongroom.release.ledger.Ledger`, which folds the entries in. Of one kind and subject one stands at
most: taken again it only lasts longer, and keeps the name by which it is lifted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.access.policy import MAX_MODELS
from strongroom.audit.entries import Entry
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, incident_name, person_id
from strongroom.personnel.roster import MAX_PEOPLE
from strongroom.release.errors import LedgerError
from strongroom.release.lease import Sampling
from strongroom.release.precautions import LIFTED, PrecautionKind, check_form

MAX_PRECAUTIONS: Final = MAX_PEOPLE + 2 * MAX_MODELS + 1
"""That stand at a time: one about everybody of the largest roster, two about every model of the largest policy, and a
hold on everything. No more are taken: were there more than readers take, nobody would learn who is suspended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A precaution in force. ``name`` is the digest of the statement that took it first."""

    name: Digest
    kind: PrecautionKind
    subject: str | None
    """None for the whole deployment."""
    cause: str
    incident: str | None
    person: PersonId
    """The responder who took it."""
    taken: Instant
    until: Instant | None

    @classmethod
    def read(cls, fields: Fields) -> Standing:
        """Read the JSON form."""
        return cls(
            name=fields.digest("precaution"),
            kind=fields.parsed("kind", PrecautionKind),
            subject=fields.text("subject", max_length=64) if fields.optional("subject") else None,
            cause=fields.text("cause", max_length=64),
            incident=fields.parsed("incident", incident_name) if fields.optional("incident") else None,
            person=fields.parsed("person", person_id),
            taken=fields.instant("taken"),
            until=fields.instant("until") if fields.optional("until") else None,
        )

    def stands(self, now: Instant) -> bool:
        """Tell whether it isn't over."""
        return self.until is None or now < self.until

    def covers(self, until: Instant | None) -> bool:
        """Tell whether it lasts as long as another of its kind and subject that ends then."""
        return self.until is None or until is None or until <= self.until

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "precaution": str(self.name),
            "kind": self.kind.value,
            "subject": self.subject,
            "cause": self.cause,
            "incident": self.incident,
            "person": self.person,
            "taken": format_instant(self.taken),
            "until": None if self.until is None else format_instant(self.until),
        }


@dataclass(slots=True)
class PrecautionLedger:
    """The precautions that were taken and not lifted. Only the ledger changes it."""

    known: dict[tuple[PrecautionKind, str | None], Standing] = field(default_factory=dict)
    lifted: dict[tuple[PrecautionKind, str | None], Instant] = field(default_factory=dict)
    """When people lifted one of a kind and subject last."""

    def approver(self, person: PersonId, now: Instant) -> Standing | None:
        """Return what asks for one approver more of a person's requests, if anything does."""
        return self.of(PrecautionKind.APPROVER, person, now)

    def sampling(self, model: ModelId, now: Instant) -> Sampling:
        """Return how many of a model's answers are replayed now, as its deliveries and leases say."""
        return Sampling.POLICY if self.of(PrecautionKind.SAMPLING, model, now) is None else Sampling.WHOLE

    def hold(self, model: ModelId) -> Standing | None:
        """Return what keeps a model from being destroyed, if anything does: its own hold, or the deployment's."""
        return self.known.get((PrecautionKind.HOLD, model)) or self.known.get((PrecautionKind.HOLD, None))

    def any_hold(self) -> Standing | None:
        """Return the hold that was taken first, if any stands: the log holds evidence about every model."""
        return next((one for one in self.known.values() if one.kind is PrecautionKind.HOLD), None)

    def hold_at(self, model: ModelId, made: Instant) -> Standing | None:
        """Return a hold that keeps a model's copies and had begun when something was said, if any does."""
        found = (self.known.get((PrecautionKind.HOLD, subject)) for subject in (model, None))
        return next((one for one in found if one is not None and one.taken <= made), None)

    def of(self, kind: PrecautionKind, subject: str | None, now: Instant) -> Standing | None:
        """Return the precaution of a kind that stands about a subject, if one does."""
        found = self.known.get((kind, subject))
        return found if found is not None and found.stands(now) else None

    def standing(self, now: Instant) -> tuple[Standing, ...]:
        """Return every precaution that stands, the first taken first."""
        return tuple(one for one in self.known.values() if one.stands(now))

    def named(self, name: Digest, now: Instant) -> Standing | None:
        """Return the precaution of a name, if it stands."""
        return next((one for one in self.standing(now) if one.name == name), None)

    def take(self, index: int, entry: Entry) -> None:
        """Fold in a precaution that was taken.

        :raises LedgerError: of no known kind, with a subject or end that don't fit it, or nothing new.
        """
        until = None if entry.facts["until"] is None else parse_instant(entry.text("until"))
        subject = None if entry.facts["subject"] is None else entry.text("subject")
        try:
            kind = PrecautionKind(entry.text("kind"))
            check_form(kind, subject, entry.at, until)
        except (ValueError, MalformedError):
            raise LedgerError(f"entry {index} takes a precaution of an unknown form") from None
        before = self.of(kind, subject, entry.at)
        if before is not None and before.covers(until):
            raise LedgerError(f"entry {index} takes a precaution that stands already")
        if before is not None:
            self.known[kind, subject] = replace(before, until=until)
            return
        # Anew: whatever stood under this key is over, and its place in the order with it.
        self.known.pop((kind, subject), None)
        self.known[kind, subject] = Standing(
            name=entry.digest("statement"),
            kind=kind,
            subject=subject,
            cause=entry.text("cause"),
            incident=None if entry.facts["incident"] is None else entry.text("incident"),
            person=PersonId(entry.text("person")),
            taken=entry.at,
            until=until,
        )

    def lift(self, index: int, entry: Entry) -> None:
        """Fold in that people lifted a precaution.

        :raises LedgerError: none of this name stands, or it isn't one that people lift.
        """
        found = self.named(entry.digest("precaution"), entry.at)
        if found is None or found.kind not in LIFTED:
            raise LedgerError(f"entry {index} lifts a precaution that doesn't stand, or that nobody lifts")
        del self.known[found.kind, found.subject]
        self.lifted[found.kind, found.subject] = entry.at
