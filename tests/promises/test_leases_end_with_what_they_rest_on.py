"""A release is renewed while everything that it rests on stands; each thing that falls ends it, once and for good."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from strongroom.access.request import Action
from strongroom.attestation.reference_values import REFERENCE_VALUES_TYPE
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, LockedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper.adoption import adopt
from strongroom.keeper.leases import Leases
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import Employment, SuspensionCause
from strongroom.personnel.roster import Person
from strongroom.release.delivery import accept
from strongroom.release.documents import DocumentKind
from strongroom.release.dossier import Dossier
from strongroom.release.lease import LEASE_SECONDS, Lease, LeaseAsk, LeaseEndedError, LeaseProof, accept_lease
from support.deployment import DAY, MODEL, ROOTS
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


class Scene:
    """A room whose model was released once."""

    def __init__(self, room: Room, leases: Leases | None = None) -> None:
        self.room = room
        self.leases = leases or Leases(room.keeper, room.clock)
        self.serial = 0

    async def release(self, *people: str, **members: object) -> Scene:
        """Release to one enclave, with approvals by ``people``."""
        self.request = await self.room.ask(**members)  # type: ignore[arg-type]  # none is `action`
        self.key = RecipientKey()
        released = await self.room.keeper.release(await self.room.dossier(self.request, self.key, *people))
        self.delivery, data_key = accept(
            released.delivery, self.room.genesis, self.key, request=self.request.digest, model=MODEL, version=1
        )
        data_key.wipe()
        return self

    @classmethod
    async def made(cls, *people: str) -> Scene:
        """Furnish a room and release."""
        return await cls(await Room().furnish()).release(*people)

    def ask(self) -> LeaseAsk:
        """Return the next asking of the enclave's agent."""
        self.serial += 1
        nonce = self.serial.to_bytes(32, "big")
        return LeaseAsk(use=self.delivery.use, recipient=self.delivery.recipient, serial=self.serial, nonce=nonce)

    def prove(self) -> LeaseProof:
        """Return new evidence of the machine that was released to."""
        told = self.room.testimony(self.request, self.key)
        return LeaseProof(challenge=told.challenge, evidence=told.evidence)

    def renew(self, proof: LeaseProof | None = None) -> Lease:
        """Renew, and check what comes as an agent does."""
        ask = self.ask()
        return accept_lease(
            self.leases.renew(self.request, ask, proof),
            self.room.genesis,
            request=self.request.digest,
            platform=self.room.platform.record().platform,
            ask=ask,
        )

    def refused(self) -> str:
        """Return why a renewal is refused."""
        with pytest.raises(LeaseEndedError) as caught:
            self.leases.renew(self.request, self.ask(), None)
        return caught.value.reason

    async def ends(self) -> list[tuple[str, str]]:
        """Return the ends in the log: request and reason."""
        await asyncio.sleep(0.05)
        found = [read_entry(data) for data in self.room.log.entries]
        return [(e.text("request"), e.text("reason")) for e in found if e.event is EventName.LEASE_ENDED]

    async def adopt_people(self, change: Callable[[Person], Person | None]) -> None:
        """Adopt the next roster; nobody where ``change`` returns None."""
        before = self.room.roster
        people = tuple(made for one in before.people if (made := change(one)) is not None)
        digest = Digest.of(before.to_bytes())
        await self.room.adopt_roster(replace(before, epoch=before.epoch + 1, predecessor=digest, people=people))


Fall = Callable[[Scene], Awaitable[None]]


async def freeze(scene: Scene) -> None:
    await scene.room.keeper.control(Dossier(request=await scene.room.submit(Action.FREEZE)))


async def revoke(scene: Scene) -> None:
    request = await scene.room.submit(Action.REVOKE_GRANT, target=scene.request.digest)
    await scene.room.keeper.control(Dossier(request=request))


async def revoke_platform(scene: Scene) -> None:
    platform = scene.room.platform.record().platform
    request = await scene.room.submit(Action.REVOKE_PLATFORM, platforms=(platform,))
    await scene.room.keeper.control(Dossier(request=request))


async def deny(scene: Scene) -> None:
    await scene.room.voice(scene.request, "both", deny=True)


async def dismiss_requester(scene: Scene) -> None:
    await scene.adopt_people(lambda one: replace(one, active=one.id != "dana"))


async def forget_requester(scene: Scene) -> None:
    await scene.adopt_people(lambda one: None if one.id == "dana" else one)


async def dismiss_approver(scene: Scene) -> None:
    await scene.adopt_people(lambda one: replace(one, active=one.id != "sam"))


async def take_approver_s_role(scene: Scene) -> None:
    await scene.adopt_people(lambda one: replace(one, roles=frozenset()) if one.id == "rina" else one)


async def take_requester_s_role(scene: Scene) -> None:
    await scene.adopt_people(lambda one: replace(one, roles=frozenset()) if one.id == "dana" else one)


