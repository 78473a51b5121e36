"""What the log says of workspaces: inputs, drops and what became of them, and who reads drops with which key.

Part of :class:`strongroom.release.ledger.Ledger`, which folds the entries in.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.core.ids import ModelId, PersonId
from strongroom.egress.workspace import Drop

INCONSISTENT: Final = "ledger-inconsistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedInput:
    """What was handed into one workspace."""

    index: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargedDrop:
    """One drop: charged once, however often it was asked for."""

    index: int
    at: Instant
    request: Digest
    digest: Digest
    model: ModelId
    person: PersonId
    size: int
    """Bytes."""
    bits: int
    reviewer: PersonId | None = None
    outcome: str = ""
    """What a reviewer made of it; empty before."""


@dataclass(slots=True)
class DropLedger:
    """Folded from the log, entry by entry."""

    inputs: dict[tuple[Digest, int], RecordedInput] = field(default_factory=dict)
    """(request, use) -> its input. A use has one."""
    charged: dict[tuple[Digest, Digest], ChargedDrop] = field(default_factory=dict)
    """(request, drop) -> its charge."""
    spent: set[tuple[Digest, int]] = field(default_factory=set)
    """(request, use) for which a drop was charged. An honest agent has one drop: whoever shows its delivery to ask for
    more would fill the log with them."""
    keys: dict[PersonId, Digest] = field(default_factory=dict)
    """Each person's newest statement of a key for drops."""

    def of(self, model: ModelId) -> tuple[Drop, ...]:
        """Return the drops of a model as quotas count them."""
        return tuple(
            Drop(person=one.person, bits=one.bits, at=one.at) for one in self.charged.values() if one.model == model
        )

    def begin(self, index: int, entry: Entry) -> None:
        """Fold in an input.

        :raises TamperedError: the use has one already.
        """
        name = entry.digest("request"), entry.integer("use")
        if name in self.inputs:
            raise TamperedError(f"entry {index} gives a workspace a second input", reason=INCONSISTENT)
        self.inputs[name] = RecordedInput(index=index, digest=entry.digest("input"))

    def charge(self, index: int, entry: Entry) -> ChargedDrop:
        """Fold in a drop.

        :raises TamperedError: it was charged before, another was for its use, or its workspace never began.
        """
        name = entry.digest("request"), entry.digest("drop")
        use = name[0], entry.integer("use")
        if name in self.charged or use in self.spent or use not in self.inputs:
            raise TamperedError(f"entry {index} charges a drop twice, or one of no workspace", reason=INCONSISTENT)
        self.spent.add(use)
        self.charged[name] = ChargedDrop(
            index=index,
            at=entry.at,
            request=name[0],
            digest=name[1],
            model=ModelId(entry.text("model")),
            person=PersonId(entry.text("person")),
            size=entry.integer("bytes"),
            bits=entry.integer("bits"),
        )
        return self.charged[name]

    def review(self, index: int, entry: Entry) -> None:
        """Fold in what a reviewer made of a drop.

        :raises TamperedError: there is no such drop, it was reviewed before, or by whom it is for.
        """
        name = entry.digest("request"), entry.digest("drop")
        drop, reviewer = self.charged.get(name), PersonId(entry.text("reviewer"))
        if drop is None or drop.outcome or drop.person == reviewer:
            raise TamperedError(f"entry {index} reviews a drop that doesn't wait for it", reason=INCONSISTENT)
        self.charged[name] = replace(drop, reviewer=reviewer, outcome=entry.text("outcome"))

    def key(self, entry: Entry) -> None:
        """Fold in a key."""
        self.keys[PersonId(entry.text("person"))] = entry.digest("statement")
