"""A released model whose egress policy is in force, before the real keeper in the test's own process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from strongroom.access.request import Action
from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Producer
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Signer
from strongroom.egress.odometer import Block, OdometerEntry
from strongroom.egress.policies import EGRESS_TYPE, EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.keeper.adoption import adopt
from strongroom.keeper.egress import Meters
from strongroom.keeper.leases import Leases
from strongroom.keys.recipient import RecipientKey
from strongroom.release.documents import DocumentKind
from strongroom.release.dossier import Dossier
from strongroom.release.metering import LoggedReading, Metered, odometer_facts, read_reading
from support.deployment import MODEL, ROOTS
from support.egress import policy
from support.room import Room

POLICY = policy(MODEL)
"""400,000 bits in all, 1,000 a day; its life ends at 200,000."""


def policies(genesis: Genesis, *listed: EgressPolicy, before: EgressPolicies | None = None) -> EgressPolicies:
    """Return the next egress policies of a deployment."""
    return EgressPolicies(
        genesis=genesis.digest,
        epoch=before.epoch + 1 if before else 1,
        predecessor=Digest.of(before.to_bytes()) if before else None,
        policies=listed,
    )


def signed(document: EgressPolicies, *signers: Signer) -> Envelope:
    """Sign egress policies, by two root holders unless others are named."""
    return sign(EGRESS_TYPE, document.to_bytes(), *(signers or ROOTS[:2]))


class MeteredScene:
    """A room with egress policies, and releases in it."""

    def __init__(self, room: Room, document: EgressPolicies) -> None:
        self.room, self.document = room, document
        self.leases = Leases(room.keeper, room.clock)
        self.meters = Meters(room.keeper, self.leases, room.clock)

    @classmethod
    async def made(cls, *listed: EgressPolicy) -> MeteredScene:
        """Furnish a room and adopt."""
        room = await Room().furnish()
        scene = cls(room, policies(room.genesis, *(listed or (POLICY,))))
        await adopt(room.keeper, room.clock, DocumentKind.EGRESS, signed(scene.document))
        return scene

    async def adopt(self, *listed: EgressPolicy, signers: tuple[Signer, ...] = ()) -> None:
        """Adopt the next policies."""
        document = policies(self.room.genesis, *listed, before=self.document)
        await adopt(self.room.keeper, self.room.clock, DocumentKind.EGRESS, signed(document, *signers))
        self.document = document

    async def released(self, **changes: Any) -> Governed:
        """Release to one enclave, whose governor opens nothing yet; ``changes`` are the request's."""
        now = self.room.clock.at
        request, key = await self.room.ask(not_before=now - 60, expires=now + 3600, **changes), RecipientKey()
        handed_over = await self.room.keeper.release(await self.room.dossier(request, key))
        return Governed(self, handed_over.delivery, request, key)

    async def restart(self) -> None:
        """Start the keeper anew over the same log and stores."""
        await self.room.restart()
        self.leases = Leases(self.room.keeper, self.room.clock)
        self.meters = Meters(self.room.keeper, self.leases, self.room.clock)

    def kept(self, entry: OdometerEntry, *, signer: Signer | None = None) -> bytes:
        """Return an entry that a governor kept and the log lost."""
        facts = odometer_facts(Metered(request=Digest.of(b"gone"), use=1, model=entry.model), entry, POLICY.digest)
        keeper = self.room.keeper.vault.signer
        return make_entry(
            EventName.ODOMETER_ADVANCED, at=entry.at, by=Producer.KEEPER, seq=99, facts=facts, signer=signer or keeper
        )

    async def resume(self) -> None:
        """Have the model's quorum resume it."""
        request = await self.room.submit(Action.RESUME)
        await self.room.keeper.control(Dossier(request=request, approvals=await self.room.approvals(request)))

    @property
    def total(self) -> int:
        """The odometer's total, by the log."""
        return self.meters.spent(MODEL).total


class Governed:
    """One release, as its governor sees the keeper."""

    def __init__(self, scene: MeteredScene, delivery: Envelope, request: Envelope, key: RecipientKey) -> None:
        self.scene, self.delivery, self.request, self.key = scene, delivery, request, key
        self.metered = Metered(request=request.digest, use=1, model=MODEL)

    def read(self, data: bytes) -> LoggedReading:
        """Check an answer as a governor's process does."""
        return read_reading(data, self.scene.room.genesis.keeper_key, metered=self.metered)

    async def open(self, seen: bytes | None = None) -> LoggedReading:
        """Open a run."""
        return self.read((await self.scene.meters.open(self.delivery, seen)).entry)

    async def advance(self, through: int, *, run: int, settled: int = 0, **changes: Any) -> LoggedReading:
        """Ask for a block."""
        block = replace(Block(model=MODEL, run=run, through=through, settled=settled, tokens=0, verified=0), **changes)
        return self.read((await self.scene.meters.advance(self.delivery, block)).entry)
