"""The root key was moved to other key services while no keeper ran: the next one records it.

``strongroom root-key move`` has no log to write to. It leaves a note of where the root key went, and the keeper
records that, if it is true, before it serves.
"""

from __future__ import annotations

from typing import Protocol

from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.keeper.reconciling import providers_digest
from strongroom.keeper.service import Keeper


class MoveNote(Protocol):
    """A note in the keeper's folder."""

    def load(self) -> Digest | None:
        """Return the digest of the list of key services that the root key was moved to, if it was moved.

        :raises MalformedError: the note holds something else.
        """
        ...

    def clear(self) -> None:
        """Throw the note away, if there is one."""
        ...


async def record_move(keeper: Keeper, note: MoveNote) -> None:
    """Record a move that was noted; a note of a move that didn't come about is thrown away.

    A crash between the entry and the note's end records the move twice, and never not at all.

    :raises StrongroomError: it can't be recorded; the note stays.
    """
    moved = note.load()
    if moved is None:
        return
    present = providers_digest(keeper.vault.keyring)
    if moved == present:
        facts: dict[str, Fact] = {"generation": keeper.vault.keyring.generation, "providers": present}
        await keeper.record_pinned(EventName.ROOT_MOVED, facts)
    note.clear()
