"""A published log on a host that serves files: what goes there, in which order, and what is never overwritten.

Tiles and bundles are laid down once; the checkpoint that speaks of them comes last. A host is storage: it is asked
what it holds, and believed as far as the log's own key signed it. Pure: the host is an adapter's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from typing import Final, Protocol, Self
from urllib.parse import urlsplit

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.errors import EditedEntryError, ForkError, LogError, LogRolledBackError, TileError
from strongroom.audit.merkle import complete_root, leaf_hash, range_root
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.succession import MAX_SHARDS, Succession, folder_of, is_published
from strongroom.audit.tiles import (
    CHECKPOINT,
    COSIGNED,
    HEIGHT,
    WIDTH,
    ShardSource,
    Tile,
    TileReader,
    TileSource,
    bundles_of,
    encode_bundle,
    read_bundle,
    read_hashes,
    tiles_of,
    within_shard,
)
from strongroom.audit.verify import published_head, published_seam
from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError, UsageError
from strongroom.core.signature import PublicKey

MAX_ADDRESS: Final = 1024
MAX_MISSING: Final = 1000
"""Missing files that are named: a checkpoint that nobody verified may speak of any number."""
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_.!~-]{1,255}")
_NEAR: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_YEAR: Final = 365 * 86_400
_MUTABLE: Final = frozenset({CHECKPOINT, COSIGNED})


class HostDiffersError(LogError):
    """Under a tile's name the host holds other bytes than the log."""

    code = "host-differs"


class HostUnlockedError(UsageError):
    """The host doesn't keep what is laid down there from being deleted."""

    code = "host-unlocked"


class HostOverwritesError(UsageError):
    """The host replaces a file although it was asked not to."""

    code = "host-overwrites"


class HostMovedError(ConflictError):
    """The host's checkpoint changed while it was being replaced."""

    code = "host-moved"


class Scheme(StrEnum):
    """How a host is spoken to."""

    HTTPS = "https"
    HTTP = "http"
    """On this machine alone: the log names people and models."""
    S3 = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAddress:
    """Where a log is hosted: ``place`` is a bucket or a server, ``prefix`` what comes before ``/checkpoint``."""

    scheme: Scheme
    place: str
    prefix: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``s3://bucket/prefix`` or ``https://server/prefix``. Credentials never stand in it.

        :raises MalformedError: another form, a path that climbs, or plain ``http`` to another machine.
        """
        wrong = MalformedError(
            "a log's host is `s3://BUCKET/PREFIX` or `https://SERVER/PREFIX`", remedy="without user, query or fragment"
        )
        if len(text) > MAX_ADDRESS or not text.isascii() or not text.isprintable() or "?" in text or "#" in text:
            raise wrong
        try:
            parts = urlsplit(text)
            host, scheme, _port = parts.hostname or "", Scheme(parts.scheme), parts.port
        except ValueError:
            raise wrong from None
        prefix = parts.path.strip("/")
        segments = prefix.split("/") if prefix else []
        if not host or "@" in parts.netloc or any(set(one) <= {"."} or not _SEGMENT.fullmatch(one) for one in segments):
            raise wrong
        if scheme is Scheme.S3 and not _BUCKET.fullmatch(parts.netloc):
            raise wrong
        if scheme is Scheme.HTTP and host not in _NEAR:
            raise wrong
        return cls(scheme=scheme, place=parts.netloc, prefix=prefix)

    def path_of(self, name: str) -> str:
        """Return where a file of the log lies, from the place's root and without a leading slash."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def __str__(self) -> str:
        return f"{self.scheme}://{self.place}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Headers:
    """How a file is served (c2sp.org/tlog-tiles): its type, and how long others may keep it."""

    content_type: str
    cache_control: str


def headers_of(name: str) -> Headers:
    """Return the headers of one of the log's files.

    :raises MalformedError: the log's layout has no such file.
    """
    if within_shard(name) in _MUTABLE:
        return Headers("text/plain; charset=utf-8", "no-cache")
    Tile.parse(within_shard(name))
    return Headers("application/octet-stream", f"max-age={_YEAR}, immutable")


