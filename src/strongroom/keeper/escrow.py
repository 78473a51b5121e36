"""The running keeper's escrow: recorded when it is adopted, made again with each new root key, shown to custodians.

A new escrow lies beside the one in force until its adoption is in the log; a crash in between is settled at the next
start, before anything is served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from strongroom.audit.facts import Fact
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import LockedError, NotFoundError, TamperedError, UsageError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Signer
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper
from strongroom.keeper.unlocking import Opened
from strongroom.keys.escrow import ESCROW_TYPE, Escrow, EscrowPlan, make_escrow, plan_again, verify_escrow
from strongroom.keys.wrapping import RandomBytes


class EscrowStore(Protocol):
    """Where escrows and the unlock key are kept: the keeper's own folder."""

    def load(self) -> Envelope | None:
        """Return the escrow in force."""
        ...

    def load_next(self) -> Envelope | None:
        """Return the escrow whose adoption perhaps isn't recorded."""
        ...

    def save(self, envelope: Envelope) -> None:
        """Put an escrow in force."""
        ...

    def save_next(self, envelope: Envelope) -> None:
        """Keep an escrow beside the one in force."""
        ...

    def drop_next(self) -> None:
        """Forget the escrow beside the one in force."""
        ...

    def need_unlock_signer(self, random_bytes: RandomBytes) -> Signer:
        """Return the unlock key, made now if there is none."""
        ...


class EscrowLostError(TamperedError):
    """The escrow in the keeper's folder isn't the one that the log names."""

    code = "escrow-lost"


async def _no_rotation(_authority: Digest) -> None:
    raise LockedError("no key service is at hand to hold another root key", reason="no-provider")


