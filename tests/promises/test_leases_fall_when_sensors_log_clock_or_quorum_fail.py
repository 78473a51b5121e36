"""What can't be watched isn't let out: without a responder's heartbeat, the log, a clock that runs forward or a quorum
of witnesses, nothing is released and no lease is prolonged. Freezing works all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from strongroom.access.policy import MAX_HEARTBEAT_AGE, DeadMan, Witnesses
from strongroom.access.request import REQUEST_TYPE, Action, LogHead
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.note import Note
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, LockedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.core.signature import SignatureError
from strongroom.keeper.dead_man import ResponderSilentError
from strongroom.keeper.journal import Appended
from strongroom.keeper.leases import Leases
from strongroom.keeper.stopping import stop
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.delivery import Delivery, accept
from strongroom.release.dossier import Dossier
from strongroom.release.heartbeat import HEARTBEAT_TYPE, Heartbeat, HeartbeatRefusedError
from strongroom.release.lease import LeaseAsk
from strongroom.release.witnesses import WitnessQuorumStaleError
from support.cosigners import witness
from support.deployment import MODEL, ROOTS, signer
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
WATCHER, AGE = PersonId("dana"), 30
W1 = witness(1)


class Watched:
    """A room whose policy names a responder, with a model that was released once."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.leases = Leases(room.keeper, room.clock)
        self.serial = 0
        self.request: Envelope
        self.delivery: Delivery

    @classmethod
    async def made(cls) -> Watched:
        made = cls(await Room().furnish())
        room, key = made.room, RecipientKey()
        await room.next_policy(dead_man=DeadMan(responders=(WATCHER,), max_age_seconds=AGE))
        made.beat()
        made.request = await room.ask(max_uses=9)
        handed = (await room.keeper.release(await room.dossier(made.request, key))).delivery
        made.delivery, opened = accept(handed, room.genesis, key, request=made.request.digest, model=MODEL, version=1)
        opened.wipe()
        return made

    def heartbeat(self, *, by: str = WATCHER, signed_by: str = "", ago: int = 0, **members: object) -> Envelope:
        size, root = self.room.keeper.journal.durable
        told = Heartbeat(
            genesis=self.room.genesis.digest,
            responder=PersonId(by),
            at=self.room.clock.now() - ago,
            log=LogHead(size=size, root=Digest(DigestAlgorithm.SHA256, root)),
        )
        return replace(told, **members).sign(signer(signed_by or by))  # type: ignore[arg-type]

    def beat(self, **members: object) -> None:
        self.room.keeper.dead_man.hear(self.heartbeat(**members))  # type: ignore[arg-type]

    async def renew(self) -> None:
        self.serial += 1
        ask = LeaseAsk(
            use=self.delivery.use,
            recipient=self.delivery.recipient,
            serial=self.serial,
            nonce=self.serial.to_bytes(32, "big"),
        )
        await self.leases.renew_witnessed(self.request, ask, None)

    async def release(self) -> None:
        await self.room.keeper.release(await self.room.dossier(self.request, RecipientKey()))

    async def lets_nothing_out(self, error: type[StrongroomError], reason: str = "") -> None:
        for act in (self.release, self.renew):
            with pytest.raises(error) as caught:
                await act()
            assert not reason or caught.value.reason == reason

    async def frozen(self) -> bool:
        envelope = sign(REQUEST_TYPE, self.room.request(Action.FREEZE).to_bytes(), signer("dana"))
        await stop(self.room.keeper, self.room.clock, envelope)
        return MODEL in self.room.keeper.journal.ledger.frozen

    def events(self, event: EventName) -> int:
        return sum(event.value.encode() in entry for entry in self.room.log.entries)


def test_leases_fall_when_sensors_fail() -> None:
    async def run() -> None:
        made = await Watched.made()
        made.room.clock.at += AGE
        await made.renew()
        made.room.clock.at += 1
        await made.lets_nothing_out(ResponderSilentError, "responder-silent")
        assert await made.frozen()

    asyncio.run(run())


