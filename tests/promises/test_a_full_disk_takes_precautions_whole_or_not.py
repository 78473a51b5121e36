"""A precaution is taken or lifted whole or not at all, whichever write finds the disk full; the answer says why."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from strongroom.access.request import Action
from strongroom.audit.errors import LogFullError
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UnavailableError
from strongroom.core.events import EventName
from strongroom.keeper.adapters.files import DocumentFolder, PinFile
from strongroom.release.dossier import Dossier
from strongroom.release.precautions import PrecautionKind
from strongroom.release.statements import StatementKind
from support.precaution_statements import said, take
from support.room import Room
from support.stories import refused, run

pytestmark = pytest.mark.integration
HOLD = PrecautionKind.HOLD
CALLS = ("open", "fsync", "replace")


class FullDisk:
    """Refuses the call of a number among those that write, once; ``passed`` counts them."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.passed = 0

    def over(self, patch: pytest.MonkeyPatch) -> None:
        """Stand in for the calls by which the keeper's files are written."""
        for name in CALLS:
            patch.setattr(os, name, self._call(getattr(os, name)))

    def _call(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.passed += 1
            if self.passed == self.number:
                raise OSError(errno.ENOSPC, "no space")
            return real(*arguments, **named)

        return call

    @property
    def refused(self) -> bool:
        """Whether that call came."""
        return self.passed >= self.number


async def on_disk(folder: Path) -> Room:
    """Return a furnished room whose statements and pins lie in real files."""
    await asyncio.to_thread(folder.mkdir)
    room = Room()
    room.documents = DocumentFolder(folder)  # type: ignore[assignment]  # the real one
    room.pins = PinFile(folder)  # type: ignore[assignment]  # the real one
    room.keeper = room.make_keeper()
    room.people = room.make_people()
    return await room.furnish()


def entries(room: Room, event: EventName) -> int:
    return sum(f'"event":"{event.value}"'.encode() in entry for entry in room.log.entries)


def standing(room: Room) -> int:
    return len(room.keeper.journal.ledger.precautions.standing(room.clock.now()))


async def tried(room: Room, disk: FullDisk, act: Callable[[], Awaitable[object]]) -> bool:
    """Act on a full disk; returns whether it was done. A keeper that can't pin any more is started again."""
    with pytest.MonkeyPatch.context() as patch:
        disk.over(patch)
        failed = None
        try:
            await act()
        except UnavailableError as error:
            failed = error
    if failed is None:
        return True
    assert (failed.reason, "free space" in failed.remedy) == ("keeper-disk", True)
    if room.keeper.locked_because:
        assert room.keeper.locked_because == "pins-failed"
        # Its last word is on its way to the log: a process that is started after it finds that there.
        if (writing := room.keeper.journal._worker) is not None:
            await writing
        await room.restart()
    return False


def test_one_is_taken_whole_or_not_whichever_write_is_refused(tmp_path: Path) -> None:
    async def once(number: int) -> bool:
        room, disk = await on_disk(tmp_path / str(number)), FullDisk(number)
        envelope = said(room, HOLD)

        async def act() -> None:
            await room.people.state(StatementKind.PRECAUTION, envelope)

        if not await tried(room, disk, act):
            assert standing(room) == entries(room, EventName.PRECAUTION_TAKEN)
            if standing(room):
                await refused(act(), "statement-known")
            else:
                await act()
        await _stands_once(room, envelope)
        return disk.refused

    assert _every(once) > 8


async def _stands_once(room: Room, envelope: Envelope) -> None:
    await room.restart()
    assert (standing(room), entries(room, EventName.PRECAUTION_TAKEN)) == (1, 1)
    kept = room.documents.load(StatementKind.PRECAUTION.value, envelope.digest)
    assert kept is not None
    assert Envelope.parse(kept) == envelope


def test_one_is_lifted_whole_or_not_whichever_write_is_refused(tmp_path: Path) -> None:
    async def once(number: int) -> bool:
        room, disk = await on_disk(tmp_path / str(number)), FullDisk(number)
        request = await room.submit(Action.LIFT, target=await take(room, HOLD))
        dossier = Dossier(request=request, approvals=await room.approvals(request))

        async def act() -> None:
            await room.keeper.control(dossier)

        if not await tried(room, disk, act):
            assert standing(room) == 1 - entries(room, EventName.PRECAUTION_LIFTED)
            if standing(room):
                await act()
            else:
                await refused(act(), "no-such-precaution")
        await room.restart()
        assert (standing(room), entries(room, EventName.PRECAUTION_LIFTED)) == (0, 1)
        return disk.refused

    assert _every(once) > 3


def _every(once: Callable[[int], Coroutine[None, None, bool]]) -> int:
    """Let each write be refused in turn, until there is none left; returns how many there were."""
    number = 1
    while asyncio.run(once(number)):
        number += 1
    return number - 1


def test_while_the_log_is_short_of_space_one_is_taken_and_none_is_lifted() -> None:
    async def story(room: Room) -> None:
        name = await take(room, HOLD)
        request = await room.submit(Action.LIFT, target=name)
        dossier = Dossier(request=request, approvals=await room.approvals(request))
        room.log.short_of_space = True
        await room.keeper.journal.look_for_space()
        with pytest.raises(LogFullError, match="nearly full"):
            await room.keeper.control(dossier)
        assert standing(room) == 1
        await take(room)
        assert standing(room) == 2
        room.log.short_of_space = False
        await room.keeper.journal.look_for_space()
        await refused(room.keeper.control(dossier), "one-approver-more")

    run(story)
