"""Zip archives, read strictly: every byte belongs to exactly one entry or to the directory at the end.

Readers of zips disagree where local headers and directory do, where bytes lie between entries, and where the end is
found by searching. Here nothing of that is possible: entries follow each other from the first byte, each local header
repeats what the directory says, and the archive ends with its last record, without a comment. (APPNOTE.TXT 6.3.10.)
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import WINDOW, Cursor, Part, Source, pieces

MAX_ENTRIES: Final = 100_000
MAX_NAME: Final = 512
MAX_DIRECTORY: Final = 64 << 20
STORED: Final = 0
DEFLATED: Final = 8
MAGIC: Final = b"PK\x03\x04"
_DIRECTORY: Final = b"PK\x01\x02"
_DESCRIPTOR: Final = b"PK\x07\x08"
_END: Final = struct.Struct("<4s4H2LH")
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_FULL16: Final = 0xFFFF
_FULL32: Final = 0xFFFFFFFF
_LATER: Final = 0x0008
"""Flag: sizes stand after the data, in a descriptor."""
_UTF8: Final = 0x0800
_HINTS: Final = 0x0006
"""Flags of the deflater's effort: they mean nothing to a reader."""
_ZIP64: Final = 1
_KIND: Final = 0o170000
_REGULAR: Final = frozenset({0, 0o100000})


