"""When one tree of the log ends and the next begins: after a year, when it is large, or when somebody asks for it.

A closed shard's key is destroyed, so a shard bounds what a thief of one key could sign, and how much an auditor reads
at once. Nothing waits for it: the closing entry and the next opening are queued together, between two others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.audit.succession import KEPT_DAYS, SHARD_DAYS, SHARD_ENTRIES
from strongroom.audit.tiles import WIDTH
from strongroom.core.clock import Clock, Instant
from strongroom.core.errors import DeniedError, UsageError
from strongroom.core.events import EventName
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper

LEAST_ENTRIES: Final = 16
"""Of a shard that is closed for its size: less, and seams would be most of the log."""
LEAST_SECONDS: Final = 3600
"""Of a shard that is closed by command: whoever may ask could else fill the log with seams."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardLimits:
    """When a shard ends by itself: ``entries`` in it, or ``seconds`` since its first one."""

    entries: int = SHARD_ENTRIES
    seconds: int = SHARD_DAYS * 86_400
    kept: int = KEPT_DAYS * 86_400
    """Seconds that a closed shard's entries stay published at the least."""

    def __post_init__(self) -> None:
        if self.entries < LEAST_ENTRIES or self.seconds < LEAST_SECONDS:
            raise UsageError(f"a shard holds at least {LEAST_ENTRIES} entries, or {LEAST_SECONDS} seconds of them")


SHARD_LIMITS: Final = ShardLimits()
"""Unless they are set otherwise."""


class Shards:
    """Closes the keeper's shards."""

    def __init__(self, keeper: Keeper, clock: Clock, limits: ShardLimits) -> None:
        self._keeper = keeper
        self._clock = clock
        self._limits = limits
        # What is looked at must still be so when the shard is closed: else two who ask at once would close two.
        self._turning = asyncio.Lock()

    @property
    def due(self) -> bool:
        """Whether the current shard has reached a limit."""
        journal = self._keeper.journal
        age = self._clock.now() - journal.shard_began
        return journal.shard_size >= self._limits.entries or age >= self._limits.seconds

    async def turn_if_due(self) -> Recorded | None:
        """Close the shard if it is due. None where it isn't, where the disk is nearly full, or with witnesses.

        Witnesses must know the next key before it signs anything, or their word would soon be too old to release on:
        where the policy asks for them, a person tells them and then gives the command.

        :raises StrongroomError: as :meth:`Journal.turn`.
        """
        async with self._turning:
            keeper = self._keeper
            policy = keeper.documents.policy
            if not self.due or keeper.locked_because or keeper.journal.tight or (policy and policy.witnesses):
                return None
            return await self._turned()

    async def turn(self) -> Recorded:
        """Close the shard now.

        :raises DeniedError: the keeper is locked, or the shard is too young.
        :raises StrongroomError: as :meth:`Journal.turn`.
        """
        async with self._turning:
            self._keeper.require_unlocked()
            age = self._clock.now() - self._keeper.journal.shard_began
            if age < LEAST_SECONDS and not self.due:
                raise DeniedError(
                    f"the log's current shard is {age} seconds old; it is closed by command after {LEAST_SECONDS}",
                    reason="log-shard-young",
                )
            return await self._turned()

    async def prune(self, number: int, minimum: int) -> Recorded:
        """Record that a closed shard's entries below ``minimum`` (an index within it) aren't published any more.

        The log writer removes them once this is durable. Hash tiles stay, and so do the entries in the log's own store:
        they are what the keeper replays.

        :raises DeniedError: the keeper is locked, the shard is open or was closed too lately, or something that began
            before its end lives: a grant, a use of break-glass that waits for its review, a change that waits, a
            precaution; or a hold stands, whenever it began.
        :raises UsageError: the shard has no such index, it isn't the beginning of a bundle, or isn't beyond the last.
        """
        self._keeper.require_unlocked()
        journal = self._keeper.journal
        if not 1 <= number <= len(journal.shards_closed):
            raise DeniedError(f"shard {number} of the log isn't closed", reason="log-shard-open")
        size = journal.succession.finals[number - 1].size
        if minimum % WIDTH or not journal.pruned.get(number, 0) < minimum <= (size - 1) // WIDTH * WIDTH:
            raise UsageError(f"shard {number} can't be pruned below {minimum}", remedy=f"name a multiple of {WIDTH}")
        closed = journal.shards_closed[number - 1]
        if self._clock.now() - closed < self._limits.kept:
            raise DeniedError(
                f"shard {number} of the log was closed less than {self._limits.kept // 86_400} days ago",
                reason="log-shard-kept",
            )
        hold = self._keeper.journal.ledger.precautions.any_hold()
        if hold is not None:
            raise DeniedError(
                f"the log is evidence while a hold stands: `{hold.name}`",
                reason="log-held",
                remedy="have people lift the hold first: strongroom precaution lift",
            )
        if any(began <= closed for began in self._living()):
            raise DeniedError(
                f"something that began before shard {number} was closed isn't over",
                reason="log-shard-needed",
                remedy="see `strongroom grant ls`: revoke what isn't needed, review what was opened",
            )
        return await self._keeper.record_pinned(EventName.SHARD_PRUNED, {"shard": number, "minimum": minimum})

    def _living(self) -> Iterator[Instant]:
        """Yield when each thing began that an auditor may still have to look into."""
        ledger, now = self._keeper.journal.ledger, self._clock.now()
        for request, grant in ledger.grants.items():
            if grant.expires > now and request not in ledger.revoked | ledger.denied | ledger.fallen:
                yield grant.at
        for opened in ledger.break_glass.values():
            yield opened.at
        for document, proposal in ledger.proposals.items():
            if proposal.effective > now and document not in ledger.stopped:
                yield proposal.at
        for precaution in ledger.precautions.standing(now):
            yield precaution.taken
        for request, use in ledger.released:
            if (request, use) not in ledger.ended:
                yield ledger.uses[request][use - 1].at

    async def _turned(self) -> Recorded:
        opened = await self._keeper.journal.turn(self._keeper.vault.signer)
        self._keeper.pin()
        return opened
