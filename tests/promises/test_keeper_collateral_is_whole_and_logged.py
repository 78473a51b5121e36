"""The keeper takes collateral whole or not at all, and starts with what the log names, or with none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from strongroom.attestation.bundle.format import EMPTY, MAX_BUNDLE, Bundle
from strongroom.attestation.bundle.proof import CollateralUnprovenError
from strongroom.attestation.bundle.reading import read_item
from strongroom.attestation.collateral import CollateralKind
from strongroom.attestation.sev_snp.intermediates import shipped_intermediates
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, DeniedError, LockedError, MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper import collateral
from strongroom.keeper.collateral import PART_SECONDS, CollateralRegistry, Imported
from support.collateral import MemoryCollateral, whole
from support.retold import codes, retell
from support.room import Room

pytestmark = pytest.mark.integration
DANA, SAM = PersonId("dana"), PersonId("sam")


@dataclass
class Kept:
    """A furnished room with a registry of collateral."""

    room: Room = field(default_factory=Room)
    store: MemoryCollateral = field(default_factory=MemoryCollateral)

    async def open(self) -> CollateralRegistry:
        await self.room.furnish()
        return self.registry()

    def registry(self) -> CollateralRegistry:
        registry = CollateralRegistry(self.room.keeper, self.store, self.room.clock)
        registry.load()
        return registry

    def events(self) -> list[EventName]:
        return [read_entry(entry).event for entry in self.room.log.entries]


def intermediates(count: int = 6) -> Bundle:
    """Return real certificates that ship with the package: they lead to AMD's pinned roots."""
    return Bundle.of(read_item(CollateralKind.CERTIFICATE, der) for der in shipped_intermediates()[:count])


async def hand_in(registry: CollateralRegistry, bundle: Bundle, by: PersonId = DANA, size: int = 1000) -> Imported:
    data = bundle.to_bytes()
    for offset in range(0, len(data), size):
        part = data[offset : offset + size]
        came = await registry.receive(by, bundle=bundle.digest, size=len(data), offset=offset, part=part)
        if isinstance(came, Imported):
            return came
        assert came == offset + len(part)
    raise AssertionError("the last part imports")


def test_a_bundle_comes_in_parts_and_is_in_force_with_its_record() -> None:
    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        first = await hand_in(registry, intermediates(4))
        assert kept.room.keeper.collateral == intermediates(4).collateral
        second = await hand_in(registry, intermediates(), SAM, size=1 << 20)
        assert (first.added, second.added, second.items) == (4, 2, 6)
        assert first.recorded is not None
        assert second.recorded is not None
        entry = read_entry(kept.room.log.entries[second.recorded.index])
        assert entry.event is EventName.COLLATERAL_IMPORTED
        assert dict(entry.facts) == {"digest": str(intermediates().digest), "items": 6, "by": "sam"}
        assert list(kept.store.kept) == [intermediates().digest]

    asyncio.run(story())


def test_the_same_again_is_not_recorded_again() -> None:
    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        await hand_in(registry, intermediates())
        before = len(kept.room.log.entries)
        again = await hand_in(registry, intermediates(2))
        assert (again.recorded, again.added, again.items) == (None, 0, 6)
        assert len(kept.room.log.entries) == before

    asyncio.run(story())


def test_what_nobody_vouches_for_leaves_everything_as_it_was() -> None:
    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        with pytest.raises(CollateralUnprovenError):
            await hand_in(registry, Bundle.of((*whole().items, *intermediates().items)))
        assert registry.count == 0
        assert not kept.store.kept
        assert EventName.COLLATERAL_IMPORTED not in kept.events()
        assert kept.room.keeper.bundle == EMPTY

    asyncio.run(story())


def test_a_restart_takes_what_the_log_names() -> None:
    async def story() -> None:
        kept = Kept()
        await hand_in(await kept.open(), intermediates())
        await kept.room.restart()
        registry = kept.registry()
        assert (registry.count, registry.lost) == (6, False)
        assert kept.room.keeper.bundle == intermediates()
        assert {one.maker for one in registry.held(skip=0, count=9)} == {"amd-sev"}

    asyncio.run(story())


@pytest.mark.parametrize("left", ["nothing", "an older bundle", "another file"])
def test_a_restart_with_another_file_starts_without_collateral(left: str) -> None:
    async def story() -> None:
        kept = Kept()
        await hand_in(await kept.open(), intermediates())
        name = intermediates().digest
        kept.store.kept = {
            "nothing": {},
            "an older bundle": {name: intermediates(2).to_bytes()},
            "another file": {name: b"{}"},
        }[left]
        await kept.room.restart()
        registry = kept.registry()
        assert (registry.count, registry.lost) == (0, True)
        # Imported again it counts, and is recorded, though nothing in it is new to the log.
        came = await hand_in(registry, intermediates())
        assert came.recorded is not None
        assert not registry.lost

    asyncio.run(story())