async def drop_rule(scene: Scene) -> None:
    rules = tuple(rule for rule in scene.room.policy.rules if rule.action is not Action.OPEN_IN_ENCLAVE)
    await scene.room.next_policy(rules=rules)


async def drop_model(scene: Scene) -> None:
    await scene.room.next_policy(models=())


async def want_more_isolation(scene: Scene) -> None:
    models = tuple(replace(terms, least_isolation="cvm") for terms in scene.room.policy.models)
    await scene.room.next_policy(models=models)


async def suspend_requester(scene: Scene) -> None:
    await scene.room.people.suspend(PersonId("dana"), SuspensionCause.DEACTIVATED)


async def suspend_approver(scene: Scene) -> None:
    await scene.room.people.suspend(PersonId("sam"), SuspensionCause.DEACTIVATED)


async def send_approver_on_leave(scene: Scene) -> None:
    await scene.room.vet("rina", employment=Employment.LEAVE)


async def revoke_image(scene: Scene) -> None:
    values = scene.room.keeper.documents.reference_values
    assert values is not None
    images = tuple(replace(image, revoked=True) for image in values.images)
    made = replace(values, epoch=2, predecessor=Digest.of(values.to_bytes()), images=images)
    envelope = sign(REFERENCE_VALUES_TYPE, made.to_bytes(), *ROOTS[:2])
    await adopt(scene.room.keeper, scene.room.clock, DocumentKind.REFERENCE_VALUES, envelope)


FALLS: dict[str, tuple[Fall, str]] = {
    "a frozen model": (freeze, "model-frozen"),
    "a revoked grant": (revoke, "grant-revoked"),
    "a revoked platform": (revoke_platform, "platform-revoked"),
    "a denial": (deny, "request-denied"),
    "a requester who left": (dismiss_requester, "requester-inactive"),
    "a requester whom the roster doesn't know": (forget_requester, "requester-inactive"),
    "a requester without the role": (take_requester_s_role, "requester-role-missing"),
    "an approver who left": (dismiss_approver, "approver-inactive"),
    "an approver without the role": (take_approver_s_role, "quorum-not-met"),
    "a rule that is gone": (drop_rule, "no-rule"),
    "a model without terms": (drop_model, "no-rule"),
    "a policy that wants more isolation": (want_more_isolation, "isolation-too-weak"),
    "a requester who is suspended": (suspend_requester, "requester-inactive"),
    "an approver who is suspended": (suspend_approver, "approver-inactive"),
    "an approver on leave": (send_approver_on_leave, "approver-inactive"),
    "an image that is revoked": (revoke_image, "measurement-unknown"),
}


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scene()

    asyncio.run(run())


@pytest.mark.parametrize("what", FALLS)
def test_step_7_each_thing_that_falls_ends_the_lease_at_once_and_once(what: str) -> None:
    fall, reason = FALLS[what]

    async def scene() -> None:
        made = await Scene.made()
        request = made.request.digest
        assert made.renew().period == LEASE_SECONDS
        waiting = [asyncio.create_task(made.leases.ended(request, 1, wait=30)) for _ in range(3)]
        await asyncio.sleep(0)
        await fall(made)
        # Whoever waits was told by the time that the act is acknowledged.
        assert [await asyncio.wait_for(one, 1) for one in waiting] == [reason] * 3
        assert made.leases.live() == ()
        assert {made.refused() for _ in range(3)} == {reason}
        assert await made.leases.ended(request, 1, wait=30) == reason
        assert await made.ends() == [(str(request), reason)]

    play(scene)


@pytest.mark.parametrize("what", FALLS)
def test_step_7_a_keeper_that_was_restarted_finds_it_at_the_next_renewal(what: str) -> None:
    fall, reason = FALLS[what]

    async def scene() -> None:
        made = await Scene.made()
        await made.room.restart()
        made.leases = Leases(made.room.keeper, made.room.clock)
        await fall(made)
        # Nobody renewed since the start: it isn't known to live, and so wasn't ended by the act itself.
        assert await made.ends() == []
        assert made.refused() == reason
        assert await made.ends() == [(str(made.request.digest), reason)]

    play(scene)


def test_an_end_outlives_the_keeper_and_what_caused_it() -> None:
    async def scene() -> None:
        made = await Scene.made()
        await freeze(made)
        resume = await made.room.submit(Action.RESUME)
        await made.room.keeper.control(Dossier(request=resume, approvals=await made.room.approvals(resume)))
        assert made.refused() == "model-frozen"
        await made.room.restart()
        made.leases = Leases(made.room.keeper, made.room.clock)
        assert made.refused() == "model-frozen"
        assert await made.leases.ended(made.request.digest, 1, wait=30) == "model-frozen"
        assert len(await made.ends()) == 1

    play(scene)


