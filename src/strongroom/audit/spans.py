"""A part of a published log, checked by itself: so that several processes can verify one log, each entry read once.

What a part can't know (the root, the tiles above, the producers' counters before it) it hands on to
:mod:`strongroom.audit.verify`, which puts the parts together.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.audit.errors import (
    EditedEntryError,
    LogError,
    MissingRowsError,
    SequenceError,
    SuccessionError,
    TileError,
)
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import Frontier, complete_root, leaf_hash
from strongroom.audit.replay import EntryChecks
from strongroom.audit.tiles import HEIGHT, WIDTH, Tile, TileSource, read_bundle, read_hashes
from strongroom.core.clock import Instant
from strongroom.core.events import EventName

BUNDLES: Final = 64
"""Bundles in a span: large enough that handing one out costs nothing beside it."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """A hash tile and the entries differ; which of them was touched, the signed root tells.

    It lies in one of ``span`` entries from ``index`` on: the first hash that differs covers these.
    """

    index: int
    span: int
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bundles ``first`` up to ``end`` of a log of ``size`` entries."""

    source: TileSource
    size: int
    first: int
    end: int
    cuts: tuple[int, ...]
    """Sizes within the span at which the tree's root will be asked for."""
    entries: EntryChecks | None
    """How each entry is read; None where only hashes are checked."""
    pruned: bool = False
    """Whether bundles may have been left out: then their hash tiles speak for them."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """A producer's numbers in a span: that of its first entry, where it stands, and the number that is due next."""

    first: int
    index: int
    due: int


@dataclass(slots=True)
class Told:
    """What the entries of a span say, as far as they were read."""

    events: Counter[EventName] = field(default_factory=Counter)
    numbered: dict[Producer, Numbers] = field(default_factory=dict)
    signatures: int = 0
    first_at: Instant | None = None
    last_at: Instant | None = None
    pruned: dict[int, int] = field(default_factory=dict)
    """Shard -> below which of its indexes entries were left out from then on."""
    closed: int | None = None
    """Where the entry stands that closed the shard."""
    wrong: LogError | None = None
    """The first entry that doesn't belong; nothing was read behind it."""


@dataclass(slots=True)
class Walked:
    """What a span came to."""

    bundles: list[bytes] = field(default_factory=list)
    """The hash over each full bundle."""
    rest: list[bytes] = field(default_factory=list)
    """Leaf hashes of the log's last, partial bundle, if it is in this span."""
    cut: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    """Size -> the peaks over those entries below it that stand in its own bundle."""
    wrong: list[LogError] = field(default_factory=list)
    differs: list[Difference] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)
    """Bundles that aren't there, where that is allowed: nothing of their entries was read."""
    whole: bool = True
    """False where entries are missing, so that nothing behind them was looked at."""
    told: Told = field(default_factory=Told)


Spread = Callable[[Callable[[Span], Walked], Iterable[Span]], Iterable[Walked]]
"""Applies a function to each span, in order of the results: ``map``, or the same over several processes."""


def spans_of(
    source: TileSource, size: int, cuts: Sequence[int], entries: EntryChecks | None, *, pruned: bool = False
) -> Iterator[Span]:
    """Cut a log into spans; ``cuts`` are sizes in ascending order."""
    bundles = -(-size // WIDTH)
    for first in range(0, bundles, BUNDLES):
        end = min(first + BUNDLES, bundles)
        inside = cuts[bisect_right(cuts, first * WIDTH) : bisect_right(cuts, end * WIDTH)]
        yield Span(source=source, size=size, first=first, end=end, cuts=tuple(inside), entries=entries, pruned=pruned)


def walk(span: Span) -> Walked:
    """Hash every entry of a span, compare each hash with its tile, and read the entries."""
    walked = Walked()
    for index in range(span.first, span.end):
        width = min(WIDTH, span.size - index * WIDTH)
        entries: tuple[bytes, ...] = ()
        try:
            if span.pruned and span.source.read(Tile(None, index, width).path) is None:
                leaves = list(read_hashes(span.source, Tile(0, index, width)))
                walked.left_out.append(index)
            else:
                entries = read_bundle(span.source, Tile(None, index, width))
                leaves = [leaf_hash(entry) for entry in entries]
        except (MissingRowsError, EditedEntryError, TileError) as error:
            walked.wrong.append(error)
            walked.whole = False
            return walked
        if entries:
            _note(walked, compare(span.source, Tile(0, index, width), leaves))
        begin = index * WIDTH
        for size in span.cuts[bisect_right(span.cuts, begin) : bisect_left(span.cuts, begin + width + 1)]:
            walked.cut[size] = Frontier.over(leaves[: size - begin]).peaks
        if width == WIDTH:
            walked.bundles.append(complete_root(leaves))
        else:
            walked.rest = leaves
        if span.entries is not None and walked.told.wrong is None:
            _read(span.entries, walked.told, begin, entries)
    return walked


def _note(walked: Walked, found: TileError | Difference | None) -> None:
    if isinstance(found, Difference):
        walked.differs.append(found)
    elif found is not None:
        walked.wrong.append(found)


def compare(source: TileSource, tile: Tile, computed: Sequence[bytes]) -> TileError | Difference | None:
    """Compare a hash tile with what the entries hash to; returns what is wrong with it, or None."""
    try:
        stored = read_hashes(source, tile)
    except TileError as error:
        return error
    if list(stored) == list(computed):
        return None
    at = next(n for n, (one, other) in enumerate(zip(stored, computed, strict=True)) if one != other)
    up = HEIGHT * (tile.level or 0)
    return Difference((tile.index * WIDTH + at) << up, 1 << up, tile.path)


def number(told: Told, entry: Entry, index: int) -> None:
    """Count an entry of a producer; the first may have any number, for it continues another span.

    :raises SequenceError: it isn't its producer's next.
    """
    before = told.numbered.get(entry.by) or Numbers(entry.seq, index, entry.seq)
    require_next(entry.by, entry.seq, before.due, index)
    told.numbered[entry.by] = Numbers(before.first, before.index, entry.seq + 1)


def require_next(producer: Producer, seq: int, due: int, index: int) -> None:
    """Check a producer's number.

    :raises SequenceError: another one is due.
    """
    if seq != due:
        raise SequenceError(f"entry {index} is number {seq} of `{producer}`; number {due} is due", index=index)


def require_open(told: Told, index: int) -> None:
    """Check that no entry before the one at ``index`` closed the shard.

    :raises SuccessionError: one did.
    """
    if told.closed is not None:
        raise SuccessionError(f"entry {index} follows the one that closed the shard", index=index)


def _read(checks: EntryChecks, told: Told, begin: int, entries: Iterable[bytes]) -> None:
    for index, data in enumerate(entries, begin):
        try:
            entry = checks.read(index, data)
            require_open(told, index)
            number(told, entry, index)
        except LogError as error:
            told.wrong = error
            return
        told.events[entry.event] += 1
        told.signatures += entry.by is Producer.KEEPER
        told.first_at = entry.at if told.first_at is None else told.first_at
        told.last_at = entry.at
        if entry.event is EventName.SHARD_PRUNED:
            told.pruned[entry.integer("shard")] = entry.integer("minimum")
        told.closed = index if entry.event is EventName.SHARD_CLOSED else None