class Host(Protocol):
    """A place that keeps files under names. Every method raises UnavailableError where it doesn't answer."""

    def read(self, path: str) -> bytes | None:
        """Return what is there, or None; at most ``MAX_FILE`` bytes and one."""
        ...

    def place(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Lay files down that never change; where the same bytes already are, nothing is done.

        :raises HostDiffersError: other bytes are there; they stay.
        """
        ...

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        """Put ``data`` in the place of ``before``, which was read there (None: nothing was).

        :raises HostMovedError: something else is there by now; it stays.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """What one publication did, over all shards: the size that is hosted now, and how much was laid down for it."""

    size: int
    before: int
    """The size that was hosted before."""
    files: int
    length: int
    """Bytes of those files."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a file under a host's prefix, as the host lists it: bytes, or the mark that it was deleted."""

    name: str
    """Its path in the log."""
    marker: bool
    locked_until: Instant | None
    """Until when nobody can delete it; None for a mark, and for what isn't locked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a host's versions come to. Each list holds paths, in order."""

    versions: int
    locked_until: Instant | None
    """When the first lock ends; None where nothing is locked."""
    unlocked: tuple[str, ...]
    """Can be deleted now."""
    covered: tuple[str, ...]
    """Deleted or written over in sight: the first version is still there if it was locked."""
    foreign: tuple[str, ...]
    """Not files of a log."""
    missing: tuple[str, ...]
    """A checkpoint speaks of them, and they aren't there: at most :data:`MAX_MISSING`."""


def hosted_sizes(source: TileSource) -> dict[str, int]:
    """Return how many entries the checkpoint of each shard's folder speaks of. No signature is verified.

    :raises MalformedError: one isn't a checkpoint.
    """
    found: dict[str, int] = {}
    for number in range(1, MAX_SHARDS + 1):
        note = source.read(f"{folder_of(number)}{CHECKPOINT}")
        if note is None:
            break
        found[folder_of(number)] = Checkpoint.parse_text(Note.parse(note).text).size
    return found


def survey(versions: Iterable[Version], now: Instant, sizes: Mapping[str, int]) -> Survey:
    """Judge what a host lists. A checkpoint has many versions; of a tile or bundle a second one is one too many.

    Whoever may write there can lay a checkpoint down that the log published, before its files: the publisher then
    takes these for laid down too. So what :func:`hosted_sizes` says must be there is looked for.
    """
    seen: Counter[str] = Counter()
    unlocked, covered, foreign, ends = set(), set(), set(), []
    count = 0
    for version in versions:
        count += 1
        if not _is_of_log(version.name):
            foreign.add(version.name)
            continue
        seen[version.name] += 1
        if version.marker or (seen[version.name] > 1 and within_shard(version.name) not in _MUTABLE):
            covered.add(version.name)
        if version.marker:
            continue
        if version.locked_until is None or version.locked_until <= now:
            unlocked.add(version.name)
        else:
            ends.append(version.locked_until)
    return Survey(
        versions=count,
        locked_until=min(ends, default=None),
        unlocked=tuple(sorted(unlocked)),
        covered=tuple(sorted(covered)),
        foreign=tuple(sorted(foreign)),
        missing=tuple(islice(_missing(seen, sizes), MAX_MISSING)),
    )


def _missing(there: Container[str], sizes: Mapping[str, int]) -> Iterator[str]:
    for folder, size in sizes.items():
        for tile in chain(tiles_of(size), bundles_of(size)):
            if f"{folder}{tile.path}" not in there:
                yield f"{folder}{tile.path}"


def _is_of_log(name: str) -> bool:
    try:
        headers_of(name)
    except MalformedError:
        return False
    return True


def publish(source: TileSource, host: Host, first: Succession, keeper_key: PublicKey | None) -> Hosted:
    """Lay a published log down at ``host``, shard after shard; raises as :func:`publish_shard`.

    :param first: the first shard alone. :param keeper_key: as for :meth:`Succession.cross`.
    :raises SuccessionError: a shard wasn't closed for the next one.
    """
    known, before, files, length = first, 0, 0, 0
    while True:
        shard = known.current
        part = ShardSource(source, shard.folder)
        # Before the shard is read: where there is a next one, what is read is the shard's end.
        more = is_published(source, shard.number + 1)
        done = publish_shard(part, _ShardHost(host, shard.folder), shard.verifier)
        before, files, length = before + done.before, files + done.files, length + done.length
        if not more:
            return Hosted(size=shard.base + done.size, before=before, files=files, length=length)
        known = known.cross(published_seam(part, published_head(part, shard.verifier)), keeper_key)


@dataclass(frozen=True, slots=True)
class _ShardHost:
    """A shard's folder at a host."""

    host: Host
    folder: str

    def read(self, path: str) -> bytes | None:
        return self.host.read(f"{self.folder}{path}")

    def place(self, files: Iterable[tuple[str, bytes]]) -> None:
        self.host.place((f"{self.folder}{path}", data) for path, data in files)

    def replace(self, path: str, data: bytes, *, before: bytes | None) -> None:
        self.host.replace(f"{self.folder}{path}", data, before=before)


def publish_shard(source: TileSource, host: Host, key: VerifierKey) -> Hosted:
    """Lay one published tree down at ``host``: what is missing there, then the checkpoint.

    May be stopped at any moment and begun again. Every file is checked against the signed root before it leaves, for
    what lies under a lock can't be mended.

    :raises NotFoundError: the source holds no checkpoint. :raises LogRolledBackError: the host knows a longer log.
    :raises ForkError: the host holds another log by the same key. :raises LogError: the source is damaged.
    :raises HostDiffersError: see :class:`Host`. :raises HostMovedError: see :class:`Host`.
    """
    # Before the checkpoint: the cosigned one that was read is then never ahead of it.
    cosigned, data = source.read(COSIGNED), source.read(CHECKPOINT)
    if data is None:
        raise NotFoundError("the folder holds no `checkpoint`", remedy="give the log's published folder")
    head = read_checkpoint(data, key)
    theirs = host.read(CHECKPOINT)
    already = 0 if theirs is None else _continued(source, head, read_checkpoint(theirs, key))
    laid = _Laid()
    host.place(laid.counted(lacking(source, head, already)))
    if data != theirs:
        host.replace(CHECKPOINT, data, before=theirs)
    if cosigned is not None:
        _replace_cosigned(host, cosigned, key)
    return Hosted(size=head.size, before=already, files=laid.files, length=laid.length)


def _continued(source: TileSource, head: Checkpoint, theirs: Checkpoint) -> int:
    if theirs.size > head.size:
        raise LogRolledBackError(
            f"the host has a checkpoint of {theirs.size} entries by this log's key; the folder has {head.size}",
            index=head.size,
            remedy="An older copy is never published over a newer one. If the log itself is shorter: an incident.",
        )
    if theirs.size and range_root(0, theirs.size, TileReader(source, head.size).node) != theirs.root:
        raise ForkError(
            f"the host holds another tree of {theirs.size} entries by this log's key",
            remedy="An incident: keep both checkpoints, they are the proof.",
        )
    return theirs.size


def _replace_cosigned(host: Host, data: bytes, key: VerifierKey) -> None:
    theirs = host.read(COSIGNED)
    if theirs == data:
        return
    if theirs is not None and read_checkpoint(theirs, key).size > read_checkpoint(data, key).size:
        return
    host.replace(COSIGNED, data, before=theirs)


@dataclass(slots=True)
class _Laid:
    files: int = 0
    length: int = 0

    def counted(self, files: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        for path, data in files:
            yield path, data
            self.files += 1
            self.length += len(data)


def lacking(source: TileSource, head: Checkpoint, already: int) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of each tile and bundle of ``head`` that a host with ``already`` entries lacks.

    From the top of the tree down: each tile is compared with the one above it before it is yielded, the topmost with
    the signed root, and each bundle with its tile. So nothing wrong is yielded, whatever lies in the folder.

    :raises LogError: a file is missing, or isn't what was signed.
    """
    if not head.size:
        return
    tiles = TileReader(source, head.size)
    if range_root(0, head.size, tiles.node) != head.root:
        raise EditedEntryError(f"the tiles of {head.size} entries don't hash to the signed root")
    for level in reversed(range(_levels(head.size))):
        for tile in _new_tiles(head.size, already, level):
            hashes = read_hashes(source, tile)
            # A partial tile was hashed into the root above: its hashes are the peaks' own parts.
            if tile.width == WIDTH and complete_root(hashes) != tiles.node(HEIGHT * (level + 1), tile.index):
                raise TileError(
                    f"the hash tile `{tile.path}` isn't the one that was signed",
                    index=(tile.index * WIDTH) << (HEIGHT * level),
                )
            if level == 0:
                yield _bundle(source, tile, hashes)
            yield tile.path, b"".join(hashes)


def _bundle(source: TileSource, tile: Tile, hashes: tuple[bytes, ...]) -> tuple[str, bytes]:
    bundle = Tile(None, tile.index, tile.width)
    entries = read_bundle(source, bundle)
    for index, (entry, stated) in enumerate(zip(entries, hashes, strict=True), tile.index * WIDTH):
        if leaf_hash(entry) != stated:
            raise EditedEntryError(f"entry {index} isn't the one whose hash was logged", index=index)
    return bundle.path, encode_bundle(entries)


def _levels(size: int) -> int:
    return -(-size.bit_length() // HEIGHT)


def _new_tiles(size: int, already: int, level: int) -> Iterator[Tile]:
    count, done = size >> (HEIGHT * level), already >> (HEIGHT * level)
    for index in range(done // WIDTH, -(-count // WIDTH)):
        width = min(WIDTH, count - index * WIDTH)
        if index * WIDTH + width > done:
            yield Tile(level, index, width)
