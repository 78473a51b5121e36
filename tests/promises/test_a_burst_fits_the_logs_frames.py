"""However much waits for a log whose disk stalls, each append is one that a frame holds: a burst stops no keeper."""

from __future__ import annotations

import asyncio

import pytest

from strongroom.audit.protocol import write_entries
from strongroom.core.canonical import MAX_INTEGER
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.ipc import frames
from strongroom.keeper.journal import Appended
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

WAITING = 999


def test_releases_that_waited_for_the_disk_are_appended_in_frames_that_hold_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        room = await Room().furnish()
        await room.release(await room.ask(max_uses=WAITING + 1))
        facts = dict(room.log.last(EventName.RELEASED).facts)
        before, append, sent = len(room.log.entries), room.log.append, list[int]()

        async def framed(entries: tuple[bytes, ...]) -> Appended:
            # As the keeper's own client does.
            sent.append(len(frames.call(MAX_INTEGER, "append", {"entries": write_entries(entries)})))
            return await append(entries)

        monkeypatch.setattr(room.log, "append", framed)
        waiting = [
            room.keeper.record(
                EventName.RELEASED, {**facts, "use": use, "recipient": Digest.of(use.to_bytes(4, "big"))}
            )
            for use in range(2, WAITING + 2)
        ]
        recorded = await asyncio.gather(*waiting)
        assert room.keeper.journal.failure is None
        assert [one.index for one in recorded] == [*range(before, before + WAITING)]
        # As full as they may be: a burst isn't written entry by entry either.
        assert max(sent) > frames.MAX_CALL * 3 // 4

    asyncio.run(run())
