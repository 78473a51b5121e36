"""Gather what an auditor needs into one folder: the log as tiles, and every object that it names and somebody keeps.

The deployment is believed in nothing: the log must hash to a checkpoint that its key signed, and each object must be
the one that an entry names. What isn't to be had is counted, not invented; who verifies later says what that leaves
open. Nothing here is secret from an auditor, and no object holds a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.access.request import LogHead
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import ForkError
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.succession import Seam, Shard
from strongroom.audit.tiles import CHECKPOINT, WIDTH, Tile, TileBuilder, encode_bundle
from strongroom.client.api import BrokerApi
from strongroom.client.service import Session
from strongroom.client.trust import check_continues
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope
from strongroom.core.errors import DeniedError, MalformedError, NotFoundError, StrongroomError, TamperedError
from strongroom.core.ids import ModelId
from strongroom.release.documents import DocumentKind
from strongroom.release.exhibits import ExhibitKind, Kind, Named, named_by, require_named
from strongroom.release.statements import StatementKind


class LogCopy(Protocol):
    """Where a copy of the log's published folder is written."""

    def write(self, path: str, data: bytes) -> None:
        """Write a tile, a bundle or the checkpoint, at its place of the layout."""
        ...


class ExhibitStore(Protocol):
    """Where objects are kept, named by kind and digest."""

    def find(self, kind: Kind, digest: Digest) -> bytes | None:
        """Return an object's bytes."""
        ...

    def save(self, kind: Kind, digest: Digest, data: bytes) -> None:
        """Keep an object."""
        ...


@dataclass(slots=True)
class Gathered:
    """What became of the objects that the log names, by kind."""

    fetched: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    """Gathered before."""
    missing: Counter[str] = field(default_factory=Counter)
    """Not kept any more, or not for this caller."""
    false: list[tuple[int, str]] = field(default_factory=list)
    """Entry and kind: the deployment handed out another object than the one named."""


@dataclass(frozen=True, slots=True)
class SignedShard:
    """A shard with the checkpoint over all of it that its key signed: its last one, where it is closed."""

    shard: Shard
    head: Checkpoint
    note: bytes


def shown_entries(api: BrokerApi, first: int, size: int) -> Iterator[bytes]:
    """Yield ``size`` entries from index ``first`` on that a deployment shows; nothing is verified.

    :raises MalformedError: it shows fewer.
    """
    start, end = first, first + size
    while start < end:
        page = api.entries(start, min(WIDTH, end - start))
        if not page:
            raise MalformedError(f"the deployment shows {start} entries of a log of {end}")
        yield from page
        start += len(page)


def signed_shards(person: Session) -> tuple[SignedShard, ...]:
    """Return the log's shards, oldest first, the newest with a checkpoint that continues what the wallet saw.

    :raises TamperedError: it isn't the log's, or another log than the wallet saw.
    """
    trust, note = person.refresh(), person.api.checkpoint()
    head = person.log.head(note)
    newer = LogHead(size=head.size, root=Digest(DigestAlgorithm.SHA256, head.root))
    check_continues(trust.head, newer, person.log.succession, person.api.consistency)
    known = person.log.succession
    seams: list[Seam] = []
    while len(seams) < head.shard.number - 1:
        more = person.api.seams(len(seams) + 1)
        if not more:
            raise MalformedError("the deployment doesn't show how its log's shards were closed")
        seams += more
    found = []
    for shard, seam in zip(known.shards, seams[: head.shard.number - 1], strict=False):
        closed = known.read(seam.checkpoint)
        if closed.checkpoint != known.final(shard):
            raise ForkError(f"another end of shard {shard.number} is shown now than before")
        found.append(SignedShard(shard, closed.checkpoint, seam.checkpoint))
    return (*found, SignedShard(head.shard, head.checkpoint, note))


