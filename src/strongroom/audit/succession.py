"""One log for ever, kept as a succession of trees: each closed shard names the next one's keys, and nothing follows it.

A shard is a C2SP log of its own: an origin, a key, a tree that begins at 0. The genesis pins the first. A later one is
believed for its predecessor's last entry alone, ``log:shard:closed``, which the keeper signed: whoever stole a log key
can open no successor, and nobody can replace the keeper unseen. The next tree's first entry names the tree before it.

Indexes and sizes count over all shards unless said otherwise. The root that goes with a size is that of the tree that
holds the last of so many entries; where a shard ends, that is its final root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom.audit.checkpoint import Checkpoint, read_checkpoint
from strongroom.audit.entries import MAX_ENTRY, Entry, read_entry, verify_entry
from strongroom.audit.errors import (
    EntryError,
    ForkError,
    GenesisMismatchError,
    MissingRowsError,
    ProofError,
    SuccessionError,
)
from strongroom.audit.facts import Fact
from strongroom.audit.merkle import EMPTY_ROOT, HASH_SIZE, leaf_hash, verify_consistency, verify_inclusion
from strongroom.audit.note import MAX_BYTES, VerifierKey
from strongroom.audit.tiles import CHECKPOINT, ShardSource, TileSource
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.signature import PublicKey

SHARDS: Final = "shards"
"""The folder, beside the first shard's checkpoint, that holds each later shard under its number."""
MAX_SHARDS: Final = 4096
SHARD_DAYS: Final = 366
SHARD_ENTRIES: Final = 100_000_000
"""When a shard ends, unless it is set otherwise."""
KEPT_DAYS: Final = 1096
"""How long a closed shard's entries stay published at the least."""
_PROOF: Final = 63
_OPENINGS: Final = frozenset({EventName.LOG_OPENED, EventName.SHARD_CONTINUED})
Prove = Callable[[int, int], tuple[bytes, ...]]
"""(old size, new size) -> the consistency proof, both sizes within one shard; from somebody who isn't believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One tree of the succession. ``base`` is the number of all entries before it; numbers count from 1."""

    number: int
    origin: str
    key: PublicKey
    cosigner: bytes | None
    """The ML-DSA-44 key (1,312 bytes) that cosigns what is published; None where only the log key is known."""
    base: int

    @property
    def verifier(self) -> VerifierKey:
        """The key that checkpoints of this shard are verified with."""
        return VerifierKey(self.origin, self.key)

    def named_in(self, note: bytes) -> bool:
        """Whether a note says that it is of this shard; nothing is verified."""
        return note.startswith(self.origin.encode() + b"\n")

    @property
    def folder(self) -> str:
        """Where the shard lies in the published folder: the first at the top, as every tiled log."""
        return folder_of(self.number)


def folder_of(number: int) -> str:
    """Return the folder of a shard in the published one, ending in a slash where it isn't that itself."""
    return "" if number == 1 else f"{SHARDS}/{number}/"


def is_published(source: TileSource, number: int) -> bool:
    """Tell whether a published log has a checkpoint of the shard with this number; nothing of it is verified."""
    return ShardSource(source, folder_of(number)).read(CHECKPOINT) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What the first entry of a later shard must say."""

    shard: int
    base: int
    predecessor: Digest
    """The final root of the tree before."""

    def facts(self, genesis: Digest) -> dict[str, Fact]:
        """Return the facts of the entry."""
        return {"genesis": genesis, "shard": self.shard, "base": self.base, "predecessor": self.predecessor}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The next shard's public keys, whose private halves the log writer has made durable: Ed25519 and ML-DSA-44."""

    number: int
    key: PublicKey
    cosigner: bytes


