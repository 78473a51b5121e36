"""While a hold stands, nothing that could be evidence goes by another way: given-up keys, copies, shares."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from strongroom.audit.entries import read_entry
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.detection.engine import Engine
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.intake.copies.register import Ending, Statement, Step
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.rotation import MAX_KEPT, Rotation, RotationUnfinishedError
from strongroom.keys.wrapping import WrapError
from strongroom.release.errors import LedgerError
from strongroom.release.precautions import PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from strongroom.release.share_statements import SHARE_DESTROYED_TYPE, ShareDestroyed
from strongroom.release.statements import StatementKind
from strongroom.responder.tailing import entry_event
from support.clocks import FixedClock
from support.copies import CopiesLab, opened_lab
from support.deployment import signer
from support.key_rooms import HOLD, MODELS, Crash, KeyRoom
from support.lying import lie
from support.precaution_statements import ESCROW_FACTS, take
from support.room import Room
from support.stories import refused, run

pytestmark = pytest.mark.integration


# --- rotation ---------------------------------------------------------------------------------------------------------


def in_keys(story: Callable[[KeyRoom], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story(await KeyRoom().open())

    asyncio.run(whole())


async def unstored(room: KeyRoom) -> str:
    """Return a data key whose row never came to be stored."""
    await room.seal(MODELS[0])
    lost = await room.seal(MODELS[0], register=False)
    del room.rows[lost]
    return lost


@pytest.mark.parametrize("subject", [MODELS[0], None])
def test_no_data_key_is_given_up_until_the_hold_is_lifted(subject: ModelId | None) -> None:
    async def story(room: KeyRoom) -> None:
        lost, keys = await unstored(room), room.keeper.journal.ledger.keys
        row = room.rows.copy()
        await room.hold(subject)
        await room.rotate(MODELS[0])
        assert not await room.move(MODELS[0])
        assert lost in keys.data_keys[MODELS[0]]
        assert len(keys.previous(MODELS[0])) == 1
        assert row.keys() == room.rows.keys()
        room.check()
        await room.lift()
        assert await room.move(MODELS[0])
        assert room.log.last(EventName.KEK_RETIRED).texts("lost") == (lost,)

    in_keys(story)


def retired(room: KeyRoom) -> list[tuple[str, tuple[str, ...]]]:
    """Return the KEKs that the log says are gone, and what went with each."""
    read = map(read_entry, room.log.entries)
    return [(one.text("kek"), one.texts("lost")) for one in read if one.event is EventName.KEK_RETIRED]


def kept_keks(room: KeyRoom) -> tuple[str, ...]:
    return tuple(one.kek for one in room.keeper.journal.ledger.keys.previous(MODELS[0]))


def test_a_held_model_is_rotated_again_and_nothing_goes_until_the_lift() -> None:
    async def story(room: KeyRoom) -> None:
        first, hidden = await unstored(room), room.rows.copy()
        await room.hold(MODELS[0])
        await room.rotate(MODELS[0])
        assert not await room.move(MODELS[0])
        # A draft of the time between stands under the second KEK, and its row comes late.
        second = await room.seal(MODELS[0], register=False)
        late = room.rows.pop(second)
        await room.rotate(MODELS[0])
        assert not await room.move(MODELS[0])
        keks = kept_keks(room)
        held = {one.kek for one in room.keeper.vault.keyring.keks}
        assert len(keks) == 2
        assert {*keks} < held
        assert retired(room) == []
        # Everything opens: what is in use under the newest, and what is held under its own.
        assert {stored.row.kek for stored in room.rows.values()} == held - {*keks}
        room.rows[second] = late
        room.check()
        del room.rows[second]
        assert hidden.keys() == room.rows.keys()
        await room.lift()
        assert await room.move(MODELS[0])
        assert retired(room) == [(keks[0], (first,)), (keks[1], (second,))]
        assert {one.kek for one in room.keeper.vault.keyring.keks} == held - {*keks}
        room.check()

    in_keys(story)


def test_it_is_rotated_again_only_when_all_that_is_in_use_was_seen_moved() -> None:
    async def story(room: KeyRoom) -> None:
        await unstored(room)
        await room.hold(MODELS[0])
        await room.rotate(MODELS[0])

        async def waits() -> str:
            with pytest.raises(RotationUnfinishedError) as waiting:
                await room.rotate(MODELS[0])
            return waiting.value.remedy

        assert "wait until the broker moved them" in await waits()
        assert not await room.move(MODELS[0])
        # A keeper that was started anew has seen nothing yet.
        await room.reopen()
        assert "wait until the broker moved them" in await waits()
        assert not await room.move(MODELS[0])
        for _again in range(MAX_KEPT - 1):
            await room.rotate(MODELS[0])
            assert not await room.move(MODELS[0])
        assert len(kept_keks(room)) == MAX_KEPT
        assert f"precaution lift {HOLD}" in await waits()
        await room.lift()
        assert await room.move(MODELS[0])
        assert kept_keks(room) == ()
        await room.rotate(MODELS[0])

    in_keys(story)


def test_wherever_the_keeper_ends_while_they_go_none_of_them_opens_anything_again() -> None:
    async def story(room: KeyRoom, place: int) -> bool:
        first = await unstored(room)
        await room.hold(MODELS[0])
        await room.rotate(MODELS[0])
        await room.move(MODELS[0])
        second = await room.seal(MODELS[0], register=False)
        late = room.rows.pop(second)
        await room.rotate(MODELS[0])
        await room.move(MODELS[0])
        keks = kept_keks(room)
        await room.lift()
        room.fuse.left = place
        whole = False
        with suppress(Crash, StrongroomError):
            whole = await room.move(MODELS[0])
        await room.reopen()
        # What came late is found by its own KEK or given up for good, and never registered under a key that is gone.
        if second in room.keeper.journal.ledger.keys.data_keys[MODELS[0]]:
            room.rows[second] = late
            room.check()
        assert await room.move(MODELS[0]) or not kept_keks(room)
        gone = dict(retired(room))
        assert [*gone] == [*keks]
        assert gone[keks[0]] == (first,)
        room.check()
        return whole

    async def from_the_first_place_on() -> None:
        places = 0
        while not await story(await KeyRoom().open(), places):
            places += 1
        assert places > 5

    asyncio.run(from_the_first_place_on())


def test_without_a_hold_the_log_takes_no_rotation_before_the_last_is_done() -> None:
    async def story(room: KeyRoom) -> None:
        await unstored(room)
        await room.hold(MODELS[0])
        await room.rotate(MODELS[0])
        await room.move(MODELS[0])
        await room.lift()
        keys = room.keeper.journal.ledger.keys
        active = keys.active(MODELS[0])
        assert active is not None
        facts: dict[str, Fact] = {
            "request": Digest.of(b"a request"), "model": MODELS[0], "kek": "new", "previous": active.kek, "epoch": 1,
        }  # fmt: skip
        with pytest.raises(LedgerError, match="before the rotation before is finished"):
            await lie(room.keeper, EventName.KEK_ROTATED, facts)
        assert keys.active(MODELS[0]) == active

    in_keys(story)


def test_what_lost_the_race_to_a_version_opens_as_long_as_a_hold_stands() -> None:
    async def story(room: KeyRoom) -> None:
        await room.seal(MODELS[0])
        outrun = await room.seal(MODELS[0], register=False)
        await room.seal(MODELS[0])
        stored = room.rows[outrun]

        def opens() -> bool:
            try:
                room.keeper.vault.open(stored.model, stored.version, outrun, stored.row).wipe()
            except WrapError:
                return False
            return True

        await room.hold(MODELS[0])
        for _again in range(2):
            await room.rotate(MODELS[0])
            assert not await room.move(MODELS[0])
            assert opens()
        # A keeper that is started anew knows it by the log.
        await room.reopen()
        assert not await room.move(MODELS[0])
        assert opens()
        await room.lift()
        assert await room.move(MODELS[0])
        assert not opens()
        room.check()

    in_keys(story)


def test_a_hold_that_is_taken_while_it_is_planned_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(room: KeyRoom) -> None:
        lost = await unstored(room)
        await room.rotate(MODELS[0])
        original = Rotation._planned

        async def planned(rotation: Rotation, plan: Callable[[], Keyring]) -> tuple[Keyring, bytes]:
            made = await original(rotation, plan)
            await room.hold(MODELS[0])
            return made

        with monkeypatch.context() as patch:
            patch.setattr(Rotation, "_planned", planned)
            assert not await room.move(MODELS[0])
        assert lost in room.keeper.journal.ledger.keys.data_keys[MODELS[0]]

    in_keys(story)


def test_a_stolen_key_is_rotated_away_whatever_is_held() -> None:
    async def story(room: KeyRoom) -> None:
        await room.seal(MODELS[0])
        await room.hold(None)
        await room.rotate(MODELS[0])
        assert await room.move(MODELS[0])
        await room.keys.rotate_epoch(Digest.of(b"an order"))
        await room.keys.rotate_root(Digest.of(b"another order"))
        room.check()

    in_keys(story)


def test_a_hold_on_another_model_holds_no_key_of_this_one() -> None:
    async def story(room: KeyRoom) -> None:
        await unstored(room)
        await room.hold(MODELS[1])
        await room.rotate(MODELS[0])
        assert await room.move(MODELS[0])

    in_keys(story)


# --- copies -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CopiesLab]:
    with opened_lab(tmp_path, monkeypatch) as made:
        (made.tree / "a").mkdir()
        (made.tree / "a" / "model.bin").write_bytes(b"a" * 5000)
        (made.folder / "certificate").write_bytes(b"shredded")
        yield made


def held(lab: CopiesLab) -> None:
    """Have dana take a hold on everything."""
    made = Precaution(
        genesis=lab.deployment.genesis.digest,
        kind=PrecautionKind.HOLD,
        subject=None,
        cause=Cause.LEGAL,
        incident=None,
        at=lab.deployment.clock.now(),
        until=None,
    )
    envelope = sign(PRECAUTION_TYPE, made.to_bytes(), signer("dana"))
    lab.deployment.call("POST", "/v1/statements/precaution", body={"envelope": envelope.to_json()})


@pytest.mark.parametrize("how", ["destroyed", "key-destroyed", "returned"])
def test_no_copy_is_destroyed_or_given_back_and_a_loss_can_be_told(lab: CopiesLab, how: str) -> None:
    copy = lab.add(lab.tree / "a", kind="sealed")["copy"]
    held(lab)
    told = lab.copies("retire", copy, "--how", how, "--evidence", lab.folder / "certificate", code=3)
    assert (told["code"], "precaution lift" in told["remedy"]) == ("model-held", True)
    assert [one["copy"] for one in lab.copies("ls")["copies"]] == [copy]
    lab.copies("retire", copy, "--how", "lost")


def test_the_log_takes_what_ended_before_and_nothing_that_ended_since(lab: CopiesLab) -> None:
    deployment = lab.deployment
    lab.add(lab.tree / "a")
    copies, now = deployment.keeper.journal.ledger.copies, deployment.clock.now()
    ((name, added),) = copies.copies.items()

    def ended(at: int) -> None:
        said = Statement(
            genesis=deployment.genesis.digest,
            previous=added.statement,
            at=at,
            copy=name,
            step=Step.RETIRED,
            ending=Ending.DESTROYED,
            evidence=Digest.of(b"shown"),
        )
        envelope = said.signed_by(signer("dana"))
        deployment.call("POST", "/v1/statements/copy", body={"envelope": envelope.to_json()})

    assert isinstance(deployment.clock, FixedClock)
    deployment.clock.at = now + 60
    held(lab)
    for at in (now + 60, now + 61):
        with pytest.raises(StrongroomError) as caught:
            ended(at)
        assert caught.value.reason == "model-held"
    assert copies.copies[name].ending is None
    ended(now + 59)
    assert copies.copies[name].ending is Ending.DESTROYED
    # Its time is the registrar's word: so the entry names the hold, and whoever watches the log is told.
    last = read_entry(deployment.log.entries[-1])
    (hold,) = deployment.keeper.journal.ledger.precautions.known.values()
    assert last.facts["hold"] == str(hold.name)
    hits = Engine(shipped_pack(), regex=linear_regex).observe(entry_event(7, last), deployment.clock.now())
    assert [hit.rule for hit in hits] == ["copy-ended-before-hold"]


# --- shares of old root keys ------------------------------------------------------------------------------------------


def test_no_old_share_is_said_to_be_destroyed() -> None:
    async def story(room: Room) -> None:
        await lie(room.keeper, EventName.ESCROW_ADOPTED, ESCROW_FACTS)
        room.keeper.journal.ledger.keys.generation = 2
        said = ShareDestroyed(genesis=room.genesis.digest, custodian=PersonId("sam"), generation=1)
        statement = sign(SHARE_DESTROYED_TYPE, said.to_bytes(), signer("sam"))
        await take(room, PrecautionKind.HOLD)
        await refused(room.people.state(StatementKind.SHARE_DESTROYED, statement), "share-held")

    run(story)


def test_the_command_says_so_before_anything_is_signed(lab: CopiesLab) -> None:
    held(lab)
    told = lab.json("custodian", "destroyed", "1", "--yes", "--as", lab.wallet, code=3)
    assert told["code"] == "share-held"
