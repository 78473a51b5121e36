"""The log in a backup: over all shards, each entry after its length in two bytes, as in C2SP entry bundles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import MAX_ENTRY, read_entry, verify_entry
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.succession import Head, Succession
from strongroom.backup.errors import BackupDamagedError
from strongroom.backup.header import Position
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis

LENGTH: Final = 2
_CLOSED: Final = f'"{EventName.SHARD_CLOSED.value}"'.encode()


def write_entry(data: bytes) -> bytes:
    """Return an entry as it stands in the part.

    :raises BackupDamagedError: an entry that no log can hold.
    """
    if not 0 < len(data) <= MAX_ENTRY:
        raise BackupDamagedError("the log gave an entry of an impossible length")
    return len(data).to_bytes(LENGTH, "big") + data


def read_entries(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Return the entries of the part, read in chunks of any length.

    :raises BackupDamagedError: it ends within an entry, or holds an empty one.
    """
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        start = 0
        while len(buffer) - start >= LENGTH:
            end = start + LENGTH + int.from_bytes(buffer[start : start + LENGTH], "big")
            if end == start + LENGTH:
                raise BackupDamagedError("the backup's log holds an empty entry")
            if end > len(buffer):
                break
            yield bytes(buffer[start + LENGTH : end])
            start = end
        del buffer[:start]
    if buffer:
        raise BackupDamagedError("the backup's log ends within an entry")


class Rebuilt:
    """The trees over entries that are given in order: each shard's, and how each was closed for the next."""

    def __init__(self, genesis: Genesis) -> None:
        self._keeper = genesis.keeper_key
        self.succession = Succession.of(genesis)
        self.frontier = Frontier()
        """The current shard's tree."""

    @property
    def size(self) -> int:
        """Entries taken, over all shards."""
        return self.succession.current.base + self.frontier.size

    @property
    def root(self) -> bytes:
        """The root that goes with :attr:`size`: 32 bytes."""
        if self.frontier.size == 0 and self.succession.finals:
            return self.succession.finals[-1].root
        return self.frontier.root()

    def take(self, data: bytes) -> None:
        """Take the next entry.

        :raises StrongroomError: it closes a shard in another way than the keeper does.
        """
        self.frontier.append(leaf_hash(data))
        # Only a closing entry is parsed here: what the others say is for the replay of the log.
        if _CLOSED in data and (entry := read_entry(data)).event is EventName.SHARD_CLOSED:
            verify_entry(entry, self._keeper)
            final = Checkpoint(self.succession.current.origin, self.frontier.size, self.frontier.root())
            self.succession = self.succession.close(entry, final)
            self.frontier = Frontier()

    def signed(self, note: bytes) -> Head:
        """Check that a checkpoint of the log's own key signs exactly what was taken.

        :raises BackupDamagedError: it doesn't.
        """
        try:
            head = self.succession.read(note)
        except (MalformedError, TamperedError) as error:
            raise BackupDamagedError(f"the log's checkpoint: {error.message}") from None
        if head.size != self.size or head.root != self.root:
            raise BackupDamagedError("the entries aren't those that the log's checkpoint signs")
        return head


def rebuilding(entries: Iterable[bytes], rebuilt: Rebuilt, *, most: int) -> Iterator[bytes]:
    """Pass entries on, and rebuild the trees over them. Believe nothing of it before :meth:`Rebuilt.signed`.

    :raises BackupDamagedError: there are more than ``most``, or one closes a shard wrongly.
    """
    for data in entries:
        if rebuilt.size >= most:
            raise BackupDamagedError(f"there are more than the {most} entries that were signed")
        try:
            rebuilt.take(data)
        except (MalformedError, TamperedError) as error:
            raise BackupDamagedError(f"entry {rebuilt.size - 1}: {error.message}") from None
        yield data


def position_of(rebuilt: Rebuilt, note: bytes) -> Position:
    """Return the position that a checkpoint signs, once all entries were taken.

    :raises BackupDamagedError: it signs another tree.
    """
    head = rebuilt.signed(note)
    return Position(
        origin=head.checkpoint.origin,
        size=head.size,
        root=Digest(DigestAlgorithm.SHA256, head.root),
        checkpoint=note,
    )


def require_position(rebuilt: Rebuilt, position: Position) -> None:
    """Check that the entries taken are those of a header's position.

    :raises BackupDamagedError: they aren't.
    """
    if position_of(rebuilt, position.checkpoint) != position:
        raise BackupDamagedError("the backup's checkpoint signs another tree than its header says")
