"""A log as its readers see it: a head, entries, proofs. Where they come from isn't trusted with anything else."""

from __future__ import annotations

from typing import Final, Protocol

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.errors import EditedEntryError, EntryError, EntryForgedError, MissingRowsError
from strongroom.audit.merkle import leaf_hash, make_consistency, make_inclusion, verify_inclusion
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.tiles import CHECKPOINT, WIDTH, Tile, TileReader, TileSource, read_bundle
from strongroom.audit.verify import published_head
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.signature import PublicKey


class LogView(Protocol):
    """One log, read from somewhere. Entries and proofs are unverified; :mod:`.growth` and :func:`entry_at` verify.

    Every method raises UnavailableError when nobody answers, and LogError where a folder is damaged.
    """

    @property
    def signed(self) -> bool:
        """Whether the head was checked with the log's key; without one, only damage is noticed, not forgery."""
        ...

    @property
    def keeper_key(self) -> PublicKey | None:
        """The key that the keeper's entries are checked with; None where the genesis isn't known."""
        ...

    def head(self) -> Checkpoint:
        """Return the newest checkpoint, verified where :attr:`signed`."""
        ...

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return at least one and at most ``count`` entries from ``start`` on."""
        ...

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the audit path of entry ``index`` in the tree of ``size`` entries."""
        ...

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that ``old`` entries are a prefix of ``new``."""
        ...


_KEPT: Final = 32
"""Bundles of entries in memory: of 256 entries each, some megabytes in all."""


class PublishedView:
    """A published log, in a folder or wherever its tiles lie.

    :param key: the log's verifier key; None reads what the checkpoint claims.
    """

    def __init__(self, source: TileSource, key: VerifierKey | None, keeper_key: PublicKey | None) -> None:
        self._source = source
        self._key = key
        self.keeper_key = keeper_key
        self._size = 0
        self._tiles = TileReader(source, 0)
        self._bundles: dict[Tile, tuple[bytes, ...]] = {}

    @property
    def signed(self) -> bool:
        """Whether the head was checked with the log's key."""
        return self._key is not None

    def head(self) -> Checkpoint:
        """Read the checkpoint; raises as ``published_head`` does."""
        head = _claimed_head(self._source) if self._key is None else published_head(self._source, self._key)
        if head.size != self._size:
            # Whatever is kept was unverified when it was read, and is verified each time that it is used.
            self._size, self._tiles, self._bundles = head.size, TileReader(self._source, head.size), {}
        return head

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Read entries from one bundle.

        :raises MissingRowsError: they aren't there.
        """
        index = start // WIDTH
        width = min(WIDTH, self._size - index * WIDTH)
        if width <= start % WIDTH:
            raise MissingRowsError(f"the log has {self._size} entries, none with index {start}", index=self._size)
        bundle = Tile(None, index, width)
        if bundle not in self._bundles:
            if len(self._bundles) >= _KEPT:
                self._bundles.clear()
            self._bundles[bundle] = read_bundle(self._source, bundle)
        return self._bundles[bundle][start % WIDTH : start % WIDTH + count]

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Make the proof from the hash tiles."""
        return make_inclusion(index, size, self._tiles.node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Make the proof from the hash tiles."""
        return make_consistency(old, new, self._tiles.node)


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
        proof = view.inclusion(index, head.size)
        verify_inclusion(index=index, size=head.size, leaf=leaf_hash(data), proof=proof, root=head.root)
    return data, judged(view, index, data)


def one(view: LogView, index: int) -> bytes:
    """Return the bytes that are said to be entry ``index``; nothing is verified.

    :raises MalformedError: none, or several were handed over.
    """
    entries = view.entries(index, 1)
    if len(entries) != 1:
        raise MalformedError(f"entry {index} was asked for, and {len(entries)} entries came")
    return entries[0]
