"""A log as its readers see it: a head, entries, proofs. Where they come from isn't trusted with anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.errors import EditedEntryError, EntryError, EntryForgedError, MissingRowsError
from strongroom.audit.merkle import EMPTY_ROOT, leaf_hash, make_consistency, make_inclusion, verify_inclusion
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.protocol import MAX_PROVEN, ProvenEntry
from strongroom.audit.succession import Succession, folder_of, is_published
from strongroom.audit.tiles import CHECKPOINT, WIDTH, ShardSource, Tile, TileReader, TileSource, read_bundle
from strongroom.audit.verify import published_head, published_seam
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.signature import PublicKey


@dataclass(frozen=True, slots=True)
class Extent:
    """A shard's tree, as far as a reader knows it: it holds the entries from ``base`` up to ``end``, under ``root``."""

    base: int
    end: int
    root: bytes

    @property
    def size(self) -> int:
        """Entries in the tree."""
        return self.end - self.base


class LogView(Protocol):
    """One log of one or more shards, read from somewhere; indexes and sizes count over all of them.

    Entries and proofs are unverified; :mod:`.growth` and :func:`entry_at` verify. Every method raises UnavailableError
    when nobody answers, and LogError where a folder is damaged.
    """

    @property
    def signed(self) -> bool:
        """Whether the head was checked with the log's keys; without one, only damage is noticed, not forgery."""
        ...

    @property
    def keeper_key(self) -> PublicKey | None:
        """The key that the keeper's entries are checked with; None where the genesis isn't known."""
        ...

    def head(self) -> Checkpoint:
        """Return the newest state, verified where :attr:`signed`: the first shard's origin, the size over all shards,
        and the root of the tree that holds the last entry.
        """
        ...

    def extent(self, index: int) -> Extent:
        """Return the tree that holds entry ``index``, as of the last :meth:`head`, and as well verified."""
        ...

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return at least one and at most ``count`` entries from ``start`` on, all of one shard."""
        ...

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the audit path of entry ``index`` in its shard's tree, as of the first ``size`` entries of the log."""
        ...

    def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return at least the first of these entries of one shard, in one call, each with its audit path.

        :param places: at most :data:`MAX_PROVEN`. :param size: as in :meth:`inclusion`.
        """
        ...

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that ``old`` entries are a prefix of ``new``, both ending in one shard."""
        ...


_KEPT: Final = 32
"""Bundles of entries in memory: of 256 entries each, some megabytes in all."""


class _PublishedShard:
    """One shard of a published log, with indexes of its own. What it keeps was unverified when it was read."""

    def __init__(self, source: TileSource, base: int) -> None:
        self.source = source
        self.base = base
        self.head = Checkpoint("none", 0, EMPTY_ROOT)
        self.tiles = TileReader(source, 0)
        self._bundles: dict[Tile, tuple[bytes, ...]] = {}

    def moved(self, head: Checkpoint) -> None:
        """Go on with a newer head."""
        if head != self.head:
            self.head, self.tiles, self._bundles = head, TileReader(self.source, head.size), {}

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        index = start // WIDTH
        width = min(WIDTH, self.head.size - index * WIDTH)
        if width <= start % WIDTH:
            raise MissingRowsError(f"there is no entry {self.base + start}", index=self.base + self.head.size)
        bundle = Tile(None, index, width)
        if bundle not in self._bundles:
            if len(self._bundles) >= _KEPT:
                self._bundles.clear()
            self._bundles[bundle] = read_bundle(self.source, bundle)
        return self._bundles[bundle][start % WIDTH : start % WIDTH + count]


