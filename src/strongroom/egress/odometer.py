"""The odometer of one model: bits that left in its whole life. The log always says at least as much as left.

The block protocol; step numbers as in docs/spec/egress-budget.md:

1. Open. At its start a governor shows the newest entry that it kept; the log answers with an entry that begins a new
   run, whose total is the larger of both. The run before may not go on.
2. Ask. Before anything may leave, the governor asks for a block: a new, higher reading ``through`` of this run.
3. Mirror. The log appends an entry with that reading and the model's new total (:mod:`strongroom.egress.mirror`).
4. Keep. The governor's process stores the signed entry over the one that it kept, durably; after step 1 too.
5. Take. Only now may bits up to ``through`` be held for answers, within :data:`BLOCK_SECONDS` of the entry.
6. Settle. What an answer didn't use goes back to the run's headroom; never to the log.

Killed at any moment, a governor loses nothing that it spent: the log had counted it before. What is left of its last
block is lost with it. A restored disk holds an older entry, and the larger of the two counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.canonical import MAX_INTEGER, Json
from strongroom.core.clock import Instant
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, model_id
from strongroom.egress.errors import (
    Limit,
    LimitReachedError,
    MeterSupersededError,
    MirrorBehindError,
    OdometerRegressedError,
)

BLOCK_SECONDS: Final = 3600
"""How long after its entry a block may be held for answers. It makes the reading in the log an hourly one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRecord:
    """The highest reading that a governor's process knows of. It is kept as the log's entry that said it, as signed."""

    model: ModelId
    run: int
    total: int
    """Bits."""

    def over(self, stored: LocalRecord | None) -> LocalRecord:
        """Return what to store where ``stored`` lies: a record never gets lower."""
        if stored is None:
            return self
        return LocalRecord(model=self.model, run=max(self.run, stored.run), total=max(self.total, stored.total))


@dataclass(frozen=True, slots=True, kw_only=True)
class OdometerEntry:
    """What the log holds. One whose ``through`` is 0 opened its run."""

    model: ModelId
    epoch: int
    """The key epoch at the time. The total goes over all of them: new keys make no new weights."""
    run: int
    """Counts the governors that were opened, from 1."""
    through: int
    """Bits that this run may have let out."""
    settled: int
    """Bits that this run had charged when it asked."""
    tokens: int
    """Tokens of the answers that those bits were charged for, as the governor says."""
    verified: int
    """Of these, tokens that a second engine reproduced and that cost less for it, as the governor says."""
    total: int
    """Bits that all runs may have let out."""
    recent: int
    """Of these, at most how many left within the last day or may still leave: what buckets begin with."""
    limit: int
    """Where the model's life ends, in bits, by the policy that was in force."""
    day: int
    """Bits that may leave the model within a day, by that policy."""
    at: Instant

    @property
    def record(self) -> LocalRecord:
        """What it says of the model's life."""
        return LocalRecord(model=self.model, run=self.run, total=self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What a governor asks the log to mirror. Asking twice changes nothing: the readings are absolute."""

    model: ModelId
    run: int
    through: int
    settled: int
    tokens: int
    verified: int

    @classmethod
    def read(cls, fields: Fields) -> Block:
        """Read the object.

        :raises MalformedError: another form.
        """
        return cls(
            model=fields.parsed("model", model_id),
            run=fields.integer("run", least=1),
            through=fields.integer("through"),
            settled=fields.integer("settled"),
            tokens=fields.integer("tokens"),
            verified=fields.integer("verified"),
        )

    def to_json(self) -> Json:
        """Return what :meth:`read` reads."""
        return {
            "model": self.model,
            "run": self.run,
            "through": self.through,
            "settled": self.settled,
            "tokens": self.tokens,
            "verified": self.verified,
        }


class Odometer:
    """The governor's side of one run: what the log vouches for, what is held for answers, and what they used."""

    def __init__(self, opening: OdometerEntry, *, block_bits: int) -> None:
        """``block_bits`` is at least 1."""
        self.model, self.run = opening.model, opening.run
        self.limit, self._block = opening.limit, block_bits
        self.total = opening.total
        """Bits that all runs may have let out, as far as this one knows."""
        self._through, self._fresh_until = 0, opening.at
        self._held, self._need = 0, 0
        self.settled = 0
        """Bits that this run charged for answers that ended."""
        self.tokens = self.verified = 0
        """Tokens of those answers, and how many of them a second engine reproduced."""

    @property
    def headroom(self) -> int:
        """Bits that may be held, as long as the last entry is fresh."""
        return self._through - self.settled - self._held

    def hold(self, bits: int, now: Instant) -> None:
        """Hold bits for an answer.

        :raises LimitReachedError: the model's life doesn't have them; a new policy may raise it.
        :raises MirrorBehindError: the log doesn't vouch for them yet: steps 2 to 5, then again.
        """
        life = self.headroom + max(0, self.limit - self.total)
        if bits > life:
            raise LimitReachedError(Limit.LIFETIME, seen=max(0, life), wanted=bits, passes_at=None)
        if bits > self.headroom or now >= self._fresh_until:
            self._need = max(self._need, bits)
            raise MirrorBehindError(
                f"the log vouches for {max(0, self.headroom)} bits more, and {bits} are asked for",
                remedy="mirror the block that is wanted, then ask again",
            )
        self._held += bits

    def settle(self, held: int, charged: int) -> None:
        """End an answer: of ``held`` bits ``charged`` were used, and the rest may be held again."""
        if not 0 <= charged <= held <= self._held:
            raise ValueError("settled more than was held")
        self._held -= held
        self.settled += charged

    def count(self, tokens: int, verified: int) -> None:
        """Count the tokens of an answer that was settled, for the log to tell."""
        self.tokens += tokens
        self.verified += verified

    def wanted(self, now: Instant) -> Block | None:
        """Return the block to mirror now (step 2), or None while the last one will do for a while."""
        low = self.headroom < max(self._need, self._block // 2 + 1) and self.total < self.limit
        old = now >= self._fresh_until - BLOCK_SECONDS // 2
        if not low and not old:
            return None
        more = max(self._block, self._need - self.headroom) if low else 0
        more = min(more, max(0, self.limit - self.total), MAX_INTEGER - self.total)
        return Block(
            model=self.model,
            run=self.run,
            through=self._through + more,
            settled=self.settled,
            tokens=self.tokens,
            verified=self.verified,
        )

    def take(self, entry: OdometerEntry) -> None:
        """Take a block that the log holds and whose record is stored: steps 3 and 4 came before.

        :raises MeterSupersededError: another run's entry.
        :raises OdometerRegressedError: it says less than an entry before it.
        """
        if (entry.model, entry.run) != (self.model, self.run):
            raise MeterSupersededError(f"the odometer of `{self.model}` was opened again; this governor's run is over")
        if entry.through < self._through or entry.total - self.total < entry.through - self._through:
            raise OdometerRegressedError(f"the log's odometer of `{self.model}` says less than it said before")
        self._through, self.total, self.limit = entry.through, entry.total, entry.limit
        self._fresh_until = max(self._fresh_until, entry.at + BLOCK_SECONDS)
        self._need = 0
