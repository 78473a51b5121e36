"""Archives as a search reads them: with the standard library's readers, of hostile files, in bounded memory.

What is stored is read where it lies. Of what is compressed only the beginning is, in memory. Entries below 4 KiB are
passed over.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Final

from strongroom.intake.copies.effort import Effort, Metered
from strongroom.intake.copies.elements import LEAST
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import Part, Source

MAX_ENTRIES: Final = 200_000
MAX_READ: Final = 8 << 20
"""Bytes that a reader may ask for at once: a directory of some 100,000 entries. And twice that between two entries."""
BEGINNING: Final = 8 << 20
"""Bytes of a compressed entry that are decompressed."""
_PADDING: Final = 64 * 1024
_LOCAL: Final = struct.Struct("<4s22xHH")
_ENCRYPTED: Final = 1
_FAILURES: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    tarfile.TarError,
    zlib.error,
    struct.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ArithmeticError,
    LookupError,
    ValueError,
    TypeError,
)
"""What the readers raise about bytes that aren't an archive, or not a whole one."""


class _File(io.RawIOBase):
    """A source as a file, which refuses to read much at once, or between two entries: readers keep heads in memory."""

    def __init__(self, source: Source) -> None:
        self._source, self._at, self._left = source, 0, 2 * MAX_READ

    def next(self) -> None:
        """Begin with another entry."""
        self._left = 2 * MAX_READ

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise ValueError("before the beginning")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._source.size - self._at)
        wanted = left if size is None or size < 0 else min(size, left)
        self._left -= wanted
        if wanted > MAX_READ or self._left < 0:
            raise ValueError("a field that is too large")
        data = self._source.read(self._at, wanted)
        self._at += len(data)
        return data


class Beginning:
    """The first bytes of something whose rest isn't there."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self.size = data, size

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes.

        :raises IntakeRefusedError: they are beyond what was decompressed.
        """
        if offset + length > len(self._data):
            raise IntakeRefusedError(Rule.ZIP_SIZE, f"only the first {len(self._data)} bytes are decompressed")
        return self._data[offset : offset + length]


def zip_entries(source: Source, effort: Effort) -> Iterator[tuple[str, Source]]:
    """Yield a zip archive's entries by name. One that can't be read, or is encrypted, is passed over; then it is told.

    :raises IntakeRefusedError: zip-form, at the end.
    """
    passed = 0
    try:
        file = _File(source)
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                if info.file_size < LEAST:
                    continue
                file.next()
                try:
                    entry = _entry(source, archive, info, effort)
                except _FAILURES:
                    entry = None
                if entry is None:
                    passed += 1
                else:
                    yield info.filename, entry
    except _FAILURES:
        raise IntakeRefusedError(Rule.ZIP_FORM, "an archive that can't be read") from None
    if passed:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{passed} entries of an archive that can't be read, or are encrypted")


def _entry(source: Source, archive: zipfile.ZipFile, info: zipfile.ZipInfo, effort: Effort) -> Source | None:
    at = info.header_offset
    if info.flag_bits & _ENCRYPTED or not 0 <= at <= source.size - _LOCAL.size:
        return None
    if info.compress_type == zipfile.ZIP_STORED:
        magic, name, extra = _LOCAL.unpack(source.read(at, _LOCAL.size))
        begin = at + _LOCAL.size + name + extra
        if magic != b"PK\x03\x04" or begin > source.size:
            return None
        return Part(source, begin, min(info.file_size, source.size - begin))
    if info.compress_type == zipfile.ZIP_DEFLATED:
        effort.unpack(min(info.file_size, BEGINNING))
        with archive.open(info) as file:
            return Metered(Beginning(file.read(BEGINNING), info.file_size), effort)
    return None


def tar_entries(source: Source, _effort: Effort) -> Iterator[tuple[str, Source]]:
    """Yield the files of a tar archive that isn't compressed.

    :raises IntakeRefusedError: zip-form, where it can't be read further, or something follows its end.
    """
    try:
        file = _File(source)
        with tarfile.open(fileobj=file, mode="r:", errorlevel=0) as archive:
            for count, info in enumerate(archive):
                if count >= MAX_ENTRIES:
                    raise IntakeRefusedError(Rule.ZIP_SIZE, f"more than {MAX_ENTRIES} entries")
                # What was seen isn't needed again, and a list of it would grow.
                archive.members.clear()  # type: ignore[attr-defined]
                file.next()
                if info.size < 0:
                    raise IntakeRefusedError(Rule.ZIP_FORM, "an archive whose entries go backwards")
                whole = info.offset_data + info.size <= source.size
                if info.isreg() and not info.issparse() and whole and info.size >= LEAST:
                    yield info.name, Part(source, info.offset_data, info.size)
            # Damage between two entries looks like an end to the reader, and so do archives that were joined.
            rest = source.size - archive.offset
            if rest > 0 and any(source.read(archive.offset, min(rest, _PADDING))):
                raise IntakeRefusedError(Rule.ZIP_FORM, "an archive that goes on where its entries end")
    except _FAILURES:
        raise IntakeRefusedError(Rule.ZIP_FORM, "an archive that can't be read") from None