def check_opening(entry: Entry, *, first: bool, opening: Opening | None, genesis: Digest | None) -> None:
    """Check that an entry opens a tree if it is its ``first``, and only then.

    :param opening: what a later shard's must say; None for the first shard.
    :param genesis: the deployment's; None takes any.
    :raises GenesisMismatchError: it doesn't, or it opens another deployment's log.
    :raises SuccessionError: it opens another shard than the one that was closed for it.
    """
    wanted = EventName.LOG_OPENED if opening is None else EventName.SHARD_CONTINUED
    if (entry.event in _OPENINGS) is not first or (first and entry.event is not wanted):
        raise GenesisMismatchError("a log is opened by its first entry, once")
    if first and genesis is not None and not entry.digest("genesis").matches(genesis):
        raise GenesisMismatchError("the log was opened for another genesis")
    if (
        first
        and opening is not None
        and (entry.integer("shard"), entry.integer("base"), entry.digest("predecessor"))
        != (opening.shard, opening.base, opening.predecessor)
    ):
        raise SuccessionError(f"shard {opening.shard} doesn't continue the shard that was closed before it")


@dataclass(frozen=True, slots=True)
class Head:
    """A verified checkpoint and the shard that it is of."""

    shard: Shard
    checkpoint: Checkpoint

    @property
    def size(self) -> int:
        """Entries in all shards up to this head."""
        return self.shard.base + self.checkpoint.size

    @property
    def root(self) -> bytes:
        """The root of the shard's tree: 32 bytes."""
        return self.checkpoint.root


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam:
    """What shows that a shard was closed for the next one: its final checkpoint, its last entry, and the audit path.

    Nothing of it is believed before :meth:`Succession.cross`.
    """

    checkpoint: bytes
    entry: bytes
    proof: tuple[bytes, ...]

    @classmethod
    def read(cls, fields: Fields) -> Seam:
        """Read the JSON form.

        :raises MalformedError: another form.
        """
        checkpoint = fields.binary("checkpoint", max_length=MAX_BYTES)
        entry = fields.binary("entry", max_length=MAX_ENTRY)
        proof = tuple(from_base64(text) for text in fields.texts("proof", most=_PROOF, max_length=44))
        if any(len(value) != HASH_SIZE for value in proof):
            raise MalformedError(f"`seam.proof` holds hashes of {HASH_SIZE} bytes")
        return cls(checkpoint=checkpoint, entry=entry, proof=proof)

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form."""
        proof: list[Json] = [to_base64(value) for value in self.proof]
        return {"checkpoint": to_base64(self.checkpoint), "entry": to_base64(self.entry), "proof": proof}


@dataclass(frozen=True, slots=True)
class Succession:
    """The shards known so far, oldest first, and the final checkpoint of each but the last, which is open."""

    shards: tuple[Shard, ...]
    finals: tuple[Checkpoint, ...] = ()

    @classmethod
    def of(cls, genesis: Genesis) -> Succession:
        """Begin with the shard that a genesis pins."""
        first = Shard(number=1, origin=genesis.log_origin, key=genesis.log_key, cosigner=genesis.log_cosigner, base=0)
        return cls((first,))

    @classmethod
    def from_key(cls, key: VerifierKey) -> Succession:
        """Begin with the first shard's verifier key alone."""
        return cls((Shard(number=1, origin=key.name, key=key.public_key, cosigner=None, base=0),))

    @property
    def current(self) -> Shard:
        """The newest shard: the one that isn't closed."""
        return self.shards[-1]

    @property
    def opening(self) -> Opening | None:
        """What the current shard's first entry must say; None for the first shard."""
        if not self.finals:
            return None
        root = Digest(DigestAlgorithm.SHA256, self.finals[-1].root)
        return Opening(shard=self.current.number, base=self.current.base, predecessor=root)

    def holding(self, index: int) -> Shard:
        """Return the shard that holds the entry at ``index``."""
        return next(shard for shard in reversed(self.shards) if shard.base <= index)

    def final(self, shard: Shard) -> Checkpoint | None:
        """Return a closed shard's final checkpoint; None for the current one."""
        return self.finals[shard.number - 1] if shard.number <= len(self.finals) else None

    def origin(self, number: int) -> str:
        """Return the origin that the shard with this number has, and no other."""
        first = self.shards[0].origin
        return first if number == 1 else f"{first}/{number}"

    def knows(self, note: bytes) -> bool:
        """Whether a note says that it is of one of these shards; nothing is verified."""
        return any(shard.named_in(note) for shard in self.shards)

    def read(self, note: bytes) -> Head:
        """Verify a signed checkpoint of any of these shards.

        :raises MalformedError: not a checkpoint. :raises WrongKeyError: of none of these shards.
        :raises ForgedCheckpointError: the shard's key didn't sign it.
        :raises ForkError: it goes on with a shard that was closed, or ends it in another way.
        """
        shard = next((shard for shard in self.shards if shard.named_in(note)), self.current)
        checkpoint, final = read_checkpoint(note, shard.verifier), self.final(shard)
        if final is not None and (
            checkpoint.size > final.size or (checkpoint.size == final.size and checkpoint.root != final.root)
        ):
            raise ForkError(f"the log's key signed something else than the end of shard {shard.number}")
        return Head(shard, checkpoint)

    def close(self, entry: Entry, final: Checkpoint) -> Succession:
        """Take the current shard's last entry: it is closed with ``final``, and the next one begins.

        The caller knows that the entry is the last of that tree, and whether the keeper signed it.

        :raises SuccessionError: it isn't a closing entry, or names another number, base or a key that was in use.
        """
        current, number = self.current, self.current.number + 1
        if entry.event is not EventName.SHARD_CLOSED or number > MAX_SHARDS:
            raise SuccessionError(f"shard {current.number} isn't closed by its last entry")
        key, cosigner = entry.public_key("key"), from_base64(entry.text("cosigner"))
        base = current.base + final.size
        if (entry.integer("next"), entry.integer("base")) != (number, base):
            raise SuccessionError(f"the last entry of shard {current.number} closes another shard")
        if any(key == shard.key or cosigner == shard.cosigner for shard in self.shards):
            # Its holder could be anybody: keys of a closed shard are destroyed, not handed on.
            raise SuccessionError(f"shard {number} would have a key of an earlier shard")
        following = Shard(number=number, origin=self.origin(number), key=key, cosigner=cosigner, base=base)
        return Succession((*self.shards, following), (*self.finals, final))

    def cross(self, seam: Seam, keeper_key: PublicKey | None) -> Succession:
        """Verify how the current shard was closed.

        :param keeper_key: None takes the log key's word for who wrote the entry.
        :raises SuccessionError: the entry isn't the shard's last, or isn't a closing one.
        :raises EntryForgedError: the keeper didn't sign it.
        :raises StrongroomError: the checkpoint isn't the shard's, as :func:`read_checkpoint`.
        """
        final = read_checkpoint(seam.checkpoint, self.current.verifier)
        try:
            entry = read_entry(seam.entry)
            verify_inclusion(
                index=final.size - 1,
                size=final.size,
                leaf=leaf_hash(seam.entry),
                proof=seam.proof,
                root=final.root,
            )
        except (EntryError, ProofError) as error:
            raise SuccessionError(f"the end of shard {self.current.number} isn't shown: {error.message}") from None
        if keeper_key is not None:
            verify_entry(entry, keeper_key)
        return self.close(entry, final)

    def head(self, size: int, root: bytes) -> Head:
        """Return the head of so many entries whose newest tree has ``root``; the caller verified it."""
        shard = self.holding(max(0, size - 1))
        return Head(shard, Checkpoint(shard.origin, size - shard.base, root))

    def require_extends(self, head: Head, *, size: int, root: bytes, prove: Prove) -> None:
        """Check that the log with this head begins with the ``size`` entries whose newest tree had ``root``.

        Within a shard that takes a consistency proof; a shard that ended in between is fixed by its final root, and
        every later one by the entry that closed the one before it.

        :raises MissingRowsError: the log is shorter. :raises ForkError: it isn't proven to be the same log.
        """
        if size > head.size:
            raise MissingRowsError(f"the log has {head.size} entries, not {size}", index=head.size)
        if size == 0:
            if root != EMPTY_ROOT:
                raise ForkError("a log of no entries has one root, the hash of nothing")
            return
        shard = self.holding(size - 1)
        tree = head.checkpoint if shard == head.shard else self.final(shard)
        if tree is None:
            raise ForkError(f"the head isn't one of the log that has shard {shard.number}")
        old, new = size - shard.base, tree.size
        try:
            verify_consistency(
                old=old,
                new=new,
                old_root=root,
                new_root=tree.root,
                proof=prove(size, shard.base + new) if old < new else (),
            )
        except ProofError as error:
            raise ForkError(
                f"the log of {head.size} entries doesn't continue the one of {size}: {error.message}"
            ) from None
