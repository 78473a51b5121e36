"""The keeper closes a shard for keys that were prepared, and whatever happens at the seam, one successor goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from simulators.attester import NOW
from simulators.memory_log import MemoryLog
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.errors import SuccessionError
from strongroom.audit.facts import Fact
from strongroom.audit.succession import Succession
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.keeper.journal import Appended, LogEquivocationError
from strongroom.keeper.pins import RolledBackError
from strongroom.keeper.shards import SHARD_LIMITS, ShardLimits, Shards
from strongroom.release.errors import LedgerError
from strongroom.release.ledger_parts import Grant
from support.room import Room

pytestmark = pytest.mark.integration


def tail(room: Room, count: int) -> list[Entry]:
    return [read_entry(data) for data in room.log.entries[-count:]]


async def opened() -> Room:
    room = Room()
    await room.keeper.start()
    return room


def turn(room: Room) -> asyncio.Future[object]:
    return asyncio.ensure_future(room.keeper.journal.turn(room.keeper.vault.signer))


def test_a_shard_is_closed_for_the_next_and_nothing_stands_between() -> None:
    async def run() -> None:
        room = await opened()
        journal = room.keeper.journal
        turned = turn(room)
        room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        await turned
        await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        events = [entry.event for entry in tail(room, 4)]
        assert events[-3:] == [EventName.SHARD_CLOSED, EventName.SHARD_CONTINUED, EventName.KEEPER_UNLOCKED]
        assert len(journal.succession.shards) == 2
        # Index and pinned size go on over the seam; the root is the new tree's.
        assert journal.durable[0] == len(room.log.entries)
        head = journal.succession.read(room.log.sign())
        assert (head.size, head.root) == journal.durable
        assert head.checkpoint.size == 2

    asyncio.run(run())


def test_a_restarted_keeper_replays_every_shard_and_keeps_the_pins() -> None:
    async def run() -> None:
        room = await opened()
        for _ in range(3):
            await turn(room)
            room.keeper.pin()
        shards = room.keeper.journal.succession.shards
        await room.restart()
        assert room.keeper.journal.succession.shards == shards
        assert [shard.origin for shard in shards] == [
            shards[0].origin,
            *(f"{shards[0].origin}/{n}" for n in (2, 3, 4)),
        ]

    asyncio.run(run())


def test_a_crash_behind_the_closing_entry_is_gone_on_from_with_the_same_keys() -> None:
    async def run() -> None:
        room = await opened()
        await turn(room)
        journal = room.keeper.journal
        room.keeper.pin()
        # As if the opening had never reached the disk, though it was pinned: that is a rollback.
        del room.log.entries[-1:]
        with pytest.raises(RolledBackError):
            await room.restart()
        # The end of a shard is a place like any other: size over all shards, and the final root.
        size = len(room.log.entries)
        root = Digest(DigestAlgorithm.SHA256, journal.ledger.root_at(size))
        room.pins.save(replace(journal.pins(), log_size=size, log_root=root))
        await room.restart()
        assert [entry.event for entry in tail(room, 3)] == [
            EventName.SHARD_CLOSED,
            EventName.SHARD_CONTINUED,
            EventName.KEEPER_UNLOCKED,
        ]
        assert room.keeper.journal.succession == journal.succession

    asyncio.run(run())


def test_a_key_that_was_in_use_before_is_refused() -> None:
    async def run() -> None:
        room = await opened()
        room.log.signers.append(room.log.signers[0])
        size = len(room.log.entries)
        with pytest.raises(SuccessionError):
            await turn(room)
        # Nothing was queued, and the log goes on where it was.
        await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        assert len(room.log.entries) == size + 1

    asyncio.run(run())


@pytest.mark.parametrize("what", ["old key", "wrong origin", "first key"])
def test_a_checkpoint_of_another_tree_at_the_seam_is_refused(what: str) -> None:
    async def run() -> None:
        room = await opened()

        def fault(answer: Appended) -> Appended:
            if read_entry(room.log.entries[-1]).event is not EventName.SHARD_CONTINUED:
                return answer
            by = room.log.signers[0] if what == "old key" else Ed25519Signer.from_seed(b"X" * 32)
            if what == "wrong origin":
                room.log.succession = Succession(room.log.succession.shards[:1])
                return Appended(answer.first, room.log.sign())
            return Appended(answer.first, room.log.sign(by=by))

        room.log.fault = fault
        with pytest.raises(UnavailableError):
            await turn(room)
        assert room.keeper.locked_because == "log-failed"

    asyncio.run(run())


def replayed(change: Callable[[MemoryLog], None]) -> StrongroomError:
    async def run() -> StrongroomError:
        room = await opened()
        await turn(room)
        await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        room.pins.history.clear()
        change(room.log)
        keeper = room.make_keeper()
        with pytest.raises(StrongroomError) as caught:
            await keeper.start()
        return caught.value

    return asyncio.run(run())


def test_an_entry_between_two_shards_is_refused() -> None:
    def change(log: MemoryLog) -> None:
        del log.entries[-2]

    assert isinstance(replayed(change), LogEquivocationError)


def test_a_closing_entry_that_was_edited_is_refused() -> None:
    def change(log: MemoryLog) -> None:
        data = log.entries[-3]
        key = read_entry(data).text("key")
        log.entries[-3] = data.replace(key.encode(), str(Ed25519Signer.from_seed(b"Y" * 32).public_key).encode())

    assert replayed(change).reason == "log-entry-forged"


def test_only_the_opening_is_recorded_between_two_shards() -> None:
    async def run() -> None:
        room = await opened()
        journal = room.keeper.journal
        with pytest.raises(LedgerError):
            journal.resume_turn(room.keeper.vault.signer)
        with pytest.raises(LedgerError):
            room.keeper.record(EventName.SHARD_CONTINUED, {})

    asyncio.run(run())


def test_a_shard_ends_by_itself_when_it_is_large_or_old() -> None:
    async def run() -> None:
        room = await opened()
        shards = Shards(room.keeper, room.clock, ShardLimits(entries=16, seconds=7200))
        assert await shards.turn_if_due() is None
        for _ in range(16):
            await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        assert await shards.turn_if_due() is not None
        assert room.keeper.journal.shard_size == 1
        assert await shards.turn_if_due() is None
        room.clock.at += 7200
        assert await shards.turn_if_due() is not None

    asyncio.run(run())


def test_a_young_shard_is_not_closed_by_command() -> None:
    async def run() -> None:
        room = await opened()
        shards = Shards(room.keeper, room.clock, SHARD_LIMITS)
        with pytest.raises(StrongroomError) as caught:
            await shards.turn()
        assert caught.value.reason == "log-shard-young"
        room.clock.at += 3600
        await shards.turn()

    asyncio.run(run())


async def long_ago(entries: int) -> tuple[Room, Shards]:
    """Return a deployment whose first shard holds so many entries more than it began with, and is closed."""
    room = await opened()
    for _ in range(entries):
        await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
    await turn(room)
    return room, Shards(room.keeper, room.clock, ShardLimits(kept=1000))


def test_a_closed_shard_is_pruned_when_it_was_kept_long_enough() -> None:
    async def run() -> None:
        room, shards = await long_ago(600)
        room.clock.at += 999
        with pytest.raises(StrongroomError) as caught:
            await shards.prune(1, 256)
        assert caught.value.reason == "log-shard-kept"
        room.clock.at += 1
        recorded = await shards.prune(1, 256)
        entry = read_entry(recorded.entry)
        assert (entry.integer("shard"), entry.integer("minimum")) == (1, 256)
        await room.restart()
        assert room.keeper.journal.pruned == {1: 256}
        again = Shards(room.keeper, room.clock, ShardLimits(kept=1000))
        await again.prune(1, 512)

    asyncio.run(run())


def test_nothing_is_pruned_while_anything_is_held() -> None:
    async def run() -> None:
        room, shards = await long_ago(600)
        room.clock.at += 1000
        facts: dict[str, Fact] = {
            "kind": "hold",
            "subject": None,
            "cause": "legal",
            "incident": None,
            "until": None,
            "person": "dana",
            "statement": Digest.of(b"statement"),
        }
        await room.keeper.record(EventName.PRECAUTION_TAKEN, facts)
        with pytest.raises(StrongroomError) as caught:
            await shards.prune(1, 256)
        assert caught.value.reason == "log-held"

    asyncio.run(run())


@pytest.mark.parametrize("minimum", [0, 1, 255, 257, 768, 1024])
def test_only_whole_bundles_but_the_last_are_pruned(minimum: int) -> None:
    async def run() -> None:
        room, shards = await long_ago(600)
        room.clock.at += 1000
        with pytest.raises(StrongroomError):
            await shards.prune(1, minimum)

    asyncio.run(run())


def test_an_open_shard_and_what_is_pruned_already_are_refused() -> None:
    async def run() -> None:
        room, shards = await long_ago(600)
        room.clock.at += 1000
        for number in (2, 3):
            with pytest.raises(StrongroomError) as caught:
                await shards.prune(number, 256)
            assert caught.value.reason == "log-shard-open"
        await shards.prune(1, 512)
        with pytest.raises(StrongroomError):
            await shards.prune(1, 256)

    asyncio.run(run())


def test_nothing_is_pruned_while_something_from_before_lives() -> None:
    async def run() -> None:
        room, shards = await long_ago(600)
        room.clock.at += 1000
        ledger = room.keeper.journal.ledger
        name = Digest.of(b"a grant")
        ledger.grants[name] = Grant(
            requester=PersonId("dana"),
            model=ModelId("atlas"),
            access="copy",
            at=NOW,
            expires=NOW + 10_000,
            uses=1,
            approvers=(),
        )
        with pytest.raises(StrongroomError) as caught:
            await shards.prune(1, 256)
        assert caught.value.reason == "log-shard-needed"
        ledger.revoked.add(name)
        await shards.prune(1, 256)

    asyncio.run(run())
