"""Reading a backup: its header without a key, all of it with one, each part checked before it is believed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final, Protocol

from strongroom.backup.contents import GENESIS, LOG_ENTRIES, Section, part_name
from strongroom.backup.entries import Rebuilt, read_entries, rebuilding, require_position
from strongroom.backup.errors import BackupDamagedError, RestoreRefusedError
from strongroom.backup.header import PREFIX, BackupHeader, Part, SectionHeader, header_length
from strongroom.backup.sections import ciphertext_length, decrypted, section_key
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, NotFoundError, TamperedError
from strongroom.core.genesis import Genesis
from strongroom.keys.recipient import RecipientIdentity

MAX_GENESIS: Final = 1 << 20
_ANOTHER: Final = "take another copy of this backup, or another backup"


class PartSink(Protocol):
    """Takes one part's bytes."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...

    def close(self) -> object:
        """Take no more: all of the part was written, or it was refused."""
        ...


Sink = Callable[[Part], PartSink | None]
"""Where a part's bytes go; None when they are only checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup whose header was read. ``body`` is where its first section begins."""

    path: Path
    header: BackupHeader
    body: int
    size: int

    def digest(self) -> Digest:
        """Return the SHA-256 of the whole file: what the log and an order name it by."""
        with _opened(self.path) as file:
            return Digest.of_file(file)


def open_backup(path: Path) -> Backup:
    """Read a backup's header; nothing of it is verified yet.

    :raises NotFoundError: there is no such file.
    :raises BackupDamagedError: it isn't a backup, or has another length than its header says.
    """
    with _opened(path) as file:
        length = header_length(file.read(PREFIX.size))
        data = file.read(length)
        size = os.fstat(file.fileno()).st_size
    if len(data) != length:
        raise BackupDamagedError("the backup ends within its header", remedy=_ANOTHER)
    try:
        header = BackupHeader.parse(data)
    except MalformedError as error:
        raise BackupDamagedError(f"the backup's header: {error.message}", remedy=_ANOTHER) from None
    body = PREFIX.size + length
    whole = body + sum(ciphertext_length(section) for section in header.sections)
    if size != whole:
        raise BackupDamagedError(f"the backup has {size} bytes; its header says {whole}", remedy=_ANOTHER)
    return Backup(path=path, header=header, body=body, size=size)


def read_section(backup: Backup, kind: Section, identity: RecipientIdentity, sink: Sink) -> bool:
    """Decrypt a section and check every part; returns False when there is none, or not for this identity.

    :raises BackupDamagedError: a part isn't what the header says, or the bytes were changed.
    :raises DeliveryError: the header was changed.
    """
    key = section_key(backup.header, kind, identity)
    if key is None:
        return False
    start = backup.body
    for section in backup.header.sections:
        if section.section is kind:
            with key, _opened(backup.path) as file:
                file.seek(start)
                plain = decrypted(file.read, size=section.plaintext_size, key=key, binding=backup.header.binding(kind))
                _part_by_part(section, plain, sink)
            return True
        start += ciphertext_length(section)
    return False


def _part_by_part(section: SectionHeader, plain: Iterator[bytes], sink: Sink) -> None:
    buffer = b""
    for part in section.parts:
        found, left, to = hashlib.sha256(), part.size, sink(part)
        try:
            while left:
                buffer = buffer or next(plain, b"")
                piece, buffer = buffer[:left], buffer[left:]
                if not piece:
                    raise BackupDamagedError("the backup ends before its last part does", remedy=_ANOTHER)
                found.update(piece)
                left -= len(piece)
                if to is not None:
                    to.write(piece)
        finally:
            if to is not None:
                to.close()
        if found.digest() != part.digest.value:
            raise BackupDamagedError(f"the part `{part.name}` isn't what the header says", remedy=_ANOTHER)
    # Drives the last segment's check, and those of a section without bytes.
    if buffer or next(plain, b""):
        raise BackupDamagedError("the backup holds more than its parts", remedy=_ANOTHER)


def verify_backup(backup: Backup, identity: RecipientIdentity) -> tuple[Genesis, tuple[Section, ...]]:
    """Verify all that ``identity`` can open: digests, genesis, the log's tree and its checkpoint. Writes nothing.

    :raises RestoreRefusedError: the records aren't encrypted to this identity.
    :raises BackupDamagedError: something isn't what it should be.
    """
    genesis = _genesis_of(backup, identity)
    rebuilt, position = Rebuilt(genesis), backup.header.log
    for _entry in rebuilding(read_entries(log_chunks(backup, identity)), rebuilt, most=position.size):
        pass
    require_position(rebuilt, position)
    opened = [kind for kind in Section if read_section(backup, kind, identity, lambda _part: None)]
    return genesis, tuple(opened)


def _genesis_of(backup: Backup, identity: RecipientIdentity) -> Genesis:
    listed = {part.name: part.size for section in backup.header.sections for part in section.parts}
    if listed.get(part_name(GENESIS), 0) > MAX_GENESIS:
        raise BackupDamagedError("the backup's genesis is too long to be one")
    data = b"".join(_of_part(backup, identity, GENESIS))
    try:
        genesis = Genesis.parse(data)
    except (MalformedError, TamperedError) as error:
        raise BackupDamagedError(f"the backup's genesis: {error.message}") from None
    if not genesis.digest.matches(backup.header.genesis) or genesis.deployment != backup.header.deployment:
        raise BackupDamagedError("the backup's genesis isn't the one that its header names")
    return genesis


def log_chunks(backup: Backup, identity: RecipientIdentity) -> Iterator[bytes]:
    """Return the bytes of the log's part; what they are is checked by who rebuilds the tree.

    :raises RestoreRefusedError: the records aren't encrypted to this identity.
    """
    return _of_part(backup, identity, LOG_ENTRIES)


def _of_part(backup: Backup, identity: RecipientIdentity, name: str) -> Iterator[bytes]:
    section = backup.header.section(Section.RECORDS)
    key = section_key(backup.header, Section.RECORDS, identity)
    if section is None or key is None:
        raise RestoreRefusedError(
            "the backup isn't encrypted to this recipient key",
            reason="other-recipient",
            remedy="see `strongroom backup show` for the digests of the keys that open it",
        )
    begin, part = 0, None
    for part in section.parts:
        if part.name == name:
            break
        begin += part.size
    if part is None or part.name != name:
        raise BackupDamagedError(f"the backup has no part `{name}`")
    with key, _opened(backup.path) as file:
        file.seek(backup.body)
        at, end = 0, begin + part.size
        for chunk in decrypted(
            file.read,
            size=section.plaintext_size,
            key=key,
            binding=backup.header.binding(Section.RECORDS),
        ):
            piece = chunk[max(0, begin - at) : max(0, end - at)]
            at += len(chunk)
            if piece:
                yield piece
            if at >= end:
                return


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NotFoundError(f"there is no backup `{path.name}`") from None
    with os.fdopen(handle, "rb") as file:
        yield file
