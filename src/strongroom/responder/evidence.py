"""What both ports do alike: evidence kept and held, drafts for the quorum, and people told.

Evidence is written once, under the command's key: what was kept first isn't replaced by what was seen later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.responder.cases import Case
from strongroom.responder.ports import DONE, Telling, Told, awaits, refused
from strongroom.response.actions import ActionName, Command
from strongroom.response.entries import Happened

_COMMANDS: Final = {
    ActionName.PREPARE_ROTATION: "strongroom key rotate",
    ActionName.PREPARE_SHREDDING: "strongroom key destroy",
}


async def keep_evidence(case: Case, command: Command, seen: bytes, *, entries: int) -> None:
    """Keep evidence and enter it; the same command again changes nothing.

    :param entries: how many entries of the deployment's log it reaches.
    """
    digest = await case.keep(f"evidence-{command.key}.json", seen)
    if digest not in case.incident.evidence:
        await case.note(Happened.EVIDENCE_FROZEN, {"evidence": str(digest), "entries": entries})


async def is_whole(case: Case, command: Command) -> str:
    """Return ``whole`` if what was kept is what the record says was kept."""
    kept = await case.kept(f"evidence-{command.key}.json")
    return "whole" if kept is not None and Digest.of(kept) in case.incident.evidence else "none"


async def hold(case: Case, command: Command, now: Instant) -> None:
    """Put the incident's folder on hold, or lift that. Nothing here deletes it; the mark tells whoever might."""
    if command.action is ActionName.LIFT_HOLD:
        await case.set_hold(b"")
    elif not case.held:
        await case.set_hold(encode({"incident": case.id, "since": format_instant(now)}))


async def is_held(case: Case) -> str:
    """Return whether the mark is on the disk."""
    return "held" if await case.read_hold() else "lifted"


async def keep_draft(case: Case, command: Command, facts: Mapping[str, Json], now: Instant) -> None:
    """Draft what the quorum is asked for. It is no request: nobody signed it, and the command in it asks for one."""
    draft: dict[str, Json] = {
        **facts,
        "request": command.parameters.get("request", ""),
        "model": command.subject.name,
        "incident": case.id,
        "evidence": [str(digest) for digest in case.incident.evidence],
        "drafted": format_instant(now),
        "ask": f"{_COMMANDS[command.action]} {command.subject.name} --purpose incident-response --ticket {case.id}",
    }
    await case.keep(f"draft-{command.key}.json", encode(draft))


async def is_drafted(case: Case, command: Command) -> str:
    """Return whether the draft is there."""
    return "none" if await case.kept(f"draft-{command.key}.json") is None else "drafted"


class Receipts:
    """Whether people were told: a message counts when its receiver took it, not when it was sent."""

    def __init__(self, telling: Telling) -> None:
        self._telling = telling

    def notify(self, case: Case) -> Told:
        """Begin to tell, or say that it was taken."""
        self._telling.tell(case)
        taken = self._telling.told(case)
        if taken is None:
            return refused("nobody-to-tell")
        return DONE if taken else awaits("receiver")

    def seen(self, case: Case) -> str:
        """Return whether anybody took it."""
        return "taken" if self._telling.told(case) else "none"
