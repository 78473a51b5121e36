"""Checks all of what a store holds, at opening, against what was signed. Pure: a store gives its rows.

Whoever can write to the store is an enemy: a missing row, one too many, a tree head or a note that isn't the rows' own
is an error, and nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.errors import StoreDamagedError
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.sequencer import Batch
from strongroom.core.errors import MalformedError, TamperedError

DAMAGED: Final = "Keep the store as it is for inspection; restore a copy as a new shard, never over this one."

Visitor = Callable[[int, bytes, bytes], None]
"""Called at opening for each entry: index, bytes, leaf hash."""


class StoredRows(Protocol):
    """What an opened store holds, as the database gives it."""

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """Return index and bytes of each entry, in order of the index."""
        ...

    def checkpoints(self) -> Iterator[tuple[int, bytes]]:
        """Return size and note of each checkpoint, in order of the size."""
        ...

    def heads(self) -> list[tuple[int, bytes]]:
        """Return size and frontier of each tree head; there must be one."""
        ...


def recompute(
    rows: StoredRows, key: VerifierKey, *, visit: Visitor | None, expected: Checkpoint | None
) -> tuple[Frontier, bytes | None]:
    """Hash all entries and return the tree, and the last signed checkpoint (None for an empty log).

    ``expected`` is a checkpoint known from elsewhere (the published one): a store that is smaller, or that disagrees
    with it, was rolled back or replaced.

    :raises StoreDamagedError: the rows disagree with each other, with a signature or with ``expected``.
    """
    signed = _signed(rows)
    due, last = next(signed, None), None
    grown = Frontier()
    for index, data in rows.entries():
        if index != grown.size:
            raise StoreDamagedError(f"entry {grown.size} is missing from the store", index=grown.size, remedy=DAMAGED)
        leaf = leaf_hash(data)
        grown.append(leaf)
        if visit is not None:
            visit(index, data, leaf)
        if due is not None and due[0].size == grown.size:
            _agree(due[0], grown)
            last, due = due, next(signed, None)
        if expected is not None and grown.size == expected.size:
            _agree(expected, grown)
    if due is not None or (expected is not None and expected.size > grown.size):
        raise StoreDamagedError(
            f"the store has {grown.size} entries, fewer than were signed", index=grown.size, remedy=DAMAGED
        )
    if rows.heads() != [(grown.size, grown.to_bytes())]:
        raise StoreDamagedError("the stored tree head isn't the one of the stored entries", remedy=DAMAGED)
    return grown, _checked_last(key, grown, None if last is None else last[1])


def continues(batch: Batch, frontier: Frontier) -> None:
    """Check that a batch stands right behind the stored tree.

    :raises StoreDamagedError: it doesn't.
    """
    if batch.first != frontier.size or batch.size != batch.first + len(batch.entries):
        raise StoreDamagedError("the batch doesn't continue the stored log")


def _signed(rows: StoredRows) -> Iterator[tuple[Checkpoint, bytes]]:
    # In order of size. Only the roots are compared here; the signature of the last one is checked at the end.
    for size, note in rows.checkpoints():
        try:
            checkpoint = Checkpoint.parse_text(Note.parse(note).text)
        except MalformedError:
            raise StoreDamagedError(f"the stored checkpoint of size {size} isn't one", remedy=DAMAGED) from None
        if checkpoint.size != size:
            raise StoreDamagedError(f"the stored checkpoint of size {size} is another's", remedy=DAMAGED)
        yield checkpoint, note


def _agree(checkpoint: Checkpoint, grown: Frontier) -> None:
    if checkpoint.root != grown.root():
        raise StoreDamagedError(
            f"the entries below {grown.size} aren't the ones that were signed", index=grown.size - 1, remedy=DAMAGED
        )


def _checked_last(key: VerifierKey, grown: Frontier, note: bytes | None) -> bytes | None:
    if (note is None) != (grown.size == 0):
        raise StoreDamagedError("the store has entries without a checkpoint, or the other way round", remedy=DAMAGED)
    if note is None:
        return None
    try:
        stated = read_checkpoint(note, key)
    except (MalformedError, TamperedError) as error:
        raise StoreDamagedError(f"the last stored checkpoint: {error.message}", remedy=DAMAGED) from None
    if stated.size != grown.size:
        raise StoreDamagedError("the last stored checkpoint isn't of the stored size", remedy=DAMAGED)
    return note
