"""What the log says of deliveries: where each stands, by whom, and who reviewed it.

Part of :class:`strongroom.release.ledger.Ledger`, which folds the entries in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.core.clock import parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.ids import ModelId, PersonId
from strongroom.intake.reviews import Decision
from strongroom.intake.states import FINAL, ORDER, Position, State

INCONSISTENT: Final = "ledger-inconsistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDelivery:
    """One delivery, as far as it has come."""

    position: Position
    operator: PersonId
    accepted: tuple[tuple[PersonId, Digest], ...] = ()
    """Who accepted it, and in which statement."""
    denied: PersonId | None = None
    """Who denied it."""
    versions: int = 0
    """How many versions its model had at the newest record: what was reviewed can't be one of these."""


@dataclass(slots=True)
class IntakeLedger:
    """Folded from the log, entry by entry."""

    deliveries: dict[str, RecordedDelivery] = field(default_factory=dict)

    def record(self, index: int, entry: Entry, *, versions: int) -> None:
        """Fold in a record; ``versions`` are registered of its model so far.

        :raises TamperedError: a delivery that begins twice, or a state that doesn't follow.
        """
        name, state = entry.text("delivery"), _state(index, entry)
        artifact = entry.facts["artifact"]
        position = Position(
            delivery=name,
            model=ModelId(entry.text("model")),
            state=state,
            at=parse_instant(entry.text("made")),
            artifact=None if artifact is None else entry.digest("artifact"),
            record=entry.digest("record"),
        )
        before, operator = self.deliveries.get(name), PersonId(entry.text("person"))
        if (before is None) != (state is State.RECEIVED) or (before is not None and not _follows(before, position)):
            raise TamperedError(f"entry {index} moves a delivery to where it can't go", reason=INCONSISTENT)
        if before is None:
            self.deliveries[name] = RecordedDelivery(position=position, operator=operator, versions=versions)
        else:
            self.deliveries[name] = replace(before, position=position, versions=versions)

    def review(self, index: int, entry: Entry) -> None:
        """Fold in a review.

        :raises TamperedError: there is no such delivery that waits for one, or its operator reviews it.
        """
        name, reviewer = entry.text("delivery"), PersonId(entry.text("reviewer"))
        found = self.deliveries.get(name)
        if found is None or found.position.record != entry.digest("record") or found.operator == reviewer:
            raise TamperedError(f"entry {index} reviews a delivery that doesn't wait for it", reason=INCONSISTENT)
        if entry.text("outcome") == Decision.DENY.value:
            self.deliveries[name] = replace(found, denied=reviewer)
        else:
            accepted = (*found.accepted, (reviewer, entry.digest("statement")))
            self.deliveries[name] = replace(found, accepted=accepted)


def _state(index: int, entry: Entry) -> State:
    try:
        return State(entry.text("state"))
    except ValueError:
        raise TamperedError(f"entry {index} names a state that a delivery can't have", reason=INCONSISTENT) from None


def _follows(before: RecordedDelivery, position: Position) -> bool:
    here, there = before.position.state, position.state
    if here in FINAL or position.model != before.position.model:
        return False
    return there is State.QUARANTINED or ORDER.index(there) == ORDER.index(here) + 1
