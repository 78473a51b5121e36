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
from strongroom.audit.merkle import Frontier, leaf_hash, verify_consistency
from strongroom.audit.reading.view import MAX_COUNT, LogView, judged, one
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_PLACE_FILE: Final = 8192
STEP: Final = 8 * MAX_COUNT
"""How many entries are held in memory and proven at once."""


@dataclass(frozen=True, slots=True)
class Place:
    """How far a log was read, and what it was up to there: enough to tell a log that went back or was rewritten."""

    origin: str
    size: int
    peaks: bytes

    @property
    def frontier(self) -> Frontier:
        """The right edge of the tree of everything that was read."""
        return Frontier.from_bytes(self.size, self.peaks)

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
        try:
            _ = place.frontier
        except StoreDamagedError as error:
            raise MalformedError(f"`cursor.peaks`: {error.message}") from None
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
    before = view.inclusion(size - 1, size)
    try:
        frontier = Frontier(size - 1, reversed(before))
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
    try:
        _prove(view, place.frontier, head)
    except ProofError:
        raise ForkError(f"the log doesn't continue the {place.size} entries that were read before") from None


def grow(view: LogView, place: Place, head: Checkpoint) -> Iterator[tuple[Place, tuple[bytes, ...]]]:
    """Yield the entries from ``place`` to the head, some at a time, each with the place after them.

    :raises MissingRowsError: as :func:`check_continues`, or an entry isn't there. :raises ForkError: likewise.
    :raises EditedEntryError: what was shown isn't what was logged.
    """
    check_continues(view, place, head)
    while place.size < head.size:
        first, frontier = place.size, place.frontier
        taken: list[bytes] = []
        while len(taken) < STEP and first + len(taken) < head.size:
            at = first + len(taken)
            # Up to the next multiple: a source that keeps bundles reads each of them once.
            count = min(MAX_COUNT - at % MAX_COUNT, head.size - at)
            entries = view.entries(at, count)
            if not 0 < len(entries) <= count:
                raise MissingRowsError(f"the entries from index {at} on weren't shown", index=at)
            taken += entries
        for entry in taken:
            frontier.append(leaf_hash(entry))
        try:
            _prove(view, frontier, head)
        except ProofError:
            raise EditedEntryError(
                f"entries {first} to {frontier.size - 1} aren't all the ones that were logged", index=first
            ) from None
        place = Place(place.origin, frontier.size, frontier.to_bytes())
        yield place, tuple(taken)


def read_from(view: LogView, place: Place, head: Checkpoint) -> Iterator[tuple[int, Entry]]:
    """Yield each entry from ``place`` to the head with its index, proven, and the keeper's signature checked.

    :raises LogError: as :func:`grow` and ``judged``.
    """
    for after, entries in grow(view, place, head):
        for index, data in enumerate(entries, after.size - len(entries)):
            yield index, judged(view, index, data)


def _prove(view: LogView, frontier: Frontier, head: Checkpoint) -> None:
    proof = view.consistency(frontier.size, head.size) if 0 < frontier.size < head.size else ()
    verify_consistency(old=frontier.size, new=head.size, old_root=frontier.root(), new_root=head.root, proof=proof)
