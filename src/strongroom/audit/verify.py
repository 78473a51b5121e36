"""Verifying a published log offline, trusting nothing in it but the key that was given.

Steps, as in docs/spec/audit-entries.md:
1. the checkpoint is the log's; 2. every entry is there, well formed, numbered without a gap, signed by the keeper
where its key is given; 3. every hash tile is what the entries hash to; 4. the entries hash to the signed root;
5. an earlier checkpoint, if given, is of the same log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import EditedEntryError, ForkError, MissingRowsError, TileError
from strongroom.audit.merkle import leaf_hash, make_inclusion, tree_root, verify_inclusion
from strongroom.audit.note import Note, VerifierKey
from strongroom.audit.replay import Replay
from strongroom.audit.tiles import (
    CHECKPOINT,
    WIDTH,
    Tile,
    TileBuilder,
    TileReader,
    TileSource,
    bundles_of,
    read_bundle,
    read_hashes,
)
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import NotFoundError
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey

_NO_CHECKPOINT: Final = "the folder holds no `checkpoint`"
_GIVE_FOLDER: Final = "Give the log's published folder."


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was verified. ``keeper_signatures`` is None where no keeper key was given, so none was checked."""

    checkpoint: Checkpoint
    events: Mapping[EventName, int]
    keeper_signatures: int | None
    genesis_checked: bool
    first_at: Instant | None
    last_at: Instant | None
    previous: Checkpoint | None

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object."""
        return {
            "ok": True,
            "origin": self.checkpoint.origin,
            "size": self.checkpoint.size,
            "root": to_base64(self.checkpoint.root),
            "events": {event.value: count for event, count in sorted(self.events.items())},
            "keeper_signatures": self.keeper_signatures,
            "genesis_checked": self.genesis_checked,
            "first_at": None if self.first_at is None else format_instant(self.first_at),
            "last_at": None if self.last_at is None else format_instant(self.last_at),
            "previous_size": None if self.previous is None else self.previous.size,
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


def verify_log(
    source: TileSource,
    key: VerifierKey,
    *,
    keeper_key: PublicKey | None = None,
    genesis: Digest | None = None,
    previous: bytes | None = None,
) -> Report:
    """Verify all of a published log; ``previous`` is a signed checkpoint that the auditor kept.

    :raises LogError: the log isn't what it should be; its ``index`` is the first divergent entry, if that is known.
    :raises MalformedError: a checkpoint isn't a note. :raises NotFoundError: there is no checkpoint.
    """
    head = published_head(source, key)
    earlier = None if previous is None else read_checkpoint(previous, key)
    if earlier is not None and earlier.size > head.size:
        raise MissingRowsError(
            f"the log has {head.size} entries; the earlier checkpoint has {earlier.size}", index=head.size
        )
    walk = _Walk(source, head, Replay(keeper_key=keeper_key, genesis=genesis), earlier)
    walk.run()
    return Report(
        checkpoint=head,
        events=walk.events,
        keeper_signatures=None if keeper_key is None else walk.replay.signatures,
        genesis_checked=genesis is not None,
        first_at=walk.first_at,
        last_at=walk.last_at,
        previous=earlier,
    )


class _Walk:
    """One pass over all entries."""

    def __init__(self, source: TileSource, head: Checkpoint, replay: Replay, earlier: Checkpoint | None) -> None:
        self.source = source
        self.head = head
        self.replay = replay
        self.earlier = earlier
        self.builder = TileBuilder()
        self.events: Counter[EventName] = Counter()
        self.first_at: Instant | None = None
        self.last_at: Instant | None = None

    def run(self) -> None:
        self._compare_earlier()
        for bundle in bundles_of(self.head.size):
            entries = read_bundle(self.source, bundle)
            leaves = [leaf_hash(entry) for entry in entries]
            # The hash tile first: where it disagrees, it names the very entry that was edited.
            self._compare_leaves(Tile(0, bundle.index, bundle.width), leaves)
            for data, leaf in zip(entries, leaves, strict=True):
                self._take(self.replay.feed(data, leaf))
                for tile, computed in self.builder.append(leaf):
                    if tile.level:
                        self._compare(tile, computed)
                self._compare_earlier()
        for tile, computed in self.builder.partials():
            if tile.level:
                self._compare(tile, computed)
        self.replay.finish(self.head)

    def _take(self, entry: Entry) -> None:
        self.events[entry.event] += 1
        if self.first_at is None:
            self.first_at = entry.at
        self.last_at = entry.at

    def _compare_leaves(self, tile: Tile, leaves: list[bytes]) -> None:
        for offset, (stored, computed) in enumerate(zip(read_hashes(self.source, tile), leaves, strict=True)):
            if stored != computed:
                index = tile.index * WIDTH + offset
                if self._entries_are_signed():
                    raise TileError(f"the hash tile `{tile.path}` isn't what the entries hash to", index=index)
                raise EditedEntryError(f"entry {index} isn't the one whose hash was logged", index=index)

    def _entries_are_signed(self) -> bool:
        # Entry and hash tile disagree: the signed root tells which of the two was touched.
        bundles = (read_bundle(self.source, bundle) for bundle in bundles_of(self.head.size))
        return tree_root(leaf_hash(entry) for bundle in bundles for entry in bundle) == self.head.root

    def _compare(self, tile: Tile, computed: bytes) -> None:
        if b"".join(read_hashes(self.source, tile)) != computed:
            first = (tile.index * WIDTH) << (8 * (tile.level or 0))
            raise TileError(f"the hash tile `{tile.path}` isn't what the entries hash to", index=first)

    def _compare_earlier(self) -> None:
        earlier = self.earlier
        if earlier is not None and earlier.size == self.replay.size and earlier.root != self.replay.frontier.root():
            raise ForkError(f"the first {earlier.size} entries aren't the ones of the earlier checkpoint")


def claimed_size(source: TileSource) -> int:
    """Return the size that the published checkpoint states, for reading without a key; nothing is verified.

    :raises NotFoundError: there is no checkpoint. :raises MalformedError: not a checkpoint.
    """
    data = source.read(CHECKPOINT)
    if data is None:
        raise NotFoundError(_NO_CHECKPOINT, remedy=_GIVE_FOLDER)
    return Checkpoint.parse_text(Note.parse(data).text).size


def read_published(source: TileSource, *, start: int, size: int) -> Iterator[tuple[int, Entry]]:
    """Yield the entries from index ``start`` on of a published log of ``size`` entries; nothing is verified here.

    :raises MissingRowsError: an entry isn't there. :raises EntryError: it isn't an entry.
    """
    for bundle in bundles_of(size):
        first = bundle.index * WIDTH
        if first + bundle.width > start:
            for index, data in enumerate(read_bundle(source, bundle), first):
                if index >= start:
                    yield index, read_entry(data)


def verify_entry_at(source: TileSource, key: VerifierKey, index: int) -> Checkpoint:
    """Check that the published entry at ``index`` is in the signed tree, by an inclusion proof from the hash tiles.

    Only this one entry is verified, not what stands around it.

    :raises NotFoundError: the log has no such entry. :raises ProofError: it isn't the one that was logged.
    :raises LogError: as :func:`published_head`, or a bundle or tile is missing.
    """
    head = published_head(source, key)
    if not 0 <= index < head.size:
        raise NotFoundError(f"the log has {head.size} entries, none with index {index}")
    width = min(WIDTH, head.size - index // WIDTH * WIDTH)
    entry = read_bundle(source, Tile(None, index // WIDTH, width))[index % WIDTH]
    proof = make_inclusion(index, head.size, TileReader(source, head.size).node)
    verify_inclusion(index=index, size=head.size, leaf=leaf_hash(entry), proof=proof, root=head.root)
    return head
