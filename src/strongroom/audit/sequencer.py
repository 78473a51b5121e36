"""Order: which entry comes next. Pure; the store makes it durable, the writer groups it.

One batch is one commit: entries, the new frontier, and the checkpoint signed over exactly that tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import OutOfSequenceError, SequenceError
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import Frontier, leaf_hash


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit writes. ``first`` is the index of the first entry, ``frontier`` the tree's after the last."""

    first: int
    entries: tuple[bytes, ...]
    frontier: Frontier
    checkpoint: bytes

    @property
    def size(self) -> int:
        """Entries in the log after this batch."""
        return self.frontier.size


class EntryStore(Protocol):
    """Where the log writer keeps entries, frontier and signed checkpoints."""

    @property
    def frontier(self) -> Frontier:
        """The tree as last committed."""
        ...

    @property
    def checkpoint(self) -> bytes | None:
        """The last signed checkpoint; None for an empty log."""
        ...

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, all or nothing. Any exception means: halt."""
        ...

    def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return committed entries."""
        ...

    def close(self) -> None:
        """Close the store; never raises."""
        ...


class CheckpointSigner(Protocol):
    """Signs the log's tree heads."""

    def __call__(self, checkpoint: Checkpoint) -> bytes:
        """Return the signed note."""
        ...


class Counters:
    """The next counter of each producer. A gap or a repeat is refused before it can reach the log."""

    def __init__(self) -> None:
        self._next = dict.fromkeys(Producer, 0)

    def next(self, producer: Producer) -> int:
        """Return the counter that the producer's next entry must carry."""
        return self._next[producer]

    def admit(self, entries: Iterable[Entry]) -> None:
        """Count entries that are about to be queued, all or none.

        :raises OutOfSequenceError: one isn't its producer's next.
        """
        following = dict(self._next)
        for entry in entries:
            if entry.seq != following[entry.by]:
                raise OutOfSequenceError(
                    f"the next entry of `{entry.by}` has number {following[entry.by]}, not {entry.seq}"
                )
            following[entry.by] += 1
        self._next = following

    def replay(self, entry: Entry, index: int) -> None:
        """Count an entry that already stands in a log.

        :raises SequenceError: it isn't its producer's next.
        """
        if entry.seq != self._next[entry.by]:
            raise SequenceError(
                f"entry {index} is number {entry.seq} of `{entry.by}`; number {self._next[entry.by]} is due",
                index=index,
            )
        self._next[entry.by] += 1


def read_own(entries: Sequence[bytes], *, by: Producer) -> list[Entry]:
    """Read entries that ``by`` wants to append.

    A malformed entry would spoil the log for every later reader, so the schema is checked before, not after.

    :raises EntryError: not an entry.
    :raises OutOfSequenceError: another producer's.
    """
    read = [read_entry(data) for data in entries]
    for entry in read:
        if entry.by is not by:
            raise OutOfSequenceError(f"this connection appends entries of `{by}` only")
    return read


def make_batch(frontier: Frontier, entries: Sequence[bytes], *, origin: str, sign: CheckpointSigner) -> Batch:
    """Put entries behind ``frontier`` and sign the tree that results. ``frontier`` itself isn't changed."""
    grown = frontier.copy()
    for entry in entries:
        grown.append(leaf_hash(entry))
    return Batch(frontier.size, tuple(entries), grown, sign(Checkpoint(origin, grown.size, grown.root())))
