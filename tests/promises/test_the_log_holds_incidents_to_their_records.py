"""How far an incident's record has come stands in the log: by an active responder's word, once, and not without end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.core.buckets import TooManyEntriesError
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keeper.quotas import RATES, Quota
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.roster import PersonKind
from strongroom.release.incident_statements import INCIDENT_TYPE, IncidentStanding
from strongroom.release.statements import StatementKind
from support.deployment import signer
from support.room import Room
from support.stories import hire, refused, run, someone

pytestmark = pytest.mark.integration


def standing(room: Room, by: str = "warden", **members: object) -> Envelope:
    """Return what a responder says of a record."""
    made = IncidentStanding(
        genesis=room.genesis.digest,
        incident=f"inc-{'0' * 32}",
        entry=Digest.of(b"entry"),
        entries=3,
        phase="contained",
        drill=False,
        at=NOW,
    )
    return sign(INCIDENT_TYPE, replace(made, **members).to_bytes(), signer(by))  # type: ignore[arg-type]


async def with_warden(room: Room) -> None:
    """Hire a detector, as an agent with a sponsor."""
    warden = someone("warden", "responder", kind=PersonKind.AGENT, sponsor=PersonId("sam"))
    await hire(room, warden)
    await room.vet("warden")


def test_an_agent_s_word_stands_in_the_log_once() -> None:
    async def story(room: Room) -> None:
        await with_warden(room)
        said = standing(room)
        await room.people.state(StatementKind.INCIDENT, said)
        entry = room.log.last(EventName.INCIDENT_RECORDED)
        assert (entry.text("person"), entry.text("incident")) == ("warden", f"inc-{'0' * 32}")
        assert (entry.integer("entries"), entry.digest("entry")) == (3, Digest.of(b"entry"))
        await refused(room.people.state(StatementKind.INCIDENT, said), "statement-known")
        await room.people.state(StatementKind.INCIDENT, standing(room, entries=4))

    run(story)


def test_nobody_else_s_word_does() -> None:
    async def story(room: Room) -> None:
        await with_warden(room)
        await refused(room.people.state(StatementKind.INCIDENT, standing(room, by="sam")), "signer-may-not")
        with pytest.raises(MalformedError, match="another deployment"):
            await room.people.state(StatementKind.INCIDENT, standing(room, genesis=Digest.of(b"another")))
        twice = standing(room).signed_by(signer("dana"))
        await refused(room.people.state(StatementKind.INCIDENT, twice), "signer-missing")
        await room.people.suspend(PersonId("warden"), SuspensionCause.INCIDENT)
        await refused(room.people.state(StatementKind.INCIDENT, standing(room)), "signer-not-cleared")

    run(story)


def test_one_responder_doesn_t_fill_the_log() -> None:
    async def story(room: Room) -> None:
        await with_warden(room)
        for number in range(RATES[Quota.INCIDENT].burst):
            await room.people.state(StatementKind.INCIDENT, standing(room, entries=number + 1))
        with pytest.raises(TooManyEntriesError):
            await room.people.state(StatementKind.INCIDENT, standing(room, entries=1_000_000))

    run(story)