def copy_shard(entries: Iterable[bytes], signed: SignedShard, copy: LogCopy) -> None:
    """Lay a shard out as tiles and bundles; its checkpoint is written last, once all of it is found good.

    :raises ForkError: the entries aren't those that the checkpoint is over.
    """
    head, folder = signed.head, signed.shard.folder
    builder, frontier, bundle = TileBuilder(), Frontier(), list[bytes]()
    for entry in entries:
        leaf = leaf_hash(entry)
        frontier.append(leaf)
        for tile, data in builder.append(leaf):
            copy.write(f"{folder}{tile.path}", data)
        bundle.append(entry)
        if len(bundle) == WIDTH:
            copy.write(folder + Tile(None, frontier.size // WIDTH - 1).path, encode_bundle(bundle))
            bundle.clear()
    if (frontier.size, frontier.root()) != (head.size, head.root):
        raise ForkError(
            f"the {frontier.size} entries shown aren't those of the signed checkpoint of {head.size}",
            remedy="treat this as an incident: somebody shows another log than was signed",
        )
    if bundle:
        copy.write(folder + Tile(None, head.size // WIDTH, len(bundle)).path, encode_bundle(bundle))
    for tile, data in builder.partials():
        copy.write(f"{folder}{tile.path}", data)
    copy.write(f"{folder}{CHECKPOINT}", signed.note)


class Gatherer:
    """Fetches the objects that entries name."""

    def __init__(self, api: BrokerApi, store: ExhibitStore) -> None:
        self._api = api
        self._store = store
        self._platforms: Mapping[Digest, Envelope] | None = None
        self.gathered = Gathered()

    def take(self, index: int, data: bytes) -> None:
        """Fetch what the entry at ``index`` names and isn't here yet."""
        entry = read_entry(data)
        for named in named_by(entry):
            kind = named.kind.value
            if self._holds(named):
                self.gathered.held[kind] += 1
                continue
            try:
                found = _FETCHES[named.kind](self, named, entry, index)
                require_named(named, found)
            except (NotFoundError, DeniedError):
                self.gathered.missing[kind] += 1
            except TamperedError:
                self.gathered.false.append((index, kind))
            else:
                self._store.save(named.kind, named.digest, found)
                self.gathered.fetched[kind] += 1

    def _holds(self, named: Named) -> bool:
        data = self._store.find(named.kind, named.digest)
        try:
            if data is not None:
                require_named(named, data)
        except StrongroomError:
            return False
        return data is not None

    def document(self, named: Named, _entry: Entry, _index: int) -> bytes:
        """Fetch a document."""
        return self._api.document(DocumentKind(named.kind), named.digest).to_bytes()

    def statement(self, named: Named, _entry: Entry, _index: int) -> bytes:
        """Fetch a statement."""
        return self._api.statement(StatementKind(named.kind), named.digest).to_bytes()

    def request(self, named: Named, _entry: Entry, _index: int) -> bytes:
        """Fetch a request."""
        return self._api.request(named.digest).request.to_bytes()

    def voice(self, named: Named, entry: Entry, _index: int) -> bytes:
        """Fetch an approval or denial: those of one request come together."""
        file = self._api.request(entry.digest("request"))
        voices = file.approvals if named.kind is ExhibitKind.APPROVAL else file.denials
        for voice in voices:
            data = voice.to_bytes()
            if Digest.of(data) == named.digest:
                return data
        raise NotFoundError(f"no such {named.kind.value} is shown")

    def decision(self, _named: Named, _entry: Entry, index: int) -> bytes:
        """Fetch the decision that an entry names."""
        return self._api.decided(index)

    def attested(self, named: Named, _entry: Entry, _index: int) -> bytes:
        """Fetch what a release or renewal was proved by."""
        return self._api.attested(named.digest).to_bytes()

    def platform(self, named: Named, _entry: Entry, _index: int) -> bytes:
        """Fetch an enrolment record: all of them come together."""
        if self._platforms is None:
            self._platforms = {envelope.digest: envelope for envelope in self._api.platforms()}
        if named.digest not in self._platforms:
            raise NotFoundError("no such platform is shown")
        return self._platforms[named.digest].to_bytes()

    def manifest(self, _named: Named, entry: Entry, _index: int) -> bytes:
        """Fetch a version's manifest."""
        return self._api.manifest(ModelId(entry.text("model")), entry.integer("version")).to_bytes()

    def fallen(self, named: Named, _entry: Entry, _index: int) -> bytes:
        """Fetch the record of what a suspension ended."""
        return self._api.fallen(named.digest).to_bytes()


_FETCHES: Final[Mapping[Kind, Callable[[Gatherer, Named, Entry, int], bytes]]] = {
    **dict.fromkeys(DocumentKind, Gatherer.document),
    **dict.fromkeys(StatementKind, Gatherer.statement),
    ExhibitKind.REQUEST: Gatherer.request,
    ExhibitKind.APPROVAL: Gatherer.voice,
    ExhibitKind.DENIAL: Gatherer.voice,
    ExhibitKind.DECISION: Gatherer.decision,
    ExhibitKind.ATTESTED: Gatherer.attested,
    ExhibitKind.PLATFORM: Gatherer.platform,
    ExhibitKind.MANIFEST: Gatherer.manifest,
    ExhibitKind.FALLEN: Gatherer.fallen,
}