class ZipEntry(NamedTuple):
    """One entry: its name, how it is stored, and where."""

    name: str
    method: int
    flags: int
    crc: int
    packed: int
    size: int
    header: int


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry, and where its data begins."""

    entry: ZipEntry
    begin: int


def check_zip(source: Source, where: str) -> tuple[Placed, ...]:
    """Read an archive's directory and every local header, in the order of the file.

    :raises IntakeRefusedError: zip-form, zip-name or zip-size.
    """
    count, directory, end = _end(source, where)
    cursor = Cursor(source, where, Rule.ZIP_FORM, begin=directory, end=end)
    entries = sorted((_entry(cursor) for _ in range(count)), key=lambda one: one.header)
    if cursor.left:
        raise cursor.refuse("bytes in the directory after its last entry")
    _check_names(entries, where)
    at = 0
    placed = []
    for entry in entries:
        if entry.header != at:
            raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: {shown(entry.name)} overlaps another, or leaves a gap")
        begin, at = _local(Cursor(source, where, Rule.ZIP_FORM, begin=at, end=directory), entry)
        placed.append(Placed(entry, begin))
    if at != directory:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: bytes before the directory that no entry has")
    return tuple(placed)


def _end(source: Source, where: str) -> tuple[int, int, int]:
    """Return how many entries there are, and where the directory begins and ends."""
    if source.size < _END.size:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: too short for an archive")
    at = source.size - _END.size
    magic, disk, first, here, count, size, begin, comment = _END.unpack(source.read(at, _END.size))
    if magic != b"PK\x05\x06" or comment:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: the archive doesn't end with its last record")
    if disk or first or here != count:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: a part of an archive in several parts")
    end = at
    locator = at - _LOCATOR.size
    if locator >= _END64.size and source.read(locator, 4) == b"PK\x06\x07":
        wide = _wide_end(source, where, locator)
        narrow = (min(wide[0], _FULL16), min(wide[1], _FULL32), min(wide[2], _FULL32))
        # Both records must say the same, or the narrow one that it doesn't know.
        if any(
            given not in {meant, most}
            for given, meant, most in zip((count, size, begin), narrow, (_FULL16, _FULL32, _FULL32), strict=True)
        ):
            raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: two records of the end that differ")
        count, size, begin = wide
        end = locator - _END64.size
    if begin + size != end:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: the directory isn't where the end says")
    if count > MAX_ENTRIES or size > MAX_DIRECTORY:
        raise IntakeRefusedError(Rule.ZIP_SIZE, f"{where}: more than {MAX_ENTRIES} entries")
    return count, begin, end


def _wide_end(source: Source, where: str, locator: int) -> tuple[int, int, int]:
    _magic, disk, place, disks = _LOCATOR.unpack(source.read(locator, _LOCATOR.size))
    if disk or disks != 1 or place != locator - _END64.size:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: the long record of the end isn't before its locator")
    magic, length, _made, _needs, this, first, here, count, size, begin = _END64.unpack(source.read(place, _END64.size))
    if magic != b"PK\x06\x06" or length != _END64.size - 12 or this or first or here != count:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: the long record of the end has another form")
    return count, size, begin


def _entry(cursor: Cursor) -> ZipEntry:
    fields = _CENTRAL.unpack(cursor.take(_CENTRAL.size))
    magic, made, _needs, flags, method, _time, _date, crc, packed, size, *rest = fields
    name_length, extra_length, comment, disk, _internal, external, header = rest
    if magic != _DIRECTORY or comment or disk:
        raise cursor.refuse("an entry of the directory with another form, a comment, or on another disk")
    name = _name(cursor, name_length)
    wide = _wide(cursor, extra_length)
    size, packed, header = _widened(cursor, wide, (size, packed, header))
    if flags & ~(_LATER | _UTF8 | _HINTS):
        raise cursor.refuse(f"{shown(name)} is encrypted, or has a flag that isn't known")
    if method not in {STORED, DEFLATED} or (method == STORED and packed != size):
        raise cursor.refuse(f"{shown(name)} is compressed in a way that isn't read")
    if (made >> 8) == 3 and (external >> 16) & _KIND not in _REGULAR:
        raise cursor.refuse(f"{shown(name)} is a link, a folder or a device")
    return ZipEntry(name, method, flags, crc, packed, size, header)


def _name(cursor: Cursor, length: int) -> str:
    raw = cursor.take(length, most=MAX_NAME)
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        name = ""
    parts = name.split("/")
    if not name.isprintable() or set(parts) & {"", ".", ".."} or set(name) & set('\\:*?"<>|'):
        raise IntakeRefusedError(Rule.ZIP_NAME, cursor.refuse("an entry's name isn't a plain relative path").message)
    return name


def _wide(cursor: Cursor, length: int) -> bytes:
    """Read extra fields, and return the one with 64-bit sizes."""
    end = cursor.at + length
    found = None
    while end - cursor.at >= 4:
        kind, size = cursor.integer(2), cursor.integer(2)
        if cursor.at + size > end or (kind == _ZIP64 and found is not None):
            raise cursor.refuse("an extra field that doesn't fit, or stands twice")
        data = cursor.take(size)
        if kind == _ZIP64:
            found = data
    if cursor.at != end:
        raise cursor.refuse("an extra field that doesn't fit")
    return found or b""


def _widened(cursor: Cursor, wide: bytes, narrow: tuple[int, ...]) -> tuple[int, int, int]:
    values, at = [], 0
    for value in narrow:
        if value == _FULL32:
            if at + 8 > len(wide):
                raise cursor.refuse("a size of 64 bits that is missing")
            values.append(int.from_bytes(wide[at : at + 8], "little"))
            at += 8
        else:
            values.append(value)
    size, packed, header = values
    return size, packed, header


def _local(cursor: Cursor, entry: ZipEntry) -> tuple[int, int]:
    """Check that a local header repeats the directory; returns where the data begins, and where the next entry does."""
    magic, _needs, flags, method, _time, _date, crc, packed, size, name_length, extra = _LOCAL.unpack(
        cursor.take(_LOCAL.size)
    )
    if magic != MAGIC or (flags, method) != (entry.flags, entry.method):
        raise cursor.refuse(f"the header of {shown(entry.name)} isn't what the directory says")
    if cursor.take(name_length, most=MAX_NAME) != entry.name.encode():
        raise cursor.refuse(f"{shown(entry.name)} has another name in its header")
    wide = _wide(cursor, extra)
    known = (entry.crc, entry.packed, entry.size)
    later = bool(flags & _LATER) and not (crc or packed or size)
    if not later:
        if wide and _FULL32 in {size, packed}:
            size, packed, _ = _widened(cursor, wide, (size, packed, 0))
        if (crc, packed, size) != known:
            raise cursor.refuse(f"the header of {shown(entry.name)} isn't what the directory says")
    begin = cursor.at
    cursor.skip(entry.packed)
    if flags & _LATER:
        _check_descriptor(cursor, entry)
    return begin, cursor.at


def _check_descriptor(cursor: Cursor, entry: ZipEntry) -> None:
    if cursor.take(4) != _DESCRIPTOR or cursor.integer(4) != entry.crc:
        raise cursor.refuse(f"what stands after {shown(entry.name)} isn't its descriptor")
    sizes = entry.packed, entry.size
    at = cursor.at
    for width in (4, 8):
        # Its width isn't written anywhere: the one is meant after which the next header, or the directory, follows.
        cursor.at = at
        if cursor.left < 2 * width or (cursor.integer(width), cursor.integer(width)) != sizes:
            continue
        if not cursor.left or (cursor.left >= 4 and _peek(cursor) == MAGIC):
            return
    raise cursor.refuse(f"what stands after {shown(entry.name)} isn't its descriptor")


def _peek(cursor: Cursor) -> bytes:
    found = cursor.take(4)
    cursor.at -= 4
    return found


def _check_names(entries: list[ZipEntry], where: str) -> None:
    seen: set[str] = set()
    folders: set[str] = set()
    for entry in entries:
        name = entry.name.lower()
        if name in seen:
            raise IntakeRefusedError(Rule.ZIP_NAME, f"{where}: {shown(entry.name)} is there twice, up to case")
        seen.add(name)
        parts = name.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    if seen & folders:
        raise IntakeRefusedError(Rule.ZIP_NAME, f"{where}: a name is a file and a folder")


def entry_bytes(source: Source, where: str, placed: Placed) -> Iterator[bytes]:
    """Yield an entry's bytes, at most 64 KiB at once, and check its size and its checksum as they pass.

    :raises IntakeRefusedError: zip-form; zip-size where there are more bytes than the directory says.
    """
    entry = placed.entry
    part = Part(source, placed.begin, entry.packed)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == DEFLATED else None
    crc = length = 0
    for piece in _pieces(part, where, inflate):
        crc, length = zlib.crc32(piece, crc), length + len(piece)
        if length > entry.size:
            raise IntakeRefusedError(Rule.ZIP_SIZE, f"{where}: {shown(entry.name)} is larger than it says")
        yield piece
    whole = inflate is None or (inflate.eof and not inflate.unused_data)
    if (crc, length) != (entry.crc, entry.size) or not whole:
        raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: {shown(entry.name)} isn't what its checksum says")


def _pieces(part: Part, where: str, inflate: zlib._Decompress | None) -> Iterator[bytes]:
    for piece in pieces(part, WINDOW):
        if inflate is None:
            yield piece
            continue
        data = piece
        try:
            while data and not inflate.eof:
                yield inflate.decompress(data, WINDOW)
                data = inflate.unconsumed_tail
        except zlib.error:
            raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: an entry that can't be decompressed") from None
        if inflate.eof and (data or inflate.unused_data):
            raise IntakeRefusedError(Rule.ZIP_FORM, f"{where}: bytes after the end of an entry's stream")
