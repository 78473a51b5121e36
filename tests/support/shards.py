"""Logs of several shards, written without a log writer: what the holder of the keys could write, honest or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosigner
from strongroom.audit.entries import make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.audit.merkle import NodeReader, leaf_hash, make_consistency, make_inclusion, tree_root
from strongroom.audit.succession import Head, Seam, Succession
from strongroom.core.encoding import to_base64
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer, Signer
from support.cosigners import LOG_SEED
from support.logs import AT, GENESIS, KEEPER, opening, sample_entry
from support.published import files_of

_EVENTS = tuple(event for event in EventName if event.family != "log")


def seed_of(number: int) -> bytes:
    """Return the seed of a shard's keys."""
    return LOG_SEED if number == 1 else bytes([100 + number]) * 32


def signer_of(number: int) -> Ed25519Signer:
    """Return a shard's log key."""
    return Ed25519Signer.from_seed(seed_of(number))


def cosigner_of(succession: Succession, number: int) -> Cosigner:
    """Return a shard's own cosigner."""
    return Cosigner.of_log(succession.origin(number), seed_of(number))


@dataclass
class ShardedLog:
    """Entries of each shard; ``succession`` is what an honest reader makes of the seams."""

    shards: list[list[bytes]] = field(default_factory=lambda: [[opening()]])
    succession: Succession = field(default_factory=lambda: Succession.of(GENESIS))
    seq: int = 0

    @property
    def size(self) -> int:
        """Entries in all shards."""
        return sum(map(len, self.shards))

    def write(self, event: EventName, facts: Mapping[str, Fact], *, by: Signer = KEEPER) -> bytes:
        """Append an entry of the keeper's, whatever it is; returns its bytes."""
        data = make_entry(event, at=AT + self.seq, by=Producer.KEEPER, seq=self.seq, facts=facts, signer=by)
        self.seq += 1
        self.shards[-1].append(data)
        return data

    def grow(self, count: int) -> ShardedLog:
        """Append ordinary entries."""
        for _ in range(count):
            self.shards[-1].append(sample_entry(_EVENTS[self.seq % len(_EVENTS)], self.seq, at=AT + self.seq))
            self.seq += 1
        return self

    def closing(self) -> dict[str, Fact]:
        """Return what the entry that closes the newest shard must say."""
        number = len(self.shards) + 1
        return {
            "next": number,
            "key": signer_of(number).public_key,
            "cosigner": to_base64(cosigner_of(self.succession, number).key.raw),
            "base": self.size + 1,
        }

    def turn(self, *, by: Signer = KEEPER, closing: Mapping[str, Fact] | None = None, **said: Fact) -> ShardedLog:
        """Close the newest shard and open the next; ``closing`` and ``said`` replace facts of the two entries."""
        data = self.write(EventName.SHARD_CLOSED, {**self.closing(), **(closing or {})}, by=by)
        honest = make_entry(
            EventName.SHARD_CLOSED, at=AT, by=Producer.KEEPER, seq=0, facts=self.closing_of(data), signer=KEEPER
        )
        self.succession = self.succession.close(read_entry(honest), self.checkpoint(len(self.shards)))
        self.shards.append([])
        begun = self.succession.opening
        assert begun is not None
        self.write(EventName.SHARD_CONTINUED, {**begun.facts(GENESIS.digest), **said})
        return self

    def closing_of(self, _data: bytes) -> dict[str, Fact]:
        """Return the facts that an honest closing entry would have had."""
        return {**self.closing(), "base": self.size}

    def checkpoint(self, number: int, size: int | None = None) -> Checkpoint:
        """Return a shard's checkpoint, unsigned: over ``size`` of its entries, or all."""
        entries = self.shards[number - 1][:size]
        return Checkpoint(self.succession.origin(number), len(entries), tree_root(map(leaf_hash, entries)))

    def note(self, number: int, size: int | None = None) -> bytes:
        """Return a shard's signed checkpoint."""
        return self.checkpoint(number, size).sign(signer_of(number))

    def head(self, size: int) -> Head:
        """Return the head of the log's first ``size`` entries."""
        shard = self.succession.holding(max(0, size - 1))
        return Head(shard, self.checkpoint(shard.number, size - shard.base))

    def prove(self, old: int, new: int) -> tuple[bytes, ...]:
        """Prove within the shard that holds entry ``new`` - 1, as a log writer does."""
        shard = self.succession.holding(new - 1)
        return make_consistency(old - shard.base, new - shard.base, self.node(shard.number))

    def seam(self, number: int) -> Seam:
        """Return how a shard was closed."""
        entries = self.shards[number - 1]
        proof = make_inclusion(len(entries) - 1, len(entries), self.node(number))
        return Seam(checkpoint=self.note(number), entry=entries[-1], proof=proof)

    def node(self, number: int) -> NodeReader:
        """Return what reads a shard's hashes."""
        leaves = list(map(leaf_hash, self.shards[number - 1]))
        return lambda level, index: tree_root(leaves[index << level : (index + 1) << level])

    def publish(self, folder: Path) -> Path:
        """Write the published folder."""
        for number, entries in enumerate(self.shards, 1):
            place = folder / ("" if number == 1 else f"shards/{number}")
            for path, data in files_of(entries):
                (place / path).parent.mkdir(parents=True, exist_ok=True)
                (place / path).write_bytes(data)
            (place / "checkpoint").write_bytes(self.note(number))
        return folder
