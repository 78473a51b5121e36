"""A room in which models' keys can be destroyed: two models, somebody who answers for keys, and a rule for it."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import ParamSpec

from strongroom.access.invariants import CUSTODIAN
from strongroom.access.policy import Factor, ModelTerms, Rule, Weights
from strongroom.access.request import Action, Purpose
from strongroom.audit.entries import read_entry
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.shredding import Shredding
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier, WrappedDataKey
from strongroom.release.ledger import Ledger
from strongroom.release.pending import Pending, pending
from support.deployment import DAY, LEVEL, MODEL, publisher, rules
from support.room import Room

P = ParamSpec("P")
OTHER = ModelId("other")
DELAY = DAY
DESTROY = Rule(
    action=Action.DESTROY,
    level=LEVEL,
    requester_role="responder",
    factors=(Factor(role="approver-security", count=1), Factor(role=CUSTODIAN, count=1)),
    requester_tier=1,
    approver_tier=2,
    max_window=14 * DAY,
    max_uses=1,
    delay=DELAY,
)


def played(scene: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Make a test of a scene: it is played in an event loop of its own."""

    @functools.wraps(scene)
    def test(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(scene(*arguments, **named))

    return test


class CutShortError(Exception):
    """The keeper died here."""


@dataclass
class Cut:
    """Dies at the place number ``left`` that is reached; never where it is negative. ``passed`` are those before."""

    left: int

    def __post_init__(self) -> None:
        self.passed: list[str] = []

    def __call__(self, place: object) -> None:
        """Reach a place."""
        if self.left == 0:
            raise CutShortError(str(place))
        self.left -= 1
        self.passed.append(str(place))


class ShreddingRoom(Room):
    """A room with what destroys. ``rina`` answers for keys; ``other`` is a model that nobody wants to destroy."""

    shredding: Shredding
    rows: dict[ModelId, WrappedDataKey]
    keys: dict[ModelId, bytes]
    """Each model's data key, as its publisher got it."""

    async def furnish(self) -> ShreddingRoom:
        """Furnish, and seal a second model."""
        await super().furnish()
        keeps = [replace(one, roles=one.roles | {CUSTODIAN}) if one.id == "rina" else one for one in self.roster.people]
        before = Digest.of(self.roster.to_bytes())
        await self.adopt_roster(
            replace(self.roster, epoch=self.roster.epoch + 1, predecessor=before, people=tuple(keeps))
        )
        other = ModelTerms(model=OTHER, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST)
        await self.next_policy(rules=(*rules(), DESTROY), models=(self.terms, other))
        assert self.wrapped is not None
        self.rows = {MODEL: self.wrapped, OTHER: await self.seal(OTHER)}
        self.keys = {model: self.opened(model) for model in self.rows}
        self.shredding = self.make_shredding()
        return self

    def cut(self, left: int) -> Cut:
        """Have what destroys die at the place number ``left``."""
        cut = Cut(left)
        self.shredding.reached = self.shredding.rotation.reached = cut
        return cut

    def make_shredding(self) -> Shredding:
        """Make what destroys models' keys, over this room's keeper."""
        return Shredding(keeper=self.keeper, rotation=self.rotation(), notes=self.documents, clock=self.clock)

    async def restart(self) -> None:
        """Start another keeper, and what goes on with destructions. What the last one had queued is durable by then."""
        if self.keeper.journal._worker is not None:
            await self.keeper.journal._worker
        await super().restart()
        self.shredding = self.make_shredding()
        await self.shredding.rotation.resume()

    async def seal(self, model: ModelId) -> WrappedDataKey:
        """Seal version 1 of another model."""
        key = RecipientKey()
        request = await self.submit(Action.SEAL, model=model, version=1, recipient=key.digest, purpose=Purpose.PUBLISH)
        _delivery, wrapped = await self.keeper.seal(Dossier(request=request, recipient_key=key.public))
        facts: dict[str, Fact] = {
            "request": request.digest,
            "model": model,
            "version": 1,
            "manifest": Digest.of(model.encode()),
            "predecessor": None,
            "publisher": "dana",
            "publisher_key": publisher("dana").public_key,
            "data_key": wrapped.data_key,
        }
        await self.keeper.record_pinned(EventName.VERSION_REGISTERED, facts)
        return wrapped

    def opened(self, model: ModelId) -> bytes:
        """Unwrap a model's data key, by its row of the first day."""
        row = self.rows[model]
        with self.keeper.vault.open(model, 1, row.data_key, row) as key:
            return bytes(key.reveal(TOKEN))

    async def ask_to_destroy(self, model: ModelId = MODEL, *people: str, **members: object) -> Envelope:
        """Ask for a destruction, have it approved, and have its grant issued where that is enough."""
        told: dict[str, object] = {"not_before": self.clock.now() - 1, "expires": self.clock.now() + 10 * DAY}
        request = await self.submit(Action.DESTROY, model=model, **(told | members))  # type: ignore[arg-type]
        approvals = await self.approvals(request, *(people or ("sam", "rina")))
        await self.keeper.grant(Dossier(request=request, approvals=approvals))
        self.said_yes = approvals
        return request

    def pending(self) -> tuple[Pending, ...]:
        """Return the destructions that wait, as everybody is shown them."""
        return tuple(pending(self.keeper.journal.ledger, self.keeper.documents.policy, self.clock.now()))

    async def carry_out(self, request: Envelope, approvals: Sequence[Envelope] | None = None) -> None:
        """Carry a destruction out as the broker asks for it: step 1."""
        given = self.said_yes if approvals is None else tuple(approvals)
        await self.keeper.control(Dossier(request=request, approvals=given))

    async def destroyed(self, model: ModelId = MODEL) -> Envelope:
        """Destroy a model's keys, all steps; returns the request."""
        request = await self.ask_to_destroy(model)
        self.clock.at = self.clock.now() + DELAY
        await self.carry_out(request)
        await self.shredding.finish()
        return request

    def ledger(self, size: int | None = None) -> Ledger:
        """Fold the log anew, as somebody else does."""
        ledger = Ledger()
        for index, data in enumerate(self.log.entries[:size]):
            ledger.apply(index, read_entry(data))
            ledger.roots += self.root(index + 1)
        return ledger

    def root(self, size: int) -> bytes:
        """Return the log's root at a size, as the keeper knows it."""
        return self.keeper.journal.ledger.root_at(size)

    def keyring(self) -> Keyring:
        """Return the keyring as it lies on the disk."""
        return Keyring.parse(self.keyrings.history[-1])