class Escrows:
    """What a keeper does with escrows. ``random_bytes`` makes the unlock key."""

    def __init__(self, keeper: Keeper, store: EscrowStore, clock: Clock, random_bytes: RandomBytes) -> None:
        self._keeper = keeper
        self._store = store
        self._clock = clock
        self._random = random_bytes
        self._planned: tuple[Digest, EscrowPlan] | None = None
        self._adopted: tuple[Digest, Recorded] | None = None
        self.turn = asyncio.Lock()
        """The rotation's: a root key isn't replaced while its first shares are being recorded."""
        self.rotate_root: Callable[[Digest], Awaitable[object]] = _no_rotation

    async def start(self) -> None:
        """Settle what a crash cut short, and record the founded escrow.

        :raises SignatureError: a file in the keeper's folder isn't an escrow that this keeper signed.
        """
        keys = self._keeper.journal.ledger.keys
        waiting, present = self._verified(self._store.load_next()), self._verified(self._store.load())
        if waiting is not None:
            envelope, escrow = waiting
            known = keys.escrow
            if known is not None and known.escrow == escrow.digest:
                self._put_in_force(envelope)
            elif known is not None and known.generation < escrow.generation == keys.generation:
                # The root key was rotated, and its new shares are all that is missing.
                await self._adopt(envelope, escrow, self._keeper.vault.keyring.authority or self._keeper.genesis.digest)
            else:
                self._store.drop_next()
        elif present is not None and keys.escrow is None:
            # Made with the deployment: what it rests on is the genesis itself.
            await self._adopt(*present, self._keeper.genesis.digest)

    async def opened(self, opened: Opened) -> None:
        """Record who unlocked the keeper by their shares."""
        known = self._keeper.journal.ledger.keys.escrow
        if known is None:
            raise EscrowLostError("shares opened the keyring, and the log knows of none")
        await self._keeper.record_pinned(
            EventName.ESCROW_OPENED,
            {"generation": known.generation, "escrow": known.escrow, "custodians": opened.custodians},
        )

    def in_force(self) -> Envelope:
        """Return the escrow in force.

        :raises NotFoundError: there is none.
        :raises EscrowLostError: the file is gone, or another one.
        """
        known = self._keeper.journal.ledger.keys.escrow
        if known is None:
            raise NotFoundError("this deployment has no escrow", remedy="strongroom key order adopt-escrow")
        present = self._store.load()
        if present is None or present.digest != known.escrow:
            raise EscrowLostError(
                "the keeper's escrow isn't the one that the log names",
                remedy="put `escrow.json` of a custodian or a key package back into the keeper's folder",
            )
        return present

    async def adopt(self, plan: EscrowPlan, authority: Digest) -> Recorded:
        """Give shares to custodians, under an order that was examined just before.

        Where nobody has shares yet, they are of the present root key. Where somebody has, the root key is rotated with
        it: the old custodians' shares would go on opening the present one.

        :raises LockedError: the keeper is locked, or there are shares already and no key service is at hand.
        :raises StrongroomError: a key service refused or isn't there; the old escrow stands.
        """
        self.require_ours(plan)
        keys = self._keeper.journal.ledger.keys
        async with self.turn:
            self._keeper.require_unlocked()
            if keys.escrow is None:
                envelope = self._keeper.vault.share_root(lambda root: self._make(root, keys.generation, plan))
                return await self._adopt(envelope, Escrow.parse(envelope.payload), authority)
        self._planned = authority, plan
        try:
            await self.rotate_root(authority)
        finally:
            self._planned = None
        if self._adopted is None or self._adopted[0] != authority:
            raise EscrowLostError("the root key was rotated and its shares weren't adopted", remedy="start it again")
        return self._adopted[1]

    def before_root(self, generation: int, root: SecretBytes, authority: Digest) -> None:
        """Make the shares of a root key that isn't in force yet durable, beside those of the present one.

        Called before anything stands under it. The custodians stay the same, unless ``authority`` is the
        order that names others: a rotation for something else may come while that one waits for its turn.

        :raises UnavailableError: the disk refuses.
        """
        plan = self._planned[1] if self._planned is not None and self._planned[0] == authority else None
        if plan is None and self._keeper.journal.ledger.keys.escrow is not None:
            plan = plan_again(Escrow.parse(self.in_force().payload))
        if plan is not None:
            self._make(root, generation, plan)

    async def after_root(self, authority: Digest) -> None:
        """Put the shares in force whose root key is in the log now."""
        waiting = self._verified(self._store.load_next())
        if waiting is not None and waiting[1].generation == self._keeper.journal.ledger.keys.generation:
            await self._adopt(*waiting, authority)

    def _make(self, root: SecretBytes, generation: int, plan: EscrowPlan) -> Envelope:
        unlock_key = self._store.need_unlock_signer(self._random).public_key
        escrow = make_escrow(root, plan, generation=generation, unlock_key=unlock_key, at=self._clock.now())
        envelope = sign(ESCROW_TYPE, escrow.to_bytes(), self._keeper.vault.signer)
        self._store.save_next(envelope)
        return envelope

    def state(self) -> dict[str, Json]:
        """Return what a doctor asks: which escrow, which custodians are active, when a backup was last made."""
        keys, backups = self._keeper.journal.ledger.keys, self._keeper.journal.ledger.destructions.backups
        newest = format_instant(backups[-1].at) if backups else None
        if keys.escrow is None:
            return {"generation": keys.generation, "backup": newest, "escrow": None}
        try:
            kept = bool(self.in_force())
        except EscrowLostError:
            kept = False
        custodians: list[Json] = [_standing(self._keeper, person) for person in keys.escrow.custodians]
        return {
            "generation": keys.generation,
            "backup": newest,
            "escrow": {
                "digest": str(keys.escrow.escrow),
                "generation": keys.escrow.generation,
                "threshold": keys.escrow.threshold,
                "kept": kept,
                "custodians": custodians,
            },
        }

    def require_ours(self, plan: EscrowPlan) -> None:
        """Refuse a plan for another deployment.

        :raises UsageError: it is.
        """
        if plan.genesis != self._keeper.genesis.digest:
            raise UsageError("the plan is for another deployment")

    async def _adopt(self, envelope: Envelope, escrow: Escrow, authority: Digest) -> Recorded:
        facts: dict[str, Fact] = {
            "authority": authority,
            "generation": escrow.generation,
            "escrow": escrow.digest,
            "custodians": tuple(one.person for one in escrow.custodians),
            "threshold": escrow.threshold,
        }
        recorded = await self._keeper.record_pinned(EventName.ESCROW_ADOPTED, facts)
        self._put_in_force(envelope)
        self._adopted = authority, recorded
        return recorded

    def _put_in_force(self, envelope: Envelope) -> None:
        # While one adoption waited for its record, a rotation may have made the next: neither may be lost to the other.
        known = self._keeper.journal.ledger.keys.escrow
        if known is not None and known.escrow == envelope.digest:
            self._store.save(envelope)
        waiting = self._store.load_next()
        if waiting is not None and waiting.digest == envelope.digest:
            self._store.drop_next()

    def _verified(self, envelope: Envelope | None) -> tuple[Envelope, Escrow] | None:
        return None if envelope is None else (envelope, verify_escrow(envelope, self._keeper.genesis))


def _standing(keeper: Keeper, person: PersonId) -> dict[str, Json]:
    """Return how a custodian stands in the roster today, and for whom they act: an agent for its sponsor."""
    roster = keeper.documents.roster
    found = next((one for one in roster.people if one.id == person), None) if roster else None
    if found is None:
        return {"person": person, "standing": "unknown", "of": person}
    suspended = keeper.journal.ledger.suspended
    word = "suspended" if {person, found.sponsor} & set(suspended) else "active" if found.active else "left"
    return {"person": person, "standing": word, "of": found.sponsor or person}
