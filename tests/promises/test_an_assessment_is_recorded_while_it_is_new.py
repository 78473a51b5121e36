"""The log takes an assessment from an assessor, for this deployment, of the last hour, and once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.assurance.notice import NOTICE_TYPE, AssessmentNotice
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.framework.levels import SecurityLevel
from strongroom.release.statements import StatementKind
from support.deployment import signer
from support.room import Room
from support.stories import hire_vetted, refused, run, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


def notice(room: Room, *by: str, **members: object) -> Envelope:
    """Return a notice, signed."""
    made = AssessmentNotice(
        genesis=room.genesis.digest, assessment=Digest.of(b"a"), held=1, goal=SecurityLevel.SL3, at=NOW
    )
    changed = replace(made, **members)  # type: ignore[arg-type]
    return sign(NOTICE_TYPE, changed.to_bytes(), *(signer(name) for name in by))


def test_one_that_isnt_of_the_last_hour_is_refused() -> None:
    async def story(room: Room) -> None:
        await hire_vetted(room, someone("ruth", "assessor"))
        for at in (NOW - 3601, NOW - 86400, NOW + 3600):
            said = notice(room, "ruth", at=at)
            await refused(room.people.state(StatementKind.ASSESSMENT, said), "assessment-not-current")
        await room.people.state(StatementKind.ASSESSMENT, notice(room, "ruth", at=NOW - 3500))

    run(story)


def test_it_is_an_assessors_of_this_deployment_and_recorded_once() -> None:
    async def story(room: Room) -> None:
        await hire_vetted(room, someone("ruth", "assessor"))
        for said, reason in (
            (notice(room, "sam"), "signer-may-not"),
            (notice(room, "ruth", genesis=Digest.of(b"another")), "malformed"),
        ):
            size = room.keeper.journal.ledger.size
            await refused(room.people.state(StatementKind.ASSESSMENT, said), reason)
            assert room.keeper.journal.ledger.size == size
        said = notice(room, "ruth")
        await room.people.state(StatementKind.ASSESSMENT, said)
        await refused(room.people.state(StatementKind.ASSESSMENT, said), "statement-known")

    run(story)
