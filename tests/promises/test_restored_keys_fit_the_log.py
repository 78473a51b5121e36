"""What a restored keeper takes up: an order that is good once, a keyring that fits the log, a new epoch, no lease.

A keeper in this process, over a log and stores in memory; crashes are put between any two steps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.attester import NOW
from strongroom.access.request import LogHead
from strongroom.audit.facts import MAX_LIST
from strongroom.core.buckets import TooManyEntriesError
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.reconciling import KeyringRolledBackError, reconcile
from strongroom.keeper.restoring import (
    KeysMissingError,
    Restored,
    Restoring,
    drop_unreadable,
    fit,
    restored_pins,
)
from strongroom.keeper.rotation import Reached, Rotation
from strongroom.keys.states import KeyState
from strongroom.release.key_ledger import EpochRecord, KeyLedger
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder, KeyOrderRefusedError
from strongroom.release.lease import LeaseEndedError
from support.deployment import MODEL, ROOTS
from support.examples import examples
from support.room import Room

pytestmark = pytest.mark.integration

BACKUP = Digest.of(b"a backup")
AUTHORITY = Digest.of(b"an order")


@dataclass
class Marker:
    """The marker of a restored deployment, in memory."""

    kept: Restored | None = None
    dropped: list[Restored] = field(default_factory=list)

    def load(self) -> Restored | None:
        """Return it."""
        return None if self.kept is None else Restored.parse(self.kept.to_bytes())

    def drop(self) -> None:
        """Remove it."""
        if self.kept is not None:
            self.dropped.append(self.kept)
        self.kept = None


class KilledError(Exception):
    """The process was killed here."""


def order(room: Room, **members: object) -> Envelope:
    ledger = room.keeper.journal.ledger
    made = KeyOrder(
        genesis=room.genesis.digest,
        act=KeyAct.RESTORE,
        subject=BACKUP,
        nonce=bytes(16),
        log=LogHead(size=ledger.size, root=Digest(DigestAlgorithm.SHA256, ledger.root_at(ledger.size))),
        issued=room.clock.now(),
        expires=room.clock.now() + 3600,
    )
    return sign(KEY_ORDER_TYPE, replace(made, **members).to_bytes(), *ROOTS[:2])  # type: ignore[arg-type]


def marker(room: Room, *, lost: tuple[str, ...] = (), **members: object) -> Marker:
    return Marker(Restored(order=order(room, **members), backup=BACKUP, size=1000, lost=lost))


async def start(
    room: Room, marker: Marker, dies: Callable[[Reached], None] = lambda _place: None, *, finish: bool = True
) -> Restoring:
    """Start a keeper as the process does."""
    room.keeper = room.make_keeper()
    room.people = room.make_people()
    restoring = Restoring(room.keeper, marker, room.clock)
    await room.keeper.start()
    rotation: Rotation = room.rotation()
    if restoring.begun:
        drop_unreadable(rotation.records, room.keeper.journal.ledger)
    room.people.load()
    await rotation.resume()
    rotation.reached = dies
    if finish:
        await restoring.finish(rotation)
    return restoring


def keys(room: Room) -> KeyLedger:
    return room.keeper.journal.ledger.keys


def current(room: Room) -> EpochRecord:
    epoch = keys(room).current_epoch(escrowed=True)
    assert epoch is not None
    return epoch


def counted(room: Room, event: EventName) -> int:
    return sum(f'"{event.value}"'.encode() in entry for entry in room.log.entries)


def run(work: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(work())


def test_a_restored_keeper_records_it_once_takes_a_new_epoch_and_opens_its_models() -> None:
    async def restored() -> None:
        room = await Room().furnish()
        kept = marker(room)
        before = current(room)
        await start(room, kept)
        after = current(room)
        assert after.epoch > before.epoch
        assert after.authority == kept.dropped[0].order.digest
        assert keys(room).epochs[before.epoch].state is KeyState.DESTROYED
        assert kept.kept is None
        _delivery, data_key = await room.release(await room.ask())
        data_key.wipe()
        # The marker put back, by whoever has an old copy of the folder: an order is good once.
        kept.kept = kept.dropped[0]
        await start(room, kept)
        assert counted(room, EventName.DEPLOYMENT_RESTORED) == 1
        assert current(room) == after

    run(restored)


def test_a_marker_that_is_put_back_later_changes_no_key() -> None:
    async def restored() -> None:
        room = await Room().furnish()
        kept = marker(room)
        await start(room, kept)
        await room.rotation().rotate_epoch(AUTHORITY)
        # And an order of another kind, carried out long ago.
        other = order(room, act=KeyAct.ROTATE_ROOT, subject=None)
        await room.rotation().rotate_root(other.digest)
        after = current(room)
        for again in (kept.dropped[0], replace(kept.dropped[0], order=other)):
            kept.kept = again
            await start(room, kept)
            assert current(room) == after
            assert kept.kept is None

    run(restored)


@pytest.mark.parametrize("place", [None, *Reached])
def test_a_crash_on_the_way_is_mended_at_the_next_start(place: Reached | None) -> None:
    def dies(at: Reached) -> None:
        if at is place:
            raise KilledError

    async def crashed() -> None:
        room = await Room().furnish()
        kept = marker(room)
        try:
            await start(room, kept, dies, finish=place is not None)
            died = False
        except KilledError:
            died = True
        assert died is (place in {Reached.HELD, Reached.RECORDED, Reached.MOVED, Reached.REMOVED})
        await start(room, kept)
        assert kept.kept is None
        assert counted(room, EventName.DEPLOYMENT_RESTORED) == 1
        assert len(list(keys(room).living_epochs())) == 1
        _delivery, data_key = await room.release(await room.ask())
        data_key.wipe()
        assert reconcile(room.keeper.vault.keyring, keys(room), held=lambda _model: False).records == ()

    run(crashed)


def test_every_lease_of_before_is_over() -> None:
    async def ended() -> None:
        room = await Room().furnish()
        delivery, data_key = await room.release(await room.ask())
        data_key.wipe()
        await start(room, marker(room))
        ledger = room.keeper.journal.ledger
        assert ledger.ended[delivery.request, delivery.use] == "deployment-restored"
        assert LeaseEndedError(ledger.ended[delivery.request, delivery.use]).reason

    run(ended)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"subject": Digest.of(b"another backup")}, "other-order"),
        ({"act": KeyAct.ROTATE_EPOCH, "subject": None}, "other-order"),
        ({"genesis": Digest.of(b"another")}, "other-deployment"),
        ({"issued": NOW - 7200, "expires": NOW - 3600}, "order-expired"),
        ({"log": LogHead(size=3, root=Digest.of(b"another log"))}, "log-forked"),
        ({"log": LogHead(size=10_000, root=Digest.of(b"a longer log"))}, "log-forked"),
    ],
)
def test_a_keeper_starts_under_no_other_order(members: dict[str, object], reason: str) -> None:
    async def refused() -> None:
        room = await Room().furnish()
        kept = marker(room, **members)  # type: ignore[arg-type]  # none is `lost`
        with pytest.raises(KeyOrderRefusedError) as caught:
            await start(room, kept)
        assert caught.value.reason == reason
        assert kept.kept is not None
        assert counted(room, EventName.DEPLOYMENT_RESTORED) == 0

    run(refused)


def test_an_order_that_too_few_signed_starts_nothing() -> None:
    async def refused() -> None:
        room = await Room().furnish()
        kept = marker(room)
        assert kept.kept is not None
        kept.kept = replace(kept.kept, order=sign(KEY_ORDER_TYPE, kept.kept.order.payload, ROOTS[0]))
        with pytest.raises(StrongroomError):
            await start(room, kept)

    run(refused)


def test_a_lost_key_is_in_the_log_and_its_model_stays_shut() -> None:
    async def lost() -> None:
        room = await Room().furnish()
        held = Keyring.parse(room.keyrings.history[-1])
        package = held.without_keks(one.kek for one in held.keks)
        fitted = fit(package, keys(room))
        assert fitted.models == (MODEL,)
        request = await room.ask()
        room.keyrings.history.append(fitted.keyring.to_bytes())
        with pytest.raises(KeyringRolledBackError):
            await start(room, Marker())
        await start(room, marker(room, lost=fitted.lost))
        with pytest.raises(StrongroomError) as caught:
            await room.release(request)
        assert caught.value.reason
        # It is settled for good: the next start finds nothing missing.
        await start(room, Marker())

    run(lost)


def test_a_key_package_of_before_a_rotation_is_refused() -> None:
    async def old() -> None:
        room = await Room().furnish()
        package = Keyring.parse(room.keyrings.history[-1])
        with pytest.raises(KeysMissingError, match="generation 2"):
            fit(replace(package, generation=2, authority=AUTHORITY), keys(room))
        await room.rotation().rotate_epoch(AUTHORITY)
        with pytest.raises(KeysMissingError, match="lacks key epoch"):
            fit(package, keys(room))

    run(old)


def test_a_key_package_that_lacks_more_than_one_entry_can_name_is_refused() -> None:
    async def restored() -> None:
        room = await Room().furnish()
        kek = keys(room).active(MODEL)
        assert kek is not None
        for number in range(MAX_LIST):
            keys(room).keks[str(number)] = replace(kek, kek=str(number))
        keyring = room.keeper.vault.keyring
        assert len(fit(keyring, keys(room)).lost) == MAX_LIST
        with pytest.raises(KeysMissingError):
            fit(keyring.without_keks({kek.kek}), keys(room))

    run(restored)


def test_what_the_log_calls_destroyed_is_taken_out_of_a_key_package() -> None:
    async def taken() -> None:
        room = await Room().furnish()
        before = Keyring.parse(room.keyrings.history[-1])
        await room.rotation().rotate_epoch(AUTHORITY)
        after = Keyring.parse(room.keyrings.history[-1])
        # A package that somebody put together: today's keys, and those of before the rotation besides.
        both = replace(after, epochs=(*before.epochs, *after.epochs), keks=(*before.keks, *after.keks))
        fitted = fit(both, keys(room))
        assert fitted.lost == ()
        assert {held.epoch for held in fitted.keyring.epochs} == {held.epoch for held in after.epochs}
        assert {(held.kek, held.epoch) for held in fitted.keyring.keks} == {
            (held.kek, held.epoch) for held in after.keks
        }
        reconcile(fitted.keyring, keys(room), held=lambda _model: False)

    run(taken)


def test_records_that_a_backup_has_in_another_version_clear_nobody_and_stop_nothing() -> None:
    async def newer() -> None:
        room = await Room().furnish()
        then = dict(room.records.files)
        for _ in range(2):
            await room.vet("sam")
        await room.vet("rina")
        room.records.files = then
        await start(room, marker(room))
        vetted = set(room.keeper.documents.vetting)
        assert "dana" in vetted
        assert not {"sam", "rina"} & vetted
        await room.vet("sam")
        assert "sam" in room.keeper.documents.vetting

    run(newer)


def test_records_under_an_epoch_that_is_gone_stop_nothing() -> None:
    async def gone() -> None:
        room = await Room().furnish()
        then = dict(room.records.files)
        await room.rotation().rotate_epoch(AUTHORITY)
        room.records.files = then
        await start(room, marker(room))
        assert not room.keeper.documents.vetting

    run(gone)


def test_backups_are_recorded_but_not_without_end_nor_ahead_of_the_log() -> None:
    async def recorded() -> None:
        room = await Room().furnish()
        restoring = await start(room, Marker())
        size = room.keeper.journal.ledger.size
        with pytest.raises(DeniedError, match="doesn't have"):
            await restoring.made(BACKUP, size=5, log=size + 1)
        made = 0
        with suppress(TooManyEntriesError):
            while made < 100:
                await restoring.made(BACKUP, size=5, log=size)
                made += 1
        assert 1 < made < 40
        assert counted(room, EventName.BACKUP_MADE) == made

    run(recorded)


def test_pins_are_of_the_whole_log() -> None:
    async def pinned() -> None:
        room = await Room().furnish()
        ledger = room.keeper.journal.ledger
        pins = restored_pins(room.genesis, ledger, at=NOW + 5)
        assert (pins.log_size, pins.log_root.value) == (ledger.size, ledger.root_at(ledger.size))
        assert (pins.roster_epoch, pins.policy_epoch, pins.latest) == (1, 1, NOW + 5)

    run(pinned)


@settings(max_examples=examples(100))
@given(st.binary(max_size=400))
def test_a_marker_is_read_or_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Restored.parse(data)
