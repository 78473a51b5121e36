"""Going on with an interrupted sealing: the journal's file, and what of an unfinished object is still good."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from strongroom.core.canonical import encode
from strongroom.core.secret import SecretBytes
from strongroom.sealing.adapters.files import SYMLINKS_REFUSED, folder, storage, walk
from strongroom.sealing.adapters.memory import plaintext_buffer
from strongroom.sealing.adapters.publish import LocalTarget
from strongroom.sealing.adapters.sources import FileSource
from strongroom.sealing.errors import SealedObjectError
from strongroom.sealing.floe import Floe, wipe
from strongroom.sealing.header import HEADER_LENGTH, SealedHeader
from strongroom.sealing.journal import JOURNAL_NAME, Begun, Finished, Journal, Record, unfinished
from strongroom.sealing.manifest import INDEX_NAME, ManifestObject, object_name
from strongroom.sealing.prelude import Prelude
from strongroom.sealing.recipients import RECIPIENTS_NAME
from strongroom.sealing.seal import RandomBytes, Stream
from strongroom.sealing.store import MANIFEST_NAME, OBJECTS_NAME
from strongroom.sealing.tree import leaf
from strongroom.sealing.write import VersionFacts

_MAX_JOURNAL: Final = 64 << 20


class JournalFile:
    """The journal of one sealing. What another version or data key wrote reads as nothing, and is cleared."""

    def __init__(
        self, target: LocalTarget, facts: VersionFacts, *, data_key: SecretBytes, random_bytes: RandomBytes
    ) -> None:
        self._target, self._random = target, random_bytes
        self._journal = Journal(data_key, _context(facts))
        records, length = self._read()
        self._begun, self._finished = unfinished(records)
        if records:
            # Written just before an end that didn't come; they name objects that may be made again.
            target.remove(INDEX_NAME, RECIPIENTS_NAME, MANIFEST_NAME)
        else:
            target.clear()
        self._fd = os.open(JOURNAL_NAME, os.O_RDWR | os.O_CREAT | SYMLINKS_REFUSED, 0o600, dir_fd=target.fd)
        # A record that a crash cut in half is cut off: nothing may be appended behind it.
        os.ftruncate(self._fd, length)
        os.lseek(self._fd, 0, os.SEEK_END)
        self._count = len(records)

    @property
    def empty(self) -> bool:
        """Whether nothing was begun."""
        return self._count == 0

    def _read(self) -> tuple[list[Record], int]:
        try:
            fd = os.open(JOURNAL_NAME, os.O_RDONLY | SYMLINKS_REFUSED, dir_fd=self._target.fd)
        except OSError:
            return [], 0
        with os.fdopen(fd, "rb") as file:
            return self._journal.decode(file.read(_MAX_JOURNAL))

    def begun(self, name: str, *, size: int, changed: int) -> Begun | None:
        """Return the record of a file that was begun, if the file is still as it was."""
        record = self._begun.get(name)
        same = record is not None and (record.size, record.changed) == (size, changed)
        return record if same else None

    def finished(self, record: Begun) -> ManifestObject | None:
        """Return a finished object, if it is there in its full length."""
        sealed = self._finished.get(record.object_id)
        try:
            size = os.stat(object_name(record.object_id), dir_fd=self._target.fd, follow_symlinks=False).st_size
        except OSError:
            return None
        return sealed if sealed is not None and size == sealed.size else None

    def append(self, record: Record) -> None:
        """Make a record durable."""
        data = memoryview(self._journal.encode(record, self._count, self._random))
        while data:
            data = data[os.write(self._fd, data) :]
        os.fdatasync(self._fd)
        self._count += 1

    def finish(self, sealed: ManifestObject) -> None:
        """Note that an object is whole and on disk."""
        self.append(Finished(sealed))

    def remove_others(self, keep: set[str]) -> None:
        """Remove objects that no file ended up in: the directory must hold what its manifest names."""
        with folder(OBJECTS_NAME, within=self._target.fd) as objects:
            for name in walk(objects):
                if f"{OBJECTS_NAME}/{name}" not in keep:
                    os.unlink(name, dir_fd=objects)

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _context(facts: VersionFacts) -> bytes:
    return encode(
        {
            "genesis": str(facts.genesis),
            "model": facts.model,
            "version": facts.version,
            "predecessor": str(facts.predecessor) if facts.predecessor else None,
            "data_key": facts.data_key_id,
            "publisher": facts.publisher,
        }
    )


def good_segments(fd: int, prelude: Prelude, *, plain_size: int, data_key: SecretBytes, place: Path) -> Stream | None:
    """Return an unfinished object's encryption, to go on after its good segments; None if not even its header is good.

    Only what is authentic at its place counts: after a power cut a file may hold zeros where bytes had been written.
    """
    with storage("going on with an unfinished object", place):
        source = FileSource(fd)
        try:
            header = SealedHeader.parse(bytes(source.piece(0, HEADER_LENGTH)))
            if header.prelude != prelude:
                return None
            leaves = _good_leaves(source, Stream.resumed(header, data_key, ()).floe, plain_size)
        except SealedObjectError:
            return None
        return Stream.resumed(header, data_key, leaves)


def _good_leaves(source: FileSource, floe: Floe, plain_size: int) -> list[bytes]:
    length = floe.parameters.segment_length
    # The last segment is made again in any case.
    full = max(0, -(-plain_size // floe.parameters.plaintext_length) - 1)
    plain = plaintext_buffer(length)[: floe.parameters.plaintext_length]
    leaves: list[bytes] = []
    for position in range(full):
        segment = source.piece(HEADER_LENGTH + position * length, length)
        if len(segment) != length:
            break
        try:
            floe.decrypt_segment(plain, segment, position=position, final=False)
        except SealedObjectError:
            break
        leaves.append(leaf(segment))
    wipe(plain)
    return leaves
