"""What the log says of destructions, and of where copies of keys may still be: backups, and custodians' shares.

Nothing here is decided by. It is what a destruction certificate is drawn from, by the keeper and by whoever checks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from strongroom.access.request import Action
from strongroom.audit.entries import Entry
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId

_ACTS: Final = frozenset({EventName.EPOCH_ROTATED, EventName.EPOCH_DESTROYED, EventName.ROOT_ROTATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """The grant of a destruction: who agreed, and when everybody could see it."""

    request: Digest
    approvers: tuple[PersonId, ...]
    index: int
    at: Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """An act on an epoch or a generation of the root key: where it stands, and what follows it."""

    index: int
    at: Instant
    after: int
    """The epoch or generation that follows; 0 for a destruction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A custodian's share of one generation of the root key."""

    custodian: PersonId
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something that an entry names by digest."""

    digest: Digest
    index: int
    at: Instant


@dataclass(slots=True)
class DestructionLedger:
    """State folded from entries. Only :meth:`apply` changes it."""

    agreed: dict[Digest, Agreed] = field(default_factory=dict)
    """Request -> its grant."""
    acts: dict[tuple[EventName, int], Act] = field(default_factory=dict)
    """What was done to an epoch, or to a generation of the root key, by its number: each is left and destroyed once."""
    backups: list[Noted] = field(default_factory=list)
    moves: list[tuple[int, int]] = field(default_factory=list)
    """Generation of the root key that was moved to other key services, and the index of the entry that says so."""
    shares: dict[Share, Noted] = field(default_factory=dict)
    """Every share that custodians were given, and the escrow that gave it."""
    answers: dict[Share, Noted] = field(default_factory=dict)
    """Shares that their custodians say are destroyed, and the statement."""
    certificates: dict[ModelId, list[Noted]] = field(default_factory=dict)

    def apply(self, index: int, entry: Entry) -> None:
        """Fold in an entry, of whatever kind."""
        handler = _HANDLERS.get(entry.event)
        if handler is not None:
            handler(self, index, entry)

    def emptied(self, epochs: Iterable[int]) -> int | None:
        """Return the index at which the last of some epochs was destroyed; None while one of them wasn't."""
        found = [self.acts.get((EventName.EPOCH_DESTROYED, epoch)) for epoch in epochs]
        return max((act.index for act in found if act is not None), default=None) if all(found) else None

    def root_after(self, index: int) -> tuple[int, Act] | None:
        """Return the first rotation of the root key behind an entry: the generation that it left, and where it stands.

        Only a generation that was left after an epoch's key was gone opens nothing of that epoch: what was rotated
        before wrapped the epoch's key once more.
        """
        acts = [
            (number, act)
            for (event, number), act in self.acts.items()
            if event is EventName.ROOT_ROTATED and act.index > index
        ]
        return min(acts, key=lambda found: found[1].index, default=None)


def _grant(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    if entry.text("action") == Action.DESTROY.value:
        request = entry.digest("request")
        approvers = tuple(PersonId(name) for name in entry.texts("approvers"))
        ledger.agreed[request] = Agreed(request=request, approvers=approvers, index=index, at=entry.at)


def _act(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    number = entry.integer("generation" if entry.event is EventName.ROOT_ROTATED else "epoch")
    if entry.event is EventName.EPOCH_DESTROYED:
        ledger.acts[entry.event, number] = Act(index=index, at=entry.at, after=0)
    else:
        ledger.acts[entry.event, entry.integer("previous")] = Act(index=index, at=entry.at, after=number)


def _backup(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    ledger.backups.append(Noted(digest=entry.digest("backup"), index=index, at=entry.at))


def _moved(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    ledger.moves.append((entry.integer("generation"), index))


def _escrow(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    noted = Noted(digest=entry.digest("escrow"), index=index, at=entry.at)
    for name in entry.texts("custodians"):
        ledger.shares[Share(custodian=PersonId(name), generation=entry.integer("generation"))] = noted


def _answer(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    share = Share(custodian=PersonId(entry.text("custodian")), generation=entry.integer("generation"))
    ledger.answers[share] = Noted(digest=entry.digest("statement"), index=index, at=entry.at)


def _certified(ledger: DestructionLedger, index: int, entry: Entry) -> None:
    noted = Noted(digest=entry.digest("certificate"), index=index, at=entry.at)
    ledger.certificates.setdefault(ModelId(entry.text("model")), []).append(noted)


_HANDLERS: Final[Mapping[EventName, Callable[[DestructionLedger, int, Entry], None]]] = MappingProxyType(
    {
        EventName.GRANT_ISSUED: _grant,
        EventName.BACKUP_MADE: _backup,
        EventName.ROOT_MOVED: _moved,
        EventName.ESCROW_ADOPTED: _escrow,
        EventName.ESCROW_ANSWERED: _answer,
        EventName.DESTRUCTION_CERTIFIED: _certified,
        **dict.fromkeys(_ACTS, _act),
    }
)
