"""Workspaces before the real keeper, in the test's own process: releases for research, keys, reviewers, drops."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from strongroom.access.request import Purpose
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.egress.bits import Output
from strongroom.egress.policy import EgressPolicy
from strongroom.keeper.adoption import adopt
from strongroom.keeper.drops import Drops
from strongroom.keys.recipient import RecipientIdentity, RecipientKey
from strongroom.release.delivery import Delivery
from strongroom.release.documents import DocumentKind
from strongroom.release.drop import REVIEWER, PassageAsk, Ticket, accept_begun, accept_ticket
from strongroom.release.drop_statements import DROP_KEY_TYPE, DROP_REVIEW_TYPE, DropKey, DropOutcome, DropReview
from strongroom.release.statements import StatementKind
from support.deployment import MODEL, signer
from support.metered import MeteredScene, policies, signed
from support.room import Room

_nonces = itertools.count(1)
INPUT = Digest.of(b"an input")


def files_may_leave(**changes: Any) -> EgressPolicy:
    """Return a policy: 4 million bits a year for all, 1 million for one person, 3 people."""
    made = EgressPolicy.template(MODEL, parameters=10**9, vocabulary=512)
    told = {"outputs": (Output.TOKENS, Output.BYTES), "workspace_person_bits": 1_000_000, "quota_holders": 3}
    return replace(made, **{**told, **changes})


def seed(name: str, times: int = 1) -> SecretBytes:
    """Return the secret of a person's recipient identity; another one each time that they make one."""
    return SecretBytes(bytearray(b"".join(Digest.of(f"{name} {times} {n}".encode()).value for n in range(3))))


def identity(name: str, times: int = 1) -> RecipientIdentity:
    """Return it."""
    return RecipientIdentity(seed(name, times))


class DropScene(MeteredScene):
    """A room in which `sam` reviews drops, and `dana` and `rina` do research."""

    @classmethod
    async def furnished(
        cls, policy: EgressPolicy | None = None, *, keys: tuple[str, ...] = ("dana", "rina", "sam")
    ) -> DropScene:
        """Furnish, adopt, and have keys recorded."""
        room = await Room().furnish()
        scene = cls(room, policies(room.genesis, policy or files_may_leave()))
        await adopt(room.keeper, room.clock, DocumentKind.EGRESS, signed(scene.document))
        await scene.roles("sam", REVIEWER)
        await scene.roles("rina", "requester")
        for name in keys:
            await scene.key(name)
        return scene

    @property
    def drops(self) -> Drops:
        """The keeper's part, as it is after any restart."""
        return Drops(self.room.keeper, self.leases, self.room.clock)

    async def roles(self, name: str, *added: str, taken: tuple[str, ...] = ()) -> None:
        """Give a person roles, and take some."""
        before = self.room.roster
        people = tuple(
            replace(one, roles=(one.roles | {*added}) - {*taken}) if one.id == name else one for one in before.people
        )
        digest = Digest.of(before.to_bytes())
        await self.room.adopt_roster(replace(before, epoch=before.epoch + 1, predecessor=digest, people=people))

    def key_statement(self, name: str, times: int = 1, *, by: str = "") -> Envelope:
        """Return the signed statement of a person's key."""
        key = DropKey(genesis=self.room.genesis.digest, person=PersonId(name), public=identity(name, times).public)
        return sign(DROP_KEY_TYPE, key.to_bytes(), signer(by or name))

    async def key(self, name: str, times: int = 1) -> None:
        """Have a person's key recorded."""
        await self.room.people.state(StatementKind.DROP_KEY, self.key_statement(name, times))

    async def review(self, ticket: Ticket, outcome: DropOutcome, by: str) -> None:
        """Have a review recorded."""
        made = DropReview(genesis=ticket.genesis, request=ticket.request, drop=ticket.ask.digest, outcome=outcome)
        await self.room.people.state(StatementKind.DROP_REVIEW, sign(DROP_REVIEW_TYPE, made.to_bytes(), signer(by)))

    async def seat(self, by: str = "dana", *, begin: bool = True, **members: Any) -> Seat:
        """Release for research, and begin the workspace."""
        # Nobody approves their own request.
        approvers = ("sam", "rina") if by == "dana" else ("sam", "both")
        told = {"purpose": Purpose.RESEARCH, "max_uses": 9, "by": by, **members}
        request, key = await self.room.ask(**told), RecipientKey()
        handed = await self.room.keeper.release(await self.room.dossier(request, key, *approvers))
        made = Seat(self, handed.delivery, request)
        if begin:
            await made.begin()
        return made


class Seat:
    """One workspace, as its agent sees the keeper."""

    def __init__(self, scene: DropScene, delivery: Envelope, request: Envelope) -> None:
        self.scene, self.delivery, self.request = scene, delivery, request

    def ask(self, data: bytes | Digest, size: int = 0) -> PassageAsk:
        """Return an asking for bytes, or for a digest and a size."""
        told = Delivery.parse(self.delivery.payload)
        digest = data if isinstance(data, Digest) else Digest.of(data)
        return PassageAsk(
            use=told.use,
            recipient=told.recipient,
            nonce=next(_nonces).to_bytes(32, "big"),
            digest=digest,
            size=size or (1 if isinstance(data, Digest) else len(data)),
        )

    async def begin(self, digest: Digest = INPUT) -> int:
        """Have an input recorded; returns where."""
        ask = self.ask(digest)
        word = await self.scene.drops.begin(self.delivery, ask)
        return accept_begun(word, self.scene.room.genesis, request=self.request.digest, ask=ask).log_index

    async def leave(self, data: bytes | Digest, size: int = 0) -> Ticket:
        """Have a drop charged."""
        ask = self.ask(data, size)
        word = await self.scene.drops.leave(self.delivery, ask)
        return accept_ticket(word, self.scene.room.genesis, request=self.request.digest, ask=ask)