def test_what_is_heard_again_goes_on_and_both_stand_in_the_log() -> None:
    async def run() -> None:
        made = await Watched.made()
        keeper = made.room.keeper
        made.room.clock.at += AGE + 1
        for _ in range(5):
            keeper.dead_man.look(keeper.record)
        made.beat()
        await made.release()
        await made.renew()
        for _ in range(5):
            keeper.dead_man.look(keeper.record)
        await asyncio.sleep(0.01)
        assert (made.events(EventName.RESPONDER_SILENT), made.events(EventName.RESPONDER_HEARD)) == (1, 1)
        # A keeper that was started anew heard nobody yet, and says nothing of a silence that it can't know of.
        await made.room.restart()
        with pytest.raises(ResponderSilentError):
            made.room.keeper.dead_man.require()
        made.room.keeper.dead_man.look(made.room.keeper.record)
        await asyncio.sleep(0.01)
        assert made.events(EventName.RESPONDER_SILENT) == 1

    asyncio.run(run())


def test_an_old_heartbeat_shown_again_counts_as_old() -> None:
    async def run() -> None:
        made = await Watched.made()
        kept = made.heartbeat()
        made.room.clock.at += AGE + 1
        made.room.keeper.dead_man.hear(kept)
        await made.lets_nothing_out(ResponderSilentError)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("members", "error", "reason"),
    [
        ({"signed_by": "sam"}, SignatureError, "bad-signature"),
        ({"by": "sam"}, HeartbeatRefusedError, "not-a-responder"),
        ({"ago": -1}, HeartbeatRefusedError, "heartbeat-from-future"),
        ({"genesis": Digest.of(b"another")}, HeartbeatRefusedError, "other-deployment"),
        ({"log": LogHead(size=3, root=Digest.of(b"fork"))}, HeartbeatRefusedError, "log-forked"),
        ({"log": LogHead(size=10**6, root=Digest.of(b"fork"))}, HeartbeatRefusedError, "log-forked"),
    ],
)
def test_a_heartbeat_that_isn_t_one_counts_for_nothing(
    members: dict[str, object], error: type[StrongroomError], reason: str
) -> None:
    async def run() -> None:
        made = await Watched.made()
        made.room.clock.at += AGE + 1
        with pytest.raises(error) as caught:
            made.beat(**members)
        assert caught.value.reason == reason
        await made.lets_nothing_out(ResponderSilentError)

    asyncio.run(run())


def test_who_was_suspended_is_heard_no_more() -> None:
    async def run() -> None:
        made = await Watched.made()
        await made.room.people.suspend(WATCHER, SuspensionCause.LEFT)
        with pytest.raises(HeartbeatRefusedError):
            made.beat()
        with pytest.raises(ResponderSilentError):
            made.room.keeper.dead_man.require()

    asyncio.run(run())


def test_each_responder_that_the_policy_names_must_be_heard() -> None:
    async def run() -> None:
        room = await Room().furnish()
        await room.next_policy(dead_man=DeadMan(responders=(WATCHER, PersonId("sam")), max_age_seconds=AGE))
        made = Watched(room)
        made.beat()
        with pytest.raises(ResponderSilentError, match="sam"):
            room.keeper.dead_man.require()

    asyncio.run(run())


def test_leases_fall_when_the_log_fails() -> None:
    async def run() -> None:
        made = await Watched.made()

        async def fails(entries: tuple[bytes, ...]) -> Appended:
            raise UnavailableError(f"the disk is full: no room for {len(entries)}")

        made.room.log.append = fails  # type: ignore[method-assign]
        with pytest.raises(StrongroomError):
            await made.release()
        assert made.room.keeper.locked_because == "log-failed"
        await made.lets_nothing_out(LockedError)

    asyncio.run(run())


def test_leases_fall_when_the_clock_goes_back() -> None:
    async def run() -> None:
        made = await Watched.made()
        made.room.clock.at += -3600
        await made.lets_nothing_out(DeniedError, "clock-behind")

    asyncio.run(run())


def test_leases_fall_when_the_witnesses_quorum_fails() -> None:
    async def run() -> None:
        made = await Watched.made()
        room = made.room
        await room.next_policy(witnesses=Witnesses(policy=f"witness W {W1.key}\nquorum W\n", max_age_seconds=60))

        def cosigned(at: Instant) -> bytes:
            note = Note.parse(room.log.sign())
            return note.signed_also([W1.cosign(Checkpoint.parse_text(note.text), at)]).to_bytes()

        room.log.witnessed = cosigned(room.clock.now())
        await made.renew()
        room.clock.at += 61
        made.beat()
        await made.lets_nothing_out(WitnessQuorumStaleError)
        assert await made.frozen()

    asyncio.run(run())


