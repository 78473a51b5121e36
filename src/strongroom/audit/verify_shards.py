"""Verifying all shards of a published log: each as a log of its own, and every seam between two of them.

Given is the first shard's key; each later one's is what the shard before it was closed with. Nothing of a seam may be
left out: a closed shard without its successor, or a successor of a shard that isn't closed, is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import EntryError, LogError, MissingRowsError, ShardMissingError, SuccessionError
from strongroom.audit.facts import Producer
from strongroom.audit.replay import EntryChecks
from strongroom.audit.spans import Spread
from strongroom.audit.succession import Head, Shard, Succession, is_published
from strongroom.audit.tiles import COSIGNED, ShardSource, TileSource
from strongroom.audit.verify import (
    EntriesRead,
    Report,
    SeenRoot,
    published_head,
    published_seam,
    verified_entries,
    verify_log,
)
from strongroom.core.encoding import to_base64
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """What was verified: a report for each shard, oldest first."""

    succession: Succession
    reports: tuple[Report, ...]

    @property
    def newest(self) -> Report:
        """The open shard's report."""
        return self.reports[-1]

    @property
    def size(self) -> int:
        """Entries in all shards."""
        return self.succession.current.base + self.newest.checkpoint.size

    @property
    def seen(self) -> tuple[SeenRoot, ...]:
        """Earlier roots that the log continues, in order; sizes count over all shards."""
        return tuple(replace(one, size=shard.base + one.size) for shard, report in self.shards() for one in report.seen)

    @property
    def pruned(self) -> dict[int, int]:
        """Shard -> how many of its first entries were left out."""
        return {shard.number: report.minimum for shard, report in self.shards() if report.minimum}

    def unrecorded(self) -> Iterator[Shard]:
        """Yield the shards of which more was left out than an entry says."""
        recorded: dict[int, int] = {}
        for one in self.reports:
            recorded.update({} if one.entries is None else one.entries.pruned)
        for shard, one in self.shards():
            if one.minimum > recorded.get(shard.number, 0):
                yield shard

    @property
    def entries(self) -> EntriesRead | None:
        """What all the entries say; None where only hashes and roots were asked for."""
        read = [report.entries for report in self.reports if report.entries is not None]
        if len(read) != len(self.reports):
            return None
        events: Counter[EventName] = Counter()
        for one in read:
            events.update(one.events)
        counted = [one.signatures for one in read if one.signatures is not None]
        return replace(
            read[-1],
            events=events,
            signatures=sum(counted) if len(counted) == len(read) else None,
            first_at=read[0].first_at,
        )

    def shards(self) -> Iterator[tuple[Shard, Report]]:
        """Yield each shard with its report."""
        return zip(self.succession.shards, self.reports, strict=True)

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object; sizes count over all shards but where a shard's own is shown."""
        head, entries = self.newest.checkpoint, self.entries
        return {
            "ok": True,
            "origin": head.origin,
            "size": self.size,
            "root": to_base64(head.root),
            "shards": [
                {
                    "origin": shard.origin,
                    "base": shard.base,
                    "size": report.checkpoint.size,
                    "minimum": report.minimum,
                    "root": to_base64(report.checkpoint.root),
                }
                for shard, report in self.shards()
            ],
            "continues": [one.size for one in self.seen],
            "entries": None if entries is None else entries.to_json(),
        }


def verify_shards(
    source: TileSource,
    first: Succession,
    *,
    entries: EntryChecks | None,
    keeper_key: PublicKey | None,
    kept: Sequence[bytes] = (),
    cosigned: bool,
    spread: Spread = map,
) -> LogReport:
    """Verify every shard of a published log.

    :param first: the first shard alone.
    :param entries: as for :func:`verify_log`; the opening of later shards is added.
    :param keeper_key: who must have closed each shard; None takes the log key's word for it.
    :param kept: signed checkpoints that an auditor kept, of any shard.
    :param cosigned: whether what witnesses cosigned last counts as kept.
    :raises LogError: as :func:`verify_log`; ``index`` counts over all shards.
    :raises ShardMissingError: a closed shard's successor isn't there. :raises SuccessionError: a seam that isn't one.
    :raises StrongroomError: a kept checkpoint isn't one of this log.
    """
    known, reports = first, list[Report]()
    due: Mapping[Producer, int] = {}
    while True:
        shard = known.current
        part = ShardSource(source, shard.folder)
        try:
            report = verify_log(
                part,
                shard.verifier,
                entries=None if entries is None else replace(entries, opening=known.opening),
                seen=_seen(part, known, kept, cosigned=cosigned),
                spread=spread,
                due=due,
                # Of an open shard nothing may be left out; that this one is closed is seen at its end.
                pruned=entries is not None,
            )
            reports.append(report)
            following = _follow(part, source, known, report, keeper_key)
        except LogError as error:
            raise _in_shard(error, shard) from None
        if following is None:
            break
        known = following
        due = {} if report.entries is None else report.entries.due
    _none_left(known, kept)
    found = LogReport(succession=known, reports=tuple(reports))
    for shard in found.unrecorded():
        # Nobody said that entries were left out: this names the first that is missing.
        try:
            verify_log(ShardSource(source, shard.folder), shard.verifier, entries=None, spread=spread)
        except LogError as error:
            raise _in_shard(error, shard) from None
    return found


