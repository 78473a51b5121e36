"""Each playbook, in a drill: a signed token comes in at the desk, its event passes the detector, the incident, the
playbook and the stand-ins' port, and people answer by signed acts, until the run has ended and the incident is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from strongroom.responder.cases import Case
from strongroom.response.acts import ActKind, said_of
from strongroom.response.drills import PRACTISED, measure, planned_at_once
from strongroom.response.entries import Phase, Role
from strongroom.response.executor import withheld
from strongroom.response.incident import fold
from strongroom.response.run import RunStatus
from strongroom.response.wiring import playbook_called, shipped_playbooks
from support.respondings import Room, responding_room

pytestmark = pytest.mark.integration
SAYS = {"genuine": "yes", "grounds": "innocent", "root": "no", "cleared": "yes", "used": "no", "heard": "yes"}
SAYS |= {"cause": "fault", "clear": "no", "running": "no", "exposed": "no", "quiet": "no"}
WORST = {"genuine": "no", "grounds": "hostile", "root": "yes", "cleared": "yes", "used": "yes", "heard": "yes"}
WORST |= {"cause": "attack", "clear": "yes", "running": "yes", "exposed": "yes", "quiet": "no"}


async def go_through(room: Room, case: Case, says: Mapping[str, str]) -> None:
    """Answer everything that people are asked, until no run goes on."""
    async with asyncio.timeout(25):
        while case.running:
            (run,) = case.runs.values()
            for one in withheld(run):
                for person in ("dana", "eli"):
                    if person not in one.agreed:
                        await room.act(ActKind.AGREE, case.id, by=person, **said_of(one))
            for one in run.pending:
                if one.action is None:
                    thread = next(thread for thread in run.threads if thread.id == one.thread)
                    step = shipped_playbooks()[thread.playbook].steps[thread.step]
                    await room.resolve(case.id, one.key, {name: says[name] for name in step.out})
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("says", [SAYS, WORST], ids=["harmless", "worst"])
@pytest.mark.parametrize("playbook", sorted(PRACTISED))
def test_a_drill_runs_to_its_end_and_is_closed(playbook: str, says: Mapping[str, str], tmp_path: Path) -> None:
    asyncio.run(_drilled(playbook, says, tmp_path))


async def _drilled(playbook: str, says: Mapping[str, str], folder: Path) -> None:
    async with responding_room(folder) as room:
        case = await room.drilled(await room.drill(playbook))
        await room.until(lambda: bool(case.runs))
        await go_through(room, case, says)
        (run,) = case.runs.values()
        assert run.status is RunStatus.ENDED
        doings = [(one.action, one.failed) for one in case.incident.doings.values()]
        assert run.failures == (), (doings, room.failed)
        await room.act(ActKind.TAKE, case.id, role=Role.COMMANDER.value)
        for phase in (Phase.ANALYSED, Phase.REVIEWED):
            if case.incident.phase is Phase.DETECTED:
                await room.act(ActKind.MOVE, case.id, phase=Phase.DECLARED.value)
            await room.act(ActKind.MOVE, case.id, phase=phase.value)
        await room.act(ActKind.CLOSE, case.id, words="We were quick, and nobody knew where the list of numbers is.")
        assert fold(case.entries).phase is Phase.CLOSED
        measured = measure(case.entries, planned_at_once(playbook_called(playbook)))
        assert measured.missed == ()
        assert measured.detect_micros is not None
        assert room.stops.frozen == []
        assert room.notes.noted[-1][0] == case.id