async def _seal(made: Watched) -> None:
    key = RecipientKey()
    request = await made.room.submit(Action.SEAL, version=2, recipient=key.digest)
    await made.room.keeper.seal(Dossier(request=request, recipient_key=key.public, wrapped=made.room.wrapped))


async def _resume(made: Watched) -> None:
    assert await made.frozen()
    request = await made.room.submit(Action.RESUME)
    approvals = await made.room.approvals(request)
    await made.room.keeper.control(Dossier(request=request, approvals=approvals))


@pytest.mark.parametrize("act", [_seal, _resume])
def test_what_hands_out_no_weights_goes_on_unwatched(act: Callable[[Watched], Awaitable[None]]) -> None:
    async def run() -> None:
        made = await Watched.made()
        made.room.clock.at += AGE + 1
        await act(made)

    asyncio.run(run())


def test_a_responder_that_reads_an_old_log_counts_as_silent() -> None:
    async def run() -> None:
        made = await Watched.made()
        keeper, clock = made.room.keeper, made.room.clock
        keeper.dead_man.look(keeper.record)
        size = keeper.journal.durable[0]
        old = LogHead(size=size, root=Digest(DigestAlgorithm.SHA256, keeper.journal.ledger.root_at(size)))
        await made.room.ask()
        keeper.dead_man.look(keeper.record)
        # What was logged in the last seconds may not have been read yet.
        made.beat(log=old)
        clock.at += AGE
        made.beat()
        with pytest.raises(HeartbeatRefusedError) as caught:
            made.beat(log=old)
        assert caught.value.reason == "log-behind"

    asyncio.run(run())


def test_an_old_log_is_refused_also_where_a_heartbeat_may_be_an_hour_old() -> None:
    async def run() -> None:
        made = await Watched.made()
        keeper, clock = made.room.keeper, made.room.clock
        await made.room.next_policy(dead_man=DeadMan(responders=(WATCHER,), max_age_seconds=MAX_HEARTBEAT_AGE))
        size = keeper.journal.durable[0]
        old = LogHead(size=size, root=Digest(DigestAlgorithm.SHA256, keeper.journal.ledger.root_at(size)))
        await made.room.ask()
        for _ in range(MAX_HEARTBEAT_AGE + 60):
            made.beat()
            keeper.dead_man.look(keeper.record)
            clock.at += 1
        keeper.dead_man.look(keeper.record)
        with pytest.raises(HeartbeatRefusedError) as caught:
            made.beat(log=old)
        assert caught.value.reason == "log-behind"

    asyncio.run(run())


def test_a_flood_of_heartbeats_and_silences_fills_no_log() -> None:
    async def run() -> None:
        made = await Watched.made()
        keeper, size = made.room.keeper, len(made.room.log.entries)
        for _ in range(200):
            made.beat()
            keeper.dead_man.look(keeper.record)
        await asyncio.sleep(0.01)
        assert len(made.room.log.entries) == size
        # Coming and going brings two entries for each time that the whole age passed, and no more.
        for _ in range(5):
            made.room.clock.at += AGE + 1
            for _ in range(20):
                keeper.dead_man.look(keeper.record)
            await asyncio.sleep(0.01)
            made.beat()
            for _ in range(20):
                keeper.dead_man.look(keeper.record)
            await asyncio.sleep(0.01)
        assert len(made.room.log.entries) == size + 10

    asyncio.run(run())


def test_heartbeats_are_one_kind_of_signed_thing() -> None:
    async def run() -> None:
        made = await Watched.made()
        payload = made.heartbeat().payload
        assert Heartbeat.parse(payload).to_bytes() == payload
        with pytest.raises(SignatureError):
            made.room.keeper.dead_man.hear(sign(HEARTBEAT_TYPE + "x", payload, signer(WATCHER)))
        with pytest.raises(SignatureError):
            made.room.keeper.dead_man.hear(sign(HEARTBEAT_TYPE, payload, *ROOTS))

    asyncio.run(run())
