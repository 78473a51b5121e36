"""Whoever hands an act in may leave in the middle of it: what was begun is ended, and the record stays one chain."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.core.canonical import parse
from strongroom.core.fields import Fields
from strongroom.ipc.frames import Call
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.cases import Case
from strongroom.response.acts import ActKind
from strongroom.response.incident import Incident
from support.respondings import Room, responding_room, signed_act

pytestmark = pytest.mark.integration


class Slow:
    """A disk that takes its time with one write, until it is let."""

    def __init__(self, patched: pytest.MonkeyPatch, name: str) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        whole: Callable[..., object] = getattr(CaseFiles, name)

        def slow(store: CaseFiles, *given: object) -> object:
            if not self.begun.is_set():
                self.begun.set()
                self.go.wait(60)
            return whole(store, *given)

        patched.setattr(CaseFiles, name, slow)


def stopped(case: Case) -> bool:
    """Whether everything that begins by itself was done."""
    return all(one.verified for one in case.incident.doings.values()) and len(case.incident.doings) >= 5


async def leaves(room: Room, case: Case, slow: Slow) -> None:
    """Hand a note in, and be gone before the disk has answered."""
    act = signed_act(ActKind.NOTE, case.id, room.clock.now(), by="dana", facts={"words": "seen"})
    asked = asyncio.create_task(room.desk.serve(Call(1, "act", Fields({"envelope": parse(act)}, "act")), 0))
    await asyncio.to_thread(slow.begun.wait, 60)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    slow.go.set()


@pytest.mark.parametrize("write", ["keep", "keep_act", "append"])
def test_a_caller_that_leaves_breaks_no_record(write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def left() -> Incident:
        async with responding_room(tmp_path) as room:
            case = await room.drilled(await room.drill("key-compromise"))
            await room.until(lambda: stopped(case) and not case.lock.locked())
            await leaves(room, case, Slow(monkeypatch, write))
            await room.act(ActKind.NOTE, case.id, words="and more")
            await room.until(lambda: len(case.incident.notes) == 2)
            return case.incident

    seen = asyncio.run(left())

    async def again() -> Incident:
        async with responding_room(tmp_path) as room:
            assert room.responding.broken == {}
            return room.responding.cases[seen.id].incident

    assert asyncio.run(again()).notes == seen.notes
