"""Reading a published log over all its shards, and filling a new log writer's stores with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Protocol

from strongroom.audit.adapters.sources import open_source
from strongroom.audit.adapters.stores import open_store
from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.note import VerifierKey
from strongroom.audit.sequencer import Batch, EntryStore, make_batch
from strongroom.audit.succession import Shard
from strongroom.audit.tiles import CHECKPOINT, ShardSource, TileSource, bundles_of, read_bundle
from strongroom.backup.contents import LOG_ENTRIES, final_name
from strongroom.backup.entries import LENGTH, Rebuilt, read_entries
from strongroom.backup.errors import BackupDamagedError, RestoreRefusedError
from strongroom.backup.header import Position
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.signature import SEED_BYTES, Ed25519Signer
from strongroom.keys.wrapping import RandomBytes

BATCH: Final = 2048
CHUNK: Final = 1 << 20


class LogCopy(Protocol):
    """A copy of the log that is to be restored; nothing of it is believed before it was rebuilt and checked."""

    def note(self, shard: Shard) -> bytes | None:
        """Return the newest checkpoint that the copy has of a shard."""
        ...

    def entries(self, shard: Shard) -> Iterator[bytes]:
        """Return the entries of a shard."""
        ...


class PublishedLog:
    """A published log with all its shards."""

    def __init__(self, source: TileSource) -> None:
        self._source = source

    def note(self, shard: Shard) -> bytes | None:
        """Return the published checkpoint of a shard."""
        return ShardSource(self._source, shard.folder).read(CHECKPOINT)

    def entries(self, shard: Shard) -> Iterator[bytes]:
        """Return the entries that the published checkpoint covers.

        :raises StrongroomError: entries are missing, or the checkpoint isn't the shard's.
        """
        source, note = ShardSource(self._source, shard.folder), self.note(shard)
        size = 0 if note is None else read_checkpoint(note, shard.verifier).size
        for bundle in bundles_of(size):
            yield from read_bundle(source, bundle)


def published_log(where: str) -> PublishedLog:
    """Return the log that is published in a folder, or hosted at an address.

    :raises UsageError: no such folder. :raises MalformedError: not an address. :raises MissingExtraError: no boto3.
    """
    return PublishedLog(open_source(where))


class BackedUpLog:
    """The log as it stands in a backup, whose parts were taken out into ``home``."""

    def __init__(self, home: Path, position: Position) -> None:
        self._home = home
        self._position = position
        # Of the shards read so far: where in the file they end. Else each shard would cost a reading of all before it.
        self._offsets = {0: 0}

    def note(self, shard: Shard) -> bytes | None:
        """Return the checkpoint that closed a shard, or the backup's own."""
        if shard.origin == self._position.origin:
            return self._position.checkpoint
        place = self._home / final_name(shard.number)
        return place.read_bytes() if place.is_file() else None

    def entries(self, shard: Shard) -> Iterator[bytes]:
        """Return the entries of a shard, up to the checkpoint over them.

        :raises BackupDamagedError: the part isn't a sequence of entries.
        """
        note = self.note(shard)
        count = 0 if note is None else read_checkpoint(note, shard.verifier).size
        begin = max(base for base in self._offsets if base <= shard.base)
        with (self._home / LOG_ENTRIES).open("rb") as file:
            at = file.seek(self._offsets[begin])
            there = islice(read_entries(iter(partial(file.read, CHUNK), b"")), shard.base - begin + count)
            end = begin
            for end, data in enumerate(there, begin + 1):
                at += LENGTH + len(data)
                if end > shard.base:
                    yield data
        self._offsets[end] = at


def whole_log(copy: LogCopy, rebuilt: Rebuilt) -> Iterator[bytes]:
    """Return every entry of every shard that a copy has, in order; who asks for the next one has taken the one before.

    At the end, what was taken is compared with what the shards' own keys signed.

    :raises BackupDamagedError: they signed something else.
    :raises RestoreRefusedError: there is no log.
    """
    done = 0
    while (shard := rebuilt.succession.current).number > done:
        note = copy.note(shard)
        if note is None:
            # Closed, and nothing of the next shard is there yet: the log ends with the seam.
            break
        yield from copy.entries(shard)
        signed, final = read_checkpoint(note, shard.verifier), rebuilt.succession.final(shard)
        if final is None:
            rebuilt.signed(note)
        elif signed != final:
            raise BackupDamagedError(f"the checkpoint of shard {shard.number} isn't over its last entry")
        done = shard.number
    if not done:
        raise RestoreRefusedError(
            "there is no log here: no checkpoint is published", reason="log-missing", remedy="give the log (--log)"
        )


def fill_store(folder: Path, shard: Shard, entries: Iterable[bytes], note: bytes, random_bytes: RandomBytes) -> None:
    """Fill an empty store of a shard with the entries that ``note`` signs. One that holds just them is left as it is.

    The store wants a checkpoint with each commit. All but the last are signed with a key that is made here and thrown
    away: nobody believes them, and the log's own key signs nothing for a second time.

    :raises BackupDamagedError: the entries aren't those that ``note`` signs.
    :raises RestoreRefusedError: the store holds something. :raises StoreDamagedError: and that isn't even a log.
    """
    key = VerifierKey(shard.origin, shard.key)
    final = read_checkpoint(note, key)
    store = open_store(folder, key, shard=shard.number, visit=None, expected=None)
    try:
        if (store.frontier.size, store.frontier.root()) == (final.size, final.root):
            return
        if store.frontier.size:
            raise RestoreRefusedError(
                f"the store for shard {shard.number} of the log isn't empty",
                reason="store-not-empty",
                remedy="name an empty database: a log is never written over",
            )
        passing = Ed25519Signer.from_seed(random_bytes(SEED_BYTES))
        for batch in _batches(store, entries, final, shard, note, passing):
            store.commit(batch)
        if (store.frontier.size, store.frontier.root()) != (final.size, final.root):
            raise BackupDamagedError("the entries aren't those that the log's checkpoint signs")
    except (MalformedError, TamperedError) as error:
        raise BackupDamagedError(f"the log's store can't be filled: {error.message}") from None
    finally:
        store.close()


def _batches(
    store: EntryStore, entries: Iterable[bytes], final: Checkpoint, shard: Shard, note: bytes, passing: Ed25519Signer
) -> Iterator[Batch]:
    def sign(checkpoint: Checkpoint) -> bytes:
        if checkpoint.size == final.size:
            if checkpoint.root != final.root:
                raise BackupDamagedError("the entries aren't those that the log's checkpoint signs")
            return note
        return checkpoint.sign(passing)

    waiting: list[bytes] = []
    for data in entries:
        waiting.append(data)
        if len(waiting) == BATCH:
            yield make_batch(store.frontier, waiting, origin=shard.origin, sign=sign)
            waiting = []
    if waiting:
        yield make_batch(store.frontier, waiting, origin=shard.origin, sign=sign)