def test_the_same_recipient_key_gets_nothing_again_once_its_lease_ended() -> None:
    async def scene() -> None:
        made = await Scene.made()
        await freeze(made)
        resume = await made.room.submit(Action.RESUME)
        await made.room.keeper.control(Dossier(request=resume, approvals=await made.room.approvals(resume)))
        with pytest.raises(LeaseEndedError):
            await made.room.keeper.release(await made.room.dossier(made.request, made.key))

    play(scene)


def test_time_alone_ends_it_at_a_renewal() -> None:
    async def scene(after: int, reason: str) -> None:
        made = await Scene.made()
        made.renew()
        made.room.clock.at += after
        assert made.refused() == reason

    asyncio.run(scene(DAY + 1, "request-expired"))


def test_a_newer_vetting_record_that_clears_ends_nothing() -> None:
    async def scene() -> None:
        made = await Scene.made()
        made.room.log.gate.clear()
        vetting = asyncio.create_task(made.room.vet("sam"))
        await asyncio.sleep(0)
        assert made.renew().period == LEASE_SECONDS
        made.room.log.gate.set()
        await vetting
        assert made.renew().period == LEASE_SECONDS
        assert await made.ends() == []

    play(scene)


def test_an_approver_who_isn_t_needed_may_leave() -> None:
    async def scene() -> None:
        made = await Scene.made("sam", "rina", "both")
        await dismiss_approver(made)
        assert made.renew().period == LEASE_SECONDS
        await made.adopt_people(lambda one: replace(one, active=one.id in {"dana", "rina"}))
        assert made.refused() == "approver-inactive"

    play(scene)


def test_nothing_else_ends_it() -> None:
    async def scene() -> None:
        made = await Scene.made()
        other = await Scene(made.room, made.leases).release()
        await made.room.submit(Action.FREEZE)
        await revoke(other)
        await made.adopt_people(lambda one: replace(one, active=one.id != "both"))
        assert made.renew().period == LEASE_SECONDS
        assert [reason for _request, reason in await made.ends()] == ["grant-revoked"]

    play(scene)


def test_only_the_recipient_of_a_recorded_release_is_renewed() -> None:
    async def scene() -> None:
        made = await Scene.made()
        unreleased = await made.room.ask()
        for request, ask in (
            (made.request, replace(made.ask(), recipient=Digest.of(b"another"))),
            (made.request, replace(made.ask(), use=2)),
            (unreleased, made.ask()),
        ):
            with pytest.raises(DeniedError) as caught:
                made.leases.renew(request, ask, None)
            assert caught.value.reason == "lease-unknown"
        assert await made.ends() == []

    play(scene)


def test_a_request_that_was_changed_on_its_way_is_another_request() -> None:
    async def scene() -> None:
        made = await Scene.made()
        payload = made.request.payload.replace(b'"max_uses":1,', b'"max_uses":2,')
        assert payload != made.request.payload
        with pytest.raises(DeniedError) as caught:
            made.leases.renew(Envelope(made.request.kind, payload, made.request.signatures), made.ask(), None)
        assert caught.value.reason == "lease-unknown"

    play(scene)


def test_a_locked_keeper_renews_nothing() -> None:
    async def scene() -> None:
        made = await Scene.made()
        made.room.keeper.lock("asked")
        with pytest.raises(LockedError):
            made.leases.renew(made.request, made.ask(), None)

    play(scene)


def test_what_lives_can_be_listed_by_person_model_and_platform() -> None:
    async def scene() -> None:
        made = await Scene.made()
        platform = made.room.platform.record().platform
        (live,) = made.leases.live()
        assert (live.request, live.use, live.recipient) == (made.request.digest, 1, made.delivery.recipient)
        assert (live.person, live.model, live.platform) == ("dana", MODEL, platform)
        assert made.leases.live(person=PersonId("dana"), model=MODEL, platform=platform) == (live,)
        assert made.leases.live(person=PersonId("sam")) == (live,)
        assert made.leases.live(person=PersonId("both")) == ()
        made.room.clock.at = live.until
        assert made.leases.live() == ()
        made.renew(made.prove())
        assert len(made.leases.live()) == 1

    play(scene)


def test_waiting_ends_without_an_end_and_is_bounded() -> None:
    async def scene() -> None:
        made = await Scene.made()
        assert await made.leases.ended(made.request.digest, 1, wait=0) == ""
        began = time.monotonic()
        assert await made.leases.ended(made.request.digest, 1, wait=1) == ""
        assert time.monotonic() - began >= 0.9
        with pytest.raises(StrongroomError, match="no such release"):
            await made.leases.ended(made.request.digest, 2, wait=1)
        assert made.leases._waiting == {}
        assert made.leases._waiters == 0

    play(scene)


def test_the_delivery_carries_the_first_lease() -> None:
    async def scene() -> None:
        made = await Scene.made()
        assert made.delivery.lease_seconds == LEASE_SECONDS

    play(scene)
