"""Verifying a published log offline, trusting nothing in it but the key that was given.

Steps, as in docs/spec/transparency-log.md:
1. the checkpoint is the log's; 2. every entry below its size is there; 3. every hash tile is what the entries hash to;
4. the entries hash to the signed root; 5. whoever saw an earlier root of this log saw the root of a part of it;
6. each entry is well formed, numbered without a gap, and signed by the keeper where its key is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import EditedEntryError, ForkError, LogError, MissingRowsError, TileError
from strongroom.audit.facts import Producer
from strongroom.audit.merkle import Frontier, complete_root, fold_peaks, leaf_hash, make_inclusion
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import EntryChecks
from strongroom.audit.spans import Difference, Spread, Told, Walked, compare, require_next, require_open, spans_of, walk
from strongroom.audit.succession import Seam
from strongroom.audit.tiles import CHECKPOINT, WIDTH, Tile, TileReader, TileSource, bundles_of, read_bundle
from strongroom.core.clock import Instant, format_instant
from strongroom.core.encoding import to_base64
from strongroom.core.errors import NotFoundError
from strongroom.core.events import EventName

_NO_CHECKPOINT: Final = "the folder holds no `checkpoint`"
_GIVE_FOLDER: Final = "Give the log's published folder."


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRoot:
    """What somebody saw of this log earlier: the root of its first ``size`` entries. ``where`` says who, in words."""

    size: int
    root: bytes
    where: str

    @classmethod
    def kept(cls, note: bytes, key: VerifierKey) -> SeenRoot:
        """Return what a signed checkpoint that an auditor kept says.

        :raises MalformedError: not a checkpoint. :raises LogError: not this log's.
        """
        checkpoint = read_checkpoint(note, key)
        return cls(size=checkpoint.size, root=checkpoint.root, where="a checkpoint that you kept")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntriesRead:
    """What the entries say, all of them well formed. ``signatures`` counts the keeper's where its key was given."""

    events: Mapping[EventName, int]
    signatures: int | None
    genesis_checked: bool
    first_at: Instant | None
    last_at: Instant | None
    pruned: Mapping[int, int]
    """Shard -> below which of its indexes entries were left out, as these entries say."""
    due: Mapping[Producer, int]
    """The number that each producer's next entry has: the next shard counts on."""

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return {
            "events": {event.value: count for event, count in sorted(self.events.items())},
            "keeper_signatures": self.signatures,
            "genesis_checked": self.genesis_checked,
            "first_at": None if self.first_at is None else format_instant(self.first_at),
            "last_at": None if self.last_at is None else format_instant(self.last_at),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was verified. ``entries`` is None where only hashes and roots were asked for."""

    checkpoint: Checkpoint
    seen: tuple[SeenRoot, ...]
    """Earlier roots that the log continues, in order of size."""
    entries: EntriesRead | None
    minimum: int = 0
    """The first index whose entry was there; below, hash tiles spoke for what was left out."""

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "ok": True,
            "origin": self.checkpoint.origin,
            "size": self.checkpoint.size,
            "root": to_base64(self.checkpoint.root),
            "continues": [one.size for one in self.seen],
            "entries": None if self.entries is None else self.entries.to_json(),
        }


def published_head(source: TileSource, key: VerifierKey) -> Checkpoint:
    """Read and verify the published checkpoint (step 1).

    :raises NotFoundError: there is none. :raises WrongKeyError: another key's or another log's.
    :raises ForgedCheckpointError: the key didn't sign it. :raises MalformedError: not a checkpoint.
    """
    data = source.read(CHECKPOINT)
    if data is None:
        raise NotFoundError(_NO_CHECKPOINT, remedy=_GIVE_FOLDER)
    return read_checkpoint(data, key)


def published_seam(source: TileSource, head: Checkpoint) -> Seam:
    """Return what a shard's folder shows of its end; nothing of it is verified.

    :raises NotFoundError: there is no checkpoint. :raises LogError: entries or tiles aren't there.
    """
    index = head.size - 1
    note = source.read(CHECKPOINT)
    if note is None or index < 0:
        raise NotFoundError(_NO_CHECKPOINT, remedy=_GIVE_FOLDER)
    bundle = read_bundle(source, Tile(None, index // WIDTH, index % WIDTH + 1))
    proof = make_inclusion(index, head.size, TileReader(source, head.size).node)
    return Seam(checkpoint=note, entry=bundle[-1], proof=proof)


def verify_log(
    source: TileSource,
    key: VerifierKey,
    *,
    entries: EntryChecks | None,
    seen: Iterable[SeenRoot] = (),
    spread: Spread = map,
    due: Mapping[Producer, int] | None = None,
    pruned: bool = False,
) -> Report:
    """Verify all of a published log, or of one shard of it.

    :param entries: what each entry is asked for (step 6); None checks hashes and roots alone, some fifty times faster.
    :param seen: roots that somebody saw earlier.
    :param spread: who walks the spans: ``map``, or several processes.
    :param pruned: whether the first bundles of entries may be gone; the caller checks that an entry says so.
    :param due: the number that is due from each producer; None for a log's first shard.
    :raises LogError: the log isn't what it should be; its ``index`` is the first divergent entry, if that is known.
    :raises MalformedError: a checkpoint isn't a note. :raises NotFoundError: there is no checkpoint.
    """
    head = published_head(source, key)
    earlier = sorted(seen, key=lambda one: one.size)
    if earlier and earlier[-1].size > head.size:
        raise MissingRowsError(
            f"the log has {head.size} entries; {earlier[-1].where} has {earlier[-1].size}", index=head.size
        )
    cuts = sorted({one.size for one in earlier if one.size})
    walked: list[Walked] = []
    for part in spread(walk, spans_of(source, head.size, cuts, entries, pruned=pruned)):
        walked.append(part)
        # What stands behind a gap can't be verified. Whoever signs a size of 10^18 must not keep us looking, either.
        if not part.whole:
            break
    bundles = tuple(value for part in walked for value in part.bundles)
    gone = [index for part in walked for index in part.left_out]
    if gone != list(range(len(gone))) or len(gone) * WIDTH >= head.size > 0:
        # Not the first ones alone, or the last one, which always stays: then it is named as missing, like any.
        return verify_log(source, key, entries=entries, seen=earlier, spread=spread, due=due)
    minimum = len(gone) * WIDTH
    _check_tree(source, head, walked, bundles)
    _check_seen(earlier, walked, bundles)
    read = (
        None
        if entries is None
        else _put_together(entries, [part.told for part in walked], due or {}, known=not minimum)
    )
    return Report(checkpoint=head, seen=tuple(earlier), entries=read, minimum=minimum)


def _check_tree(source: TileSource, head: Checkpoint, walked: Sequence[Walked], bundles: Sequence[bytes]) -> None:
    """Steps 2 to 4. Where an entry and its tile differ, the signed root tells which of the two was touched."""
    found: list[LogError | Difference] = []
    for part in walked:
        found += [*part.wrong, *part.differs]
    if not all(part.whole for part in walked):
        raise _first([_edited(one) if isinstance(one, Difference) else one for one in found])
    found += _upper_tiles(source, bundles)
    rest = Frontier.over(walked[-1].rest).peaks if walked else ()
    if _root(Frontier.over(bundles).peaks, rest) == head.root:
        if found:
            raise _first([_damaged(one) if isinstance(one, Difference) else one for one in found])
        return
    differs = [one for one in found if isinstance(one, Difference)]
    if differs:
        raise _edited(_finest(differs))
    raise EditedEntryError(f"the {head.size} entries don't hash to the signed root")


def _first(errors: Sequence[LogError]) -> LogError:
    return min(errors, key=lambda error: error.index or 0)


def _damaged(difference: Difference) -> TileError:
    return TileError(f"the hash tile `{difference.path}` isn't what the entries hash to", index=difference.index)


def _upper_tiles(source: TileSource, bundles: Sequence[bytes]) -> Iterator[TileError | Difference]:
    level, hashes = 1, bundles
    while hashes:
        tiles = [hashes[at : at + WIDTH] for at in range(0, len(hashes), WIDTH)]
        for index, tile in enumerate(tiles):
            found = compare(source, Tile(level, index, len(tile)), tile)
            if found is not None:
                yield found
        level, hashes = level + 1, [complete_root(tile) for tile in tiles if len(tile) == WIDTH]


def _finest(differs: Sequence[Difference]) -> Difference:
    """Return the first difference, as narrow as any tile shows it: an edited entry makes every tile above it differ."""
    first = min(differs)
    inside = [one for one in differs if one.span < first.span and first.index <= one.index < first.index + first.span]
    return _finest(inside) if inside else first


def _edited(difference: Difference) -> EditedEntryError:
    index, last = difference.index, difference.index + difference.span - 1
    what = f"entry {index} isn't" if difference.span == 1 else f"one of the entries {index} to {last} isn't"
    return EditedEntryError(f"{what} the one whose hash was logged", index=index)


def _root(full: Sequence[bytes], rest: Sequence[bytes]) -> bytes:
    # The peaks over full bundles and those over what stands behind them are the peaks of the whole, but where ``rest``
    # is a full bundle itself; then equal peaks meet at its left, and folding from the right joins them all the same.
    return fold_peaks((*full, *rest))


def _check_seen(earlier: Sequence[SeenRoot], walked: Sequence[Walked], bundles: Sequence[bytes]) -> None:
    """Step 5."""
    cut = {size: peaks for part in walked for size, peaks in part.cut.items()}
    grown, done = Frontier(), 0
    for one in earlier:
        while done < (one.size - 1) // WIDTH:
            grown.append(bundles[done])
            done += 1
        if _root(grown.peaks, cut.get(one.size, ())) != one.root:
            raise ForkError(f"the first {one.size} entries aren't those of {one.where}")


def _put_together(
    checks: EntryChecks, told: Sequence[Told], before: Mapping[Producer, int], *, known: bool
) -> EntriesRead:
    """Step 6, across spans: the first entry that doesn't belong, and numbers that go on from span to span.

    Where the first entries were left out the numbers that are due then aren't ``known``.
    """
    events: Counter[EventName] = Counter()
    due = {producer: before.get(producer, 0) for producer in Producer}
    closed, counted = Told(), set[Producer]()
    pruned: dict[int, int] = {}
    for part in told:
        if part.numbered:
            require_open(closed, min(numbers.index for numbers in part.numbered.values()))
        closed = part
        for producer, numbers in part.numbered.items():
            if known or producer in counted:
                require_next(producer, numbers.first, due[producer], numbers.index)
            counted.add(producer)
            due[producer] = numbers.due
        if part.wrong is not None:
            raise part.wrong
        events.update(part.events)
        pruned.update(part.pruned)
    times = [at for part in told for at in (part.first_at, part.last_at) if at is not None]
    return EntriesRead(
        events=events,
        signatures=None if checks.keeper_key is None else sum(part.signatures for part in told),
        genesis_checked=checks.genesis is not None,
        first_at=times[0] if times else None,
        last_at=times[-1] if times else None,
        pruned=pruned,
        due=due,
    )


def verified_entries(source: TileSource, head: Checkpoint) -> Iterator[tuple[int, Entry, bytes]]:
    """Read a log again that :func:`verify_log` verified: index, entry, and the log's root with that entry.

    :raises EditedEntryError: at the end, when it isn't the verified log any more. Believe nothing before that.
    """
    frontier = Frontier()
    for bundle in bundles_of(head.size):
        for index, data in enumerate(read_bundle(source, bundle), bundle.index * WIDTH):
            frontier.append(leaf_hash(data))
            yield index, read_entry(data), frontier.root()
    if frontier.root() != head.root:
        raise EditedEntryError("the log changed while it was read")