def test_without_the_lost_collateral_a_machine_that_needs_none_is_released_to() -> None:
    async def story() -> None:
        kept = Kept()
        await hand_in(await kept.open(), intermediates())
        kept.store.kept = {}
        await kept.room.restart()
        assert kept.registry().lost
        room = kept.room
        request = await room.ask()
        await room.approvals(request)
        await room.release(request)
        assert room.log.last(EventName.RELEASED).digest("collateral") == EMPTY.digest
        assert codes(retell(room)) == set()

    asyncio.run(story())


def test_parts_are_taken_in_order_alone() -> None:
    async def story() -> None:
        registry = await Kept().open()
        data, name = intermediates().to_bytes(), intermediates().digest
        good = {"bundle": name, "size": len(data)}
        assert await registry.receive(DANA, **good, offset=0, part=data[:100]) == 100  # type: ignore[arg-type]
        for members in (
            {**good, "offset": 200},
            {**good, "offset": 100, "size": len(data) + 1},
            {**good, "offset": 100, "bundle": Digest.of(b"another")},
        ):
            with pytest.raises(ConflictError):
                await registry.receive(DANA, part=b"x", **members)  # type: ignore[arg-type]
        # Nobody goes on with somebody else's upload.
        with pytest.raises(ConflictError):
            await registry.receive(SAM, **good, offset=100, part=data[100:])  # type: ignore[arg-type]
        assert isinstance(await registry.receive(DANA, **good, offset=100, part=data[100:]), Imported)  # type: ignore[arg-type]

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["longer", "empty", "too large", "other bytes", "no bundle"])
def test_parts_that_make_up_something_else_are_refused(fault: str) -> None:
    async def story() -> None:
        registry = await Kept().open()
        data = intermediates().to_bytes()
        name, size, part = Digest.of(data), len(data), data
        if fault == "longer":
            part = data + b"x"
        elif fault == "empty":
            part = b""
        elif fault == "too large":
            size = MAX_BUNDLE + 1
        elif fault == "other bytes":
            part = b"x" * size
        else:
            part = b"[]"
            name, size = Digest.of(part), len(part)
        with pytest.raises(MalformedError):
            await registry.receive(DANA, bundle=name, size=size, offset=0, part=part)
        assert registry.count == 0

    asyncio.run(story())


def test_few_uploads_are_open_at_once_and_old_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collateral, "MAX_OPEN", 3)

    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        people = [one.id for one in kept.room.roster.people if one.active]
        assert len(people) == 4
        name = intermediates().digest
        for who in people[:3]:
            await registry.receive(who, bundle=name, size=10, offset=0, part=b"x")
        with pytest.raises(DeniedError) as caught:
            await registry.receive(people[-1], bundle=name, size=10, offset=0, part=b"x")
        assert caught.value.reason == "collateral-busy"
        kept.room.clock.at += PART_SECONDS
        assert await registry.receive(people[-1], bundle=name, size=10, offset=0, part=b"x") == 1

    asyncio.run(story())


def test_only_active_people_hand_in_and_only_to_an_unlocked_keeper() -> None:
    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        with pytest.raises(StrongroomError):
            await hand_in(registry, intermediates(), PersonId("nobody"))
        kept.room.keeper.lock("asked")
        with pytest.raises(LockedError):
            await hand_in(registry, intermediates())

    asyncio.run(story())


def test_leases_are_judged_again_with_what_came_in() -> None:
    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        judged_with: list[int] = []
        kept.room.keeper.changed = lambda: judged_with.append(len(kept.room.keeper.collateral.items))
        await hand_in(registry, intermediates())
        assert judged_with[-1] == 6

    asyncio.run(story())


@pytest.mark.parametrize(
    ("meanwhile", "refusal"),
    [
        (lambda room: setattr(room.keeper.documents, "reference_values", None), ConflictError),
        (lambda room: room.keeper.lock("asked"), LockedError),
    ],
    ids=["other roots are in force", "the keeper is locked"],
)
def test_what_changes_while_a_bundle_is_checked_stops_it(
    meanwhile: Callable[[Room], object], refusal: type[StrongroomError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        kept = Kept()
        registry = await kept.open()
        checked = collateral._admitted

        def slow(*given: Any) -> Any:
            result = checked(*given)
            meanwhile(kept.room)
            return result

        monkeypatch.setattr(collateral, "_admitted", slow)
        with pytest.raises(refusal):
            await hand_in(registry, intermediates())
        assert kept.room.keeper.bundle == EMPTY
        assert not kept.store.kept

    asyncio.run(story())
