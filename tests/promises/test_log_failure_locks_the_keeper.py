"""If the log fails, lies or stays silent, nothing is released: the keeper locks, and stays so until started again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from simulators.memory_log import MemoryLog
from strongroom.access.request import Action
from strongroom.core.errors import DeniedError, LockedError, MalformedError, StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.keeper import wiring
from strongroom.keeper.dead_man import DeadManGate
from strongroom.keeper.journal import Appended
from strongroom.keeper.shards import SHARD_LIMITS, Shards
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from support.deployment import signer
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


class Fails(MemoryLog):
    """Raises instead of answering."""

    error: Exception = UnavailableError("the disk is full")
    after = False

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Fail, before or after the entries became durable."""
        if self.after:
            await super().append(entries)
        raise self.error


async def nothing_more_is_released(room: Room, request_of: Callable[[], Awaitable[Dossier]]) -> None:
    keeper = room.keeper
    assert keeper.locked_because == "log-failed"
    with pytest.raises(LockedError):
        await request_of()
    with pytest.raises(LockedError):
        _ = keeper.vault.signer
    with pytest.raises(LockedError):
        _ = keeper.vault.epoch
    with pytest.raises(StrongroomError):
        await keeper.record_pinned(EventName.KEEPER_UNLOCKED, {})


async def ruined(room: Room, ruin: Callable[[], None]) -> StrongroomError:
    """Ruin the log with a release at the door; return why that release failed."""
    request = await room.ask(max_uses=9)
    waiting = await room.dossier(request, RecipientKey())
    ruin()
    with pytest.raises(StrongroomError) as caught:
        await room.keeper.release(waiting)
    await nothing_more_is_released(room, lambda: room.dossier(request, RecipientKey()))
    return caught.value


@pytest.mark.parametrize("error", [UnavailableError("full"), OSError("gone"), ValueError("odd")])
@pytest.mark.parametrize("after", [False, True])
def test_step_5_a_log_that_fails(error: Exception, after: bool) -> None:  # noqa: FBT001 - pytest passes it
    async def run() -> None:
        room = await Room().furnish()

        def ruin() -> None:
            room.log.__class__ = Fails
            assert isinstance(room.log, Fails)
            room.log.error, room.log.after = error, after

        assert (await ruined(room, ruin)).reason.startswith("log-failed.")

    asyncio.run(run())


def forked(log: MemoryLog) -> Callable[[Appended], Appended]:
    def answer(appended: Appended) -> Appended:
        log.entries[-1] = log.entries[-2]
        return Appended(appended.first, log.sign())

    return answer


LIES: dict[str, Callable[[MemoryLog], Callable[[Appended], Appended]]] = {
    "another place": lambda _log: lambda honest: Appended(honest.first + 1, honest.checkpoint),
    "an earlier place": lambda _log: lambda honest: Appended(honest.first - 1, honest.checkpoint),
    "an older checkpoint": lambda log: lambda honest: Appended(honest.first, log.sign(len(log.entries) - 1)),
    "a tree of other entries": forked,
    "a checkpoint by another key": lambda log: lambda honest: Appended(honest.first, log.sign(by=signer("thief"))),
    "no checkpoint": lambda _log: lambda honest: Appended(honest.first, b""),
    "a checkpoint that was changed": lambda _log: (
        lambda honest: Appended(honest.first, honest.checkpoint.replace(b"strongroom/room", b"strongroom/rOOm"))
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_step_5_a_log_that_lies(lie: str) -> None:
    async def run() -> None:
        room = await Room().furnish()

        def ruin() -> None:
            room.log.fault = LIES[lie](room.log)

        await ruined(room, ruin)

    asyncio.run(run())


def test_step_5_entries_that_the_keeper_didn_t_write() -> None:
    async def run() -> None:
        room = await Room().furnish()

        def ruin() -> None:
            # A second appender: a genuine old entry once more, slipped in before the release record.
            room.log.entries.append(room.log.entries[1])

        assert (await ruined(room, ruin)).reason == "log-failed.log-equivocates"

    asyncio.run(run())


def test_step_5_a_silent_log_releases_nothing() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        dossier = await room.dossier(request, RecipientKey())
        room.log.gate.clear()
        release = asyncio.create_task(room.keeper.release(dossier))
        _done, waiting = await asyncio.wait([release], timeout=0.2)
        assert waiting == {release}
        release.cancel()
        with pytest.raises(asyncio.CancelledError):
            await release
        # The caller left. The use is taken all the same: the record may become durable at any time.
        asyncio.get_running_loop().call_later(0.05, room.log.gate.set)
        with pytest.raises(StrongroomError) as caught:
            await room.release(request)
        assert caught.value.reason == "grant-spent"

    asyncio.run(run())


def test_a_failure_fails_everything_that_waits_behind_it() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=9)
        freezing = await room.submit(Action.FREEZE)
        dossiers = [await room.dossier(request, RecipientKey()) for _ in range(4)]
        room.log.gate.clear()
        acts: list[asyncio.Task[object]] = [asyncio.create_task(room.keeper.release(one)) for one in dossiers[:2]]
        await asyncio.sleep(0)
        acts += [asyncio.create_task(room.keeper.release(one)) for one in dossiers[2:]]
        acts.append(asyncio.create_task(room.keeper.control(Dossier(request=freezing))))
        await asyncio.sleep(0)
        room.log.fault = lambda honest: Appended(honest.first, b"")
        room.log.gate.set()
        results = await asyncio.gather(*acts, return_exceptions=True)
        assert all(isinstance(result, StrongroomError) for result in results), results
        assert room.keeper.locked_because == "log-failed"

    asyncio.run(run())


def test_batches_keep_the_order_and_one_is_in_flight() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=50)
        dossiers = [await room.dossier(request, RecipientKey()) for _ in range(20)]
        room.log.batches.clear()
        room.log.gate.clear()
        releases = [asyncio.create_task(room.keeper.release(one)) for one in dossiers]
        await asyncio.sleep(0.02)
        room.log.gate.set()
        await asyncio.gather(*releases)
        # The first append was under way with what was queued then; the rest went together. One grant for all of them.
        assert sum(room.log.batches) == 1 + 20
        assert len(room.log.batches) <= 2
        await room.restart()
        assert room.keeper.journal.ledger.times_used(request.digest) == 20

    asyncio.run(run())