class PublishedView:
    """A published log, in a folder or wherever its tiles lie.

    :param key: the first shard's verifier key; None reads what the checkpoints claim.
    """

    def __init__(self, source: TileSource, key: VerifierKey | None, keeper_key: PublicKey | None) -> None:
        self._source = source
        self._known = None if key is None else Succession.from_key(key)
        self.keeper_key = keeper_key
        self._shards = [_PublishedShard(source, 0)]

    @property
    def signed(self) -> bool:
        """Whether the head was checked with the log's keys."""
        return self._known is not None

    def head(self) -> Checkpoint:
        """Read the newest checkpoint, and how every shard before it was closed.

        :raises LogError: a shard isn't shown to be closed for the next. Raises as ``published_head`` does.
        """
        while True:
            newest = self._shards[-1]
            newest.moved(self._read_head(newest.source))
            number = len(self._shards) + 1
            if not is_published(self._source, number):
                break
            # The next shard is there: now this one's end must be its end, as it is published this moment.
            newest.moved(self._read_head(newest.source))
            if self._known is not None:
                self._known = self._known.cross(published_seam(newest.source, newest.head), self.keeper_key)
            following = ShardSource(self._source, folder_of(number))
            self._shards.append(_PublishedShard(following, newest.base + newest.head.size))
        return Checkpoint(self._shards[0].head.origin, newest.base + newest.head.size, newest.head.root)

    def extent(self, index: int) -> Extent:
        """Return the tree that holds an entry."""
        shard = self._holding(index)
        return Extent(shard.base, shard.base + shard.head.size, shard.head.root)

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Read entries from one bundle.

        :raises MissingRowsError: they aren't there.
        """
        shard = self._holding(start)
        return shard.entries(start - shard.base, count)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Make the proof from the hash tiles."""
        shard = self._holding(index)
        return make_inclusion(index - shard.base, min(size - shard.base, shard.head.size), shard.tiles.node)

    def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Read each, and make its proof."""
        return tuple((one(self, place), self.inclusion(place, size)) for place in places)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Make the proof from the hash tiles."""
        shard = self._holding(new - 1)
        return make_consistency(max(0, old - shard.base), new - shard.base, shard.tiles.node)

    def _holding(self, index: int) -> _PublishedShard:
        return next(shard for shard in reversed(self._shards) if shard.base <= max(0, index))

    def _read_head(self, source: TileSource) -> Checkpoint:
        return _claimed_head(source) if self._known is None else published_head(source, self._known.current.verifier)


def _claimed_head(source: TileSource) -> Checkpoint:
    data = source.read(CHECKPOINT)
    if data is None:
        raise NotFoundError("the folder holds no `checkpoint`", remedy="give the log's published folder")
    return Checkpoint.parse_text(Note.parse(data).text)


MAX_COUNT: Final = WIDTH
"""How many entries are asked for at once: what a bundle holds, and what the broker gives."""


def judged(view: LogView, index: int, data: bytes) -> Entry:
    """Read one entry that is proven to be in the log, and check the keeper's signature where its key is known.

    :raises EditedEntryError: the log's writer let something in that is no entry.
    :raises EntryForgedError: the keeper didn't sign it, though it says so.
    """
    try:
        entry = read_entry(data)
    except EntryError as error:
        raise EditedEntryError(f"entry {index}: {error.message}", index=index) from None
    if view.keeper_key is not None:
        try:
            verify_entry(entry, view.keeper_key)
        except EntryForgedError as error:
            raise EntryForgedError(f"entry {index}: {error.message}", index=index) from None
    return entry


def entry_at(view: LogView, head: Checkpoint, index: int) -> tuple[bytes, Entry]:
    """Return one entry, proven to be in the log where the head is signed.

    :raises NotFoundError: the log has no such entry. :raises ProofError: another one stands there.
    """
    if not 0 <= index < head.size:
        raise NotFoundError(f"the log has {head.size} entries, none with index {index}")
    data = one(view, index)
    if view.signed:
        tree = view.extent(index)
        proof = view.inclusion(index, tree.end)
        verify_inclusion(index=index - tree.base, size=tree.size, leaf=leaf_hash(data), proof=proof, root=tree.root)
    return data, judged(view, index, data)


def entries_at(view: LogView, head: Checkpoint, places: Sequence[int]) -> dict[int, Entry]:
    """Return at least the first of several entries, each proven as in :func:`entry_at`: one call of the log.

    :param places: in their order; those are left for another call that are too many, or in another shard.
    :raises NotFoundError: the log has no such entry. :raises ProofError: another one stands there.
    :raises MissingRowsError: none were shown, or more than were asked for.
    """
    if any(not 0 <= place < head.size for place in places):
        raise NotFoundError(f"the log has {head.size} entries, and not all that were asked for")
    tree = view.extent(places[0])
    asked = [place for place in places if tree.base <= place < tree.end][:MAX_PROVEN]
    shown = view.together(asked, tree.end)
    if not 0 < len(shown) <= len(asked):
        # Whoever goes on behind what came would never end, or take another entry for the one that was asked for.
        raise MissingRowsError(f"the entries from index {places[0]} on weren't shown", index=places[0])
    found: dict[int, Entry] = {}
    for place, (data, proof) in zip(asked, shown, strict=False):
        if view.signed:
            verify_inclusion(index=place - tree.base, size=tree.size, leaf=leaf_hash(data), proof=proof, root=tree.root)
        found[place] = judged(view, place, data)
    return found


def one(view: LogView, index: int) -> bytes:
    """Return the bytes that are said to be entry ``index``; nothing is verified.

    :raises MalformedError: none, or several were handed over.
    """
    entries = view.entries(index, 1)
    if len(entries) != 1:
        raise MalformedError(f"entry {index} was asked for, and {len(entries)} entries came")
    return entries[0]
