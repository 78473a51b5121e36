"""Following a log that grows: from a place that is remembered, a few entries at a time, each proven before it's shown.

A place is the frontier of the entries that were taken. Growing it by the next ones gives the root of a longer prefix,
and one consistency proof shows that the signed log begins with that: nothing was edited, left out or put in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry
from strongroom.audit.errors import EditedEntryError, ForkError, MissingRowsError, ProofError, StoreDamagedError
from strongroom.audit.merkle import HASH_SIZE, Frontier, leaf_hash, verify_consistency
from strongroom.audit.reading.view import MAX_COUNT, Extent, LogView, judged, one
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_PLACE_FILE: Final = 8192
STEP: Final = 8 * MAX_COUNT
"""How many entries are held in memory and proven at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a log was read, and what it was up to there: enough to tell a log that went back or was rewritten.

    ``origin`` is the first shard's, ``size`` counts over all shards, ``peaks`` are those of the tree that holds the
    last entry that was read.
    """

    origin: str
    size: int
    peaks: bytes

    def frontier(self, base: int) -> Frontier:
        """Return the right edge of that tree, before which stand ``base`` entries of the log.

        :raises ForkError: the tree that was read isn't one that begins there.
        """
        try:
            return Frontier.from_bytes(self.size - base, self.peaks)
        except StoreDamagedError:
            raise ForkError("the place that was remembered isn't one of this log's shards") from None

    @classmethod
    def start(cls, origin: str) -> Place:
        """Return the place before the first entry."""
        return cls(origin, 0, b"")

    @classmethod
    def parse(cls, data: bytes) -> Place:
        """Read a cursor's file.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_PLACE_FILE), "cursor") as fields:
            fields.constant("v", 1)
            place = cls(
                fields.text("origin", max_length=1024), fields.integer("size"), fields.binary("peaks", max_length=2048)
            )
        if len(place.peaks) % HASH_SIZE or (place.size == 0) is not (not place.peaks):
            raise MalformedError(f"`cursor.peaks` holds hashes of {HASH_SIZE} bytes")
        return place

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        body: Json = {"v": 1, "origin": self.origin, "size": self.size, "peaks": to_base64(self.peaks)}
        return encode(body)


def place_at(view: LogView, head: Checkpoint, size: int) -> Place:
    """Return the place after the first ``size`` entries of the log, proven to be a prefix of it.

    :raises MissingRowsError: it has fewer. :raises ForkError: what was shown is no prefix of it.
    """
    if size > head.size:
        raise MissingRowsError(f"the log has {head.size} entries, not {size}", index=head.size)
    if size == 0:
        return Place.start(head.origin)
    # The audit path of a tree's last entry is made of the peaks before it, smallest first.
    base = view.extent(size - 1).base
    before = view.inclusion(size - 1, size)
    try:
        frontier = Frontier(size - base - 1, reversed(before))
    except StoreDamagedError:
        raise ForkError(f"no proof of the log's first {size} entries was shown") from None
    frontier.append(leaf_hash(one(view, size - 1)))
    place = Place(head.origin, size, frontier.to_bytes())
    check_continues(view, place, head)
    return place


def check_continues(view: LogView, place: Place, head: Checkpoint) -> None:
    """Check that the log with this head begins with everything that was read up to ``place``.

    :raises MissingRowsError: the log is shorter now. :raises ForkError: it's another one, or was rewritten.
    """
    if place.origin != head.origin:
        raise ForkError("the place that was remembered is one of another log")
    if head.size < place.size:
        raise MissingRowsError(f"the log has {head.size} entries; {place.size} were read before", index=head.size)
    if place.size == 0:
        return
    tree = view.extent(place.size - 1)
    try:
        _prove(view, place.frontier(tree.base), tree)
    except ProofError:
        raise ForkError(f"the log doesn't continue the {place.size} entries that were read before") from None


def grow(view: LogView, place: Place, head: Checkpoint) -> Iterator[tuple[Place, tuple[bytes, ...]]]:
    """Yield the entries from ``place`` to the head, some at a time, each with the place after them.

    :raises MissingRowsError: as :func:`check_continues`, or an entry isn't there. :raises ForkError: likewise.
    :raises EditedEntryError: what was shown isn't what was logged.
    """
    check_continues(view, place, head)
    while place.size < head.size:
        first, tree = place.size, view.extent(place.size)
        frontier = next_frontier(place, tree)
        taken: list[bytes] = []
        while len(taken) < STEP and first + len(taken) < tree.end:
            at = first + len(taken)
            # Up to the next multiple: a source that keeps bundles reads each of them once.
            count = min(MAX_COUNT - (at - tree.base) % MAX_COUNT, tree.end - at)
            entries = view.entries(at, count)
            if not 0 < len(entries) <= count:
                raise MissingRowsError(f"the entries from index {at} on weren't shown", index=at)
            taken += entries
        for entry in taken:
            frontier.append(leaf_hash(entry))
        try:
            _prove(view, frontier, tree)
        except ProofError:
            last = first + len(taken) - 1
            raise EditedEntryError(
                f"entries {first} to {last} aren't all the ones that were logged", index=first
            ) from None
        place = Place(place.origin, first + len(taken), frontier.to_bytes())
        yield place, tuple(taken)


def next_frontier(place: Place, tree: Extent) -> Frontier:
    """Return the right edge of what was read of the tree that holds the next entry: nothing where a shard begins."""
    return Frontier() if place.size == tree.base else place.frontier(tree.base)


def read_from(view: LogView, place: Place, head: Checkpoint) -> Iterator[tuple[int, Entry]]:
    """Yield each entry from ``place`` to the head with its index, proven, and the keeper's signature checked.

    :raises LogError: as :func:`grow` and ``judged``.
    """
    for after, entries in grow(view, place, head):
        for index, data in enumerate(entries, after.size - len(entries)):
            yield index, judged(view, index, data)


def _prove(view: LogView, frontier: Frontier, tree: Extent) -> None:
    old, new = frontier.size, tree.size
    proof = view.consistency(tree.base + old, tree.end) if 0 < old < new else ()
    verify_consistency(old=old, new=new, old_root=frontier.root(), new_root=tree.root, proof=proof)