def published_log(source: TileSource, first: Succession, keeper_key: PublicKey | None) -> tuple[Succession, Head]:
    """Follow a published log's seams to its newest checkpoint, without reading its entries.

    :param first: the first shard alone. :param keeper_key: as for :func:`verify_shards`.
    :raises SuccessionError: a shard isn't shown to be closed for the next. Raises as :func:`published_head` too.
    """
    known = first
    while is_published(source, known.current.number + 1):
        part = ShardSource(source, known.current.folder)
        known = known.cross(published_seam(part, published_head(part, known.current.verifier)), keeper_key)
    head = published_head(ShardSource(source, known.current.folder), known.current.verifier)
    return known, Head(known.current, head)


def verified_shard_entries(source: TileSource, report: LogReport) -> Iterator[tuple[int, Entry, bytes]]:
    """Read a log again that was verified: index over all shards, entry, and its tree's root with that entry.

    :raises EditedEntryError: at a shard's end, when it isn't the verified one any more. Believe nothing before that.
    """
    for shard, one in report.shards():
        for index, entry, root in verified_entries(ShardSource(source, shard.folder), one.checkpoint):
            yield shard.base + index, entry, root


def _seen(source: TileSource, known: Succession, kept: Iterable[bytes], *, cosigned: bool) -> list[SeenRoot]:
    shard = known.current
    seen = [SeenRoot.kept(note, shard.verifier) for note in kept if shard.named_in(note)]
    # Witnesses cosign now and then; what they saw last must be where this log comes from.
    note = source.read(COSIGNED) if cosigned else None
    if note is not None:
        seen.append(replace(SeenRoot.kept(note, shard.verifier), where=f"`{COSIGNED}`"))
    return seen


def _follow(
    part: TileSource, source: TileSource, known: Succession, report: Report, keeper_key: PublicKey | None
) -> Succession | None:
    """Return the succession with the next shard, or None where the verified one is open."""
    number = known.current.number
    there = is_published(source, number + 1)
    seam = published_seam(part, report.checkpoint) if report.checkpoint.size else None
    try:
        closed = seam is not None and read_entry(seam.entry).event is EventName.SHARD_CLOSED
    except EntryError:
        closed = False
    if not closed or seam is None:
        if there:
            raise SuccessionError(f"there is a shard {number + 1}, and shard {number} isn't closed")
        return None
    following = known.cross(seam, keeper_key)
    if following.finals[-1] != report.checkpoint:
        raise SuccessionError(f"shard {number} changed while it was verified")
    if not there:
        raise ShardMissingError(f"shard {number} is closed, and shard {number + 1} isn't there")
    return following


def _none_left(known: Succession, kept: Iterable[bytes]) -> None:
    """Check that each kept checkpoint was of one of the shards."""
    for note in kept:
        if known.knows(note):
            continue
        base = known.shards[0].origin.encode() + b"/"
        if note.startswith(base):
            raise MissingRowsError("a checkpoint that you kept is of a shard that isn't there")
        # Another log's: reading it with this one's key says so.
        SeenRoot.kept(note, known.current.verifier)


def _in_shard(error: LogError, shard: Shard) -> LogError:
    if shard.number == 1:
        return error
    index = None if error.index is None else shard.base + error.index
    return type(error)(f"shard {shard.number}: {error.message}", index=index, remedy=error.remedy)
