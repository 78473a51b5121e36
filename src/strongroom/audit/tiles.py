"""C2SP tiles (c2sp.org/tlog-tiles): how a log lies in files. 256 hashes a tile, 256 entries a bundle."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.audit.errors import EditedEntryError, MissingRowsError, PartialTileMissingError, TileError
from strongroom.audit.merkle import HASH_SIZE, tree_root
from strongroom.core.errors import MalformedError

WIDTH: Final = 256
HEIGHT: Final = 8
MAX_LEVEL: Final = 63
MAX_FILE: Final = WIDTH * (65_535 + 2)
"""Bytes of a full bundle of the longest entries; nothing in a log is larger."""
CHECKPOINT: Final = "checkpoint"
COSIGNED: Final = "checkpoint.cosigned"
"""The newest checkpoint that a quorum of witnesses cosigned. It isn't part of C2SP's layout."""
_ENTRIES: Final = "entries"
_TOO_FULL: Final = "bundle-too-full"
_PATH: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


_SHARD: Final = re.compile(r"shards/(?:[2-9]|[1-9][0-9]{1,3})/")


def within_shard(path: str) -> str:
    """Return a path of the layout without the folder of a later shard, if it is in one: each is a log by itself."""
    return _SHARD.sub("", path, count=1) if _SHARD.match(path) else path


@dataclass(frozen=True, slots=True)
class Tile:
    """The name of a tile: ``level`` None is a bundle of entries; ``width`` below 256 is a partial one."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where the tile lies, relative to the log's folder."""
        digits = f"{self.index:03d}"
        digits = digits.zfill(-(-len(digits) // 3) * 3)
        parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        name = "/".join([*(f"x{part}" for part in parts[:-1]), parts[-1]])
        kind = _ENTRIES if self.level is None else str(self.level)
        return f"tile/{kind}/{name}" + (f".p/{self.width}" if self.width < WIDTH else "")

    @property
    def full(self) -> Tile:
        """The tile of the same place once it is complete."""
        return Tile(self.level, self.index)

    @classmethod
    def parse(cls, path: str) -> Tile:
        """Read a path; one tile has one path.

        :raises MalformedError: not a tile's path, or not in its one spelling.
        """
        match = _PATH.fullmatch(path)
        if match is None:
            raise MalformedError("the path isn't one of a tile")
        level = None if match[1] == _ENTRIES else int(match[1])
        index = int(match[2].replace("/", "").replace("x", ""))
        tile = cls(level, index, int(match[3]) if match[3] else WIDTH)
        if tile.path != path or (level or 0) > MAX_LEVEL:
            raise MalformedError("the path isn't one of a tile")
        return tile


class TileSource(Protocol):
    """A published log, read by position: a folder, later a URL. Never trusted."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes at ``path``, or None where nothing is."""
        ...


@dataclass(frozen=True, slots=True)
class ShardSource:
    """One shard of a published log. ``folder`` is empty or ends in a slash."""

    source: TileSource
    folder: str

    def read(self, path: str) -> bytes | None:
        """Return the bytes at ``path`` of the shard, or None where nothing is."""
        return self.source.read(f"{self.folder}{path}")


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Write entries with their lengths (two bytes, big-endian).

    :raises MalformedError: an entry longer than 65,535 bytes.
    """
    try:
        return b"".join(part for entry in entries for part in (struct.pack(">H", len(entry)), entry))
    except struct.error:
        raise MalformedError("an entry has at most 65,535 bytes") from None


def decode_bundle(data: bytes) -> tuple[bytes, ...]:
    """Read a bundle.

    :raises MalformedError: cut short, or more than 256 entries.
    """
    entries, at, end = [], 0, len(data)
    while at + 1 < end:
        begin = at + 2
        at = begin + (data[at] << 8 | data[at + 1])
        entries.append(data[begin:at])
    if at != end:
        raise MalformedError("an entry bundle is cut short")
    if len(entries) > WIDTH:
        raise MalformedError(f"an entry bundle has at most {WIDTH} entries", reason=_TOO_FULL)
    return tuple(entries)


def hashes_of(data: bytes, width: int) -> tuple[bytes, ...]:
    """Split a hash tile.

    :raises MalformedError: not ``width`` hashes.
    """
    if len(data) != width * HASH_SIZE:
        raise MalformedError(f"a hash tile of width {width} has {width * HASH_SIZE} bytes")
    return tuple(data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE))


def tiles_of(size: int) -> Iterator[Tile]:
    """Yield every hash tile that a log of ``size`` entries has, level by level."""
    level, count = 0, size
    while count:
        yield from bundles_of(count, level)
        level, count = level + 1, count // WIDTH


def bundles_of(size: int, level: int | None = None) -> Iterator[Tile]:
    """Yield every entry bundle of a log of ``size`` entries, or with ``level`` every tile over ``size`` hashes."""
    for index in range(size // WIDTH):
        yield Tile(level, index)
    if size % WIDTH:
        yield Tile(level, size // WIDTH, size % WIDTH)


class TileBuilder:
    """Grows the hash tiles of a log, keeping only the rightmost one of each level."""

    def __init__(self) -> None:
        self.size = 0
        self._open: list[tuple[int, list[bytes]]] = []

    def append(self, leaf: bytes) -> Iterator[tuple[Tile, bytes]]:
        """Add one leaf hash; yields the tiles that it completes, lowest level first."""
        self.size += 1
        value, level = leaf, 0
        while True:
            if level == len(self._open):
                self._open.append((0, []))
            index, hashes = self._open[level]
            hashes.append(value)
            if len(hashes) < WIDTH:
                return
            yield Tile(level, index), b"".join(hashes)
            self._open[level] = (index + 1, [])
            value, level = tree_root(hashes), level + 1

    def partials(self) -> Iterator[tuple[Tile, bytes]]:
        """Yield the partial tiles of the current size."""
        for level, (index, hashes) in enumerate(self._open):
            if hashes:
                yield Tile(level, index, len(hashes)), b"".join(hashes)


class TileReader:
    """Reads node hashes of a log of ``size`` entries from its tiles. What it returns must be proven by the caller."""

    def __init__(self, source: TileSource, size: int, *, kept: int = 64) -> None:
        self._source = source
        self._size = size
        self._kept = kept
        self._tiles: dict[Tile, tuple[bytes, ...]] = {}

    def tile(self, level: int, index: int) -> tuple[bytes, ...]:
        """Return the hashes of one tile, as wide as the log's size makes it.

        :raises TileError: missing, or of another length.
        """
        width = min(WIDTH, (self._size >> (HEIGHT * level)) - index * WIDTH)
        if width <= 0:
            raise TileError(f"a log of {self._size} entries has no tile `{Tile(level, index).path}`")
        wanted = Tile(level, index, width)
        if wanted not in self._tiles:
            if len(self._tiles) >= self._kept:
                self._tiles.clear()
            self._tiles[wanted] = read_hashes(self._source, wanted)
        return self._tiles[wanted]

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree ``(level, index)``.

        :raises TileError: its tile is missing, or of another length.
        """
        tile_level, up = divmod(level, HEIGHT)
        first = index << up
        hashes = self.tile(tile_level, first // WIDTH)
        part = hashes[first % WIDTH : first % WIDTH + (1 << up)]
        if len(part) != 1 << up:
            raise TileError(f"a log of {self._size} entries has no node {level}:{index}")
        return tree_root(part) if up else part[0]


def _read_wide(source: TileSource, tile: Tile) -> tuple[bytes | None, int]:
    # Where a partial tile is gone the full one serves, as C2SP allows; returns the bytes and the width they must have.
    data = source.read(tile.path)
    if data is None and tile.width < WIDTH:
        return source.read(tile.full.path), WIDTH
    return data, tile.width


def read_hashes(source: TileSource, tile: Tile) -> tuple[bytes, ...]:
    """Read one hash tile.

    :raises PartialTileMissingError: the partial tile isn't there.
    :raises TileError: a full tile isn't there, or the bytes don't have the tile's width.
    """
    data, width = _read_wide(source, tile)
    if data is None:
        kind = PartialTileMissingError if tile.width < WIDTH else TileError
        raise kind(f"the hash tile `{tile.path}` is missing", index=_first_entry(tile))
    try:
        return hashes_of(data, width)[: tile.width]
    except MalformedError as error:
        raise TileError(f"`{tile.path}`: {error.message}", index=_first_entry(tile)) from None


def read_bundle(source: TileSource, tile: Tile) -> tuple[bytes, ...]:
    """Read one entry bundle.

    :raises MissingRowsError: the bundle isn't there, is cut short, or holds fewer entries than its width.
    :raises EditedEntryError: it holds more entries than its width.
    """
    data, width = _read_wide(source, tile)
    first = tile.index * WIDTH
    if data is None:
        raise MissingRowsError(f"the entries from index {first} on are missing: no `{tile.path}`", index=first)
    try:
        entries = decode_bundle(data)
    except MalformedError as error:
        if error.reason == _TOO_FULL:
            raise _too_many(tile, first + width) from None
        raise MissingRowsError(f"`{tile.path}`: {error.message}", index=first) from None
    if len(entries) > width:
        raise _too_many(tile, first + width)
    if len(entries) < width:
        missing = first + len(entries)
        raise MissingRowsError(f"the entries from index {missing} on are missing in `{tile.path}`", index=missing)
    return entries[: tile.width]


def _too_many(tile: Tile, index: int) -> EditedEntryError:
    return EditedEntryError(f"`{tile.path}` holds more entries than its name says", index=index)


def _first_entry(tile: Tile) -> int:
    return (tile.index * WIDTH) << (HEIGHT * (tile.level or 0))
