"""From two devices to a release: enrolled before two officers, listed by the root quorum, and counted as one person."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from simulators.attester import NOW
from simulators.security_key import Maker, SoftwareSecurityKey
from strongroom.access.request import APPROVAL_TYPE, DENIAL_TYPE
from strongroom.client.adapters.security_key import SecurityKeySigner
from strongroom.client.wallet import SecurityKeys
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper import voices
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.enrolment import ENROLMENT_TYPE, Enrolment
from strongroom.personnel.vetting import OFFICER
from strongroom.release.statements import StatementKind
from support.deployment import signer
from support.room import Room
from support.security_keys import Parts, Ports, allowed, pin_of, seeded_p256

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

SAM = PersonId("sam")
OFFICERS = ("rina", "both")


@dataclass
class Office:
    """A room whose roster allows a maker's keys and has two vetting officers, and sam with two security keys."""

    room: Room
    ports: Ports
    enrolment: Enrolment
    keys: SecurityKeys

    @property
    def key(self) -> SecurityKeySigner:
        """The one of sam's keys that is plugged in."""
        device = next(iter(self.ports.devices.values()))
        return SecurityKeySigner(self.keys, pin_of(device.pin))

    async def successor(self, **changes: object) -> None:
        """Have the next roster adopted."""
        before = self.room.roster
        after = replace(before, epoch=before.epoch + 1, predecessor=Digest.of(before.to_bytes()), **changes)  # type: ignore[arg-type]
        await self.room.adopt_roster(after)

    async def enrol(self, *officers: str, enrolment: Enrolment | None = None) -> None:
        """Hand the enrolment in, signed by these officers."""
        payload = (enrolment or self.enrolment).to_bytes()
        envelope = sign(ENROLMENT_TYPE, payload, *(signer(name) for name in officers))
        await self.room.people.state(StatementKind.ENROLMENT, envelope)

    async def list_keys(self) -> None:
        """Have a roster adopted that lists sam's security keys in place of the key file."""
        keys = tuple(one.key for one in self.keys.keys)
        people = tuple(replace(p, keys=keys) if p.id == SAM else p for p in self.room.roster.people)
        await self.successor(people=people)

    def voice(self, kind: str, request: Envelope) -> Envelope:
        """Sign an approval or denial with the key that is plugged in."""
        return sign(kind, request.payload, self.key)


def in_office(act: Callable[[Office], Awaitable[None]]) -> None:
    """Run an act in a new office."""

    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            room = await Room().furnish()
            ports = Ports(patch, {"first": SoftwareSecurityKey(), "second": SoftwareSecurityKey(pin="13579")})
            enrolment, keys = ports.enrol(person=SAM, genesis=room.genesis.digest)
            office = Office(room, ports, replace(enrolment, at=NOW), keys)
            people = tuple(replace(p, roles=p.roles | {OFFICER}) if p.id in OFFICERS else p for p in room.roster.people)
            await office.successor(people=people, authenticators=allowed(Maker()))
            await act(office)

    asyncio.run(run())


async def refused(act: Awaitable[object]) -> str:
    """Return the reason of a refusal that must come."""
    with pytest.raises(StrongroomError) as caught:
        await act
    return caught.value.reason


def test_either_enrolled_key_approves_and_the_weights_key_is_released() -> None:
    async def act(office: Office) -> None:
        await office.enrol(*OFFICERS)
        await office.list_keys()
        for _key in range(2):
            request = await office.room.ask()
            approval = office.voice(APPROVAL_TYPE, request)
            await voices.approve(office.room.keeper, office.room.clock, approval)
            dossier = await office.room.dossier(request, RecipientKey(), "rina")
            released = await office.room.keeper.release(replace(dossier, approvals=(*dossier.approvals, approval)))
            assert released.delivery.signatures
            # The first key is lost; the other one serves.
            office.ports.devices.pop("first", None)

    in_office(act)


def test_both_keys_of_one_person_are_one_voice() -> None:
    async def act(office: Office) -> None:
        await office.enrol(*OFFICERS)
        await office.list_keys()
        request = await office.room.ask()
        first = office.voice(APPROVAL_TYPE, request)
        office.ports.devices.pop("first")
        second = office.voice(APPROVAL_TYPE, request)
        for approval in (first, second):
            await voices.approve(office.room.keeper, office.room.clock, approval)
        dossier = replace(await office.room.dossier(request, RecipientKey(), "sam"), approvals=(first, second))
        assert await refused(office.room.keeper.release(dossier)) == "one-person-twice"

    in_office(act)


def test_a_denial_by_a_security_key_ends_a_request() -> None:
    async def act(office: Office) -> None:
        await office.enrol(*OFFICERS)
        await office.list_keys()
        request = await office.room.ask()
        approval = office.voice(APPROVAL_TYPE, request)
        await voices.approve(office.room.keeper, office.room.clock, approval)
        dossier = await office.room.dossier(request, RecipientKey(), "rina")
        await voices.deny(office.room.keeper, office.voice(DENIAL_TYPE, request))
        both = replace(dossier, approvals=(*dossier.approvals, approval))
        assert await refused(office.room.keeper.release(both)) == "request-denied"

    in_office(act)


def test_no_roster_lists_a_security_key_that_was_not_enrolled() -> None:
    async def act(office: Office) -> None:
        assert await refused(office.list_keys()) == "key-not-enrolled"
        await office.enrol(*OFFICERS)
        thief = replace(office.keys.keys[0], key=Parts(seeded_p256()).public_key)
        office.keys = replace(office.keys, keys=(office.keys.keys[0], thief))
        assert await refused(office.list_keys()) == "key-not-enrolled"

    in_office(act)


@pytest.mark.parametrize(
    ("officers", "reason"),
    [
        ((), "officers-missing"),
        (("rina",), "officers-missing"),
        (("rina", "rina"), "officers-missing"),
        (("rina", "sam"), "signer-may-not"),
        (("rina", "dana"), "signer-may-not"),
    ],
)
def test_two_officers_other_than_the_person_vouch(officers: tuple[str, ...], reason: str) -> None:
    async def act(office: Office) -> None:
        assert await refused(office.enrol(*officers)) == reason

    in_office(act)


def test_officers_can_not_vouch_for_a_key_that_no_maker_vouches_for() -> None:
    async def act(office: Office) -> None:
        other = replace(office.enrolment, person=PersonId("dana"))
        assert await refused(office.enrol(*OFFICERS, enrolment=other)) == "challenge-mismatch"
        await office.successor(authenticators=allowed(Maker(name="another")))
        assert await refused(office.enrol(*OFFICERS)) == "attestation-chain"
        await office.successor(authenticators=())
        assert await refused(office.enrol(*OFFICERS)) == "unknown-authenticator"

    in_office(act)


def test_a_copied_key_raises_an_alarm_and_counts_for_nothing() -> None:
    async def act(office: Office) -> None:
        await office.enrol(*OFFICERS)
        await office.list_keys()
        room, device = office.room, office.ports.devices["first"]
        first, second = await room.ask(), await room.ask(ticket="T-2")
        await voices.approve(room.keeper, room.clock, office.voice(APPROVAL_TYPE, first))
        device.counter -= 1
        copied = office.voice(APPROVAL_TYPE, second)
        assert await refused(voices.approve(room.keeper, room.clock, copied)) == "counter-regressed"
        assert any(EventName.AUTHENTICATOR_REGRESSED.value.encode() in entry for entry in room.log.entries)
        assert SAM not in room.keeper.journal.ledger.approvals.get(second.digest, {})

    in_office(act)