def test_the_keys_are_wiped_when_the_vault_is_locked() -> None:
    async def run() -> None:
        room = await Room().furnish()
        vault = room.keeper.vault
        epochs = list(vault._epochs.values())
        buffers = [key._buffer for key in epochs]
        assert all(buffer is not None and any(buffer) for buffer in buffers)
        room.keeper.lock("asked")
        assert all(buffer is not None and not any(buffer) for buffer in buffers)
        assert not vault._epochs
        for use in (lambda: vault.signer, lambda: vault.epoch):
            with pytest.raises(LockedError):
                use()
        room.keeper.lock("again")
        assert room.keeper.locked_because == "asked"

    asyncio.run(run())


def test_pins_that_cannot_be_written_lock_the_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        room = await Room().furnish()

        def full(_pins: object) -> None:
            raise UnavailableError("`pins.json` can't be written: no space left on device", reason="keeper-disk")

        monkeypatch.setattr(room.pins, "save", full)
        with pytest.raises(UnavailableError):
            await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))
        assert room.keeper.locked_because == "pins-failed"
        with pytest.raises(LockedError):
            await room.ask()

    asyncio.run(run())


def test_a_pinning_loop_that_breaks_locks_the_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        room = await Room().furnish()

        def broken(_pins: object) -> None:
            raise RuntimeError

        monkeypatch.setattr(room.pins, "save", broken)
        monkeypatch.setattr(wiring, "PIN_SECONDS", 0)
        with pytest.raises(RuntimeError):
            await wiring._pin_always(room.keeper, Shards(room.keeper, room.clock, SHARD_LIMITS))
        assert room.keeper.locked_because == "pins-failed"

    asyncio.run(run())


@pytest.mark.parametrize("nonsense", [MalformedError("no answer"), DeniedError("not to you")])
def test_a_log_writer_that_answers_nonsense_does_not_end_the_pinning(
    monkeypatch: pytest.MonkeyPatch, nonsense: StrongroomError
) -> None:
    async def run() -> None:
        room = await Room().furnish()
        seen = list[str]()

        async def tight() -> bool:
            raise nonsense

        def looked(_dead_man: DeadManGate, _record: object) -> None:
            seen.append("dead man")
            if len(seen) > 2:
                raise RuntimeError

        monkeypatch.setattr(room.log, "tight", tight)
        monkeypatch.setattr(DeadManGate, "look", looked)
        monkeypatch.setattr(wiring, "PIN_SECONDS", 0)
        with pytest.raises(RuntimeError):
            await wiring._pin_always(room.keeper, Shards(room.keeper, room.clock, SHARD_LIMITS))
        # Round after round it was pinned, and the dead man looked at.
        assert seen == ["dead man"] * 3

    asyncio.run(run())
