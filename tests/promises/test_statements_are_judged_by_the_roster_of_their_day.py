"""Who signed a statement held the role for it then, by the roster in force at its entry: who verifies asks again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from strongroom.assurance.notice import NOTICE_TYPE, AssessmentNotice
from strongroom.audit.facts import Fact
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.framework.levels import SecurityLevel
from strongroom.intake.copies.register import CopyKind, Statement, Step, Terms
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.roster import PersonKind
from strongroom.release.incident_statements import INCIDENT_TYPE, IncidentStanding
from strongroom.release.share_statements import SHARE_DESTROYED_TYPE, ShareDestroyed
from strongroom.release.statements import StatementKind
from support.deployment import MODEL, signer
from support.lying import lie
from support.precaution_statements import ESCROW_FACTS, INCIDENT
from support.retold import codes, retell
from support.room import Room
from support.stories import hire, hire_vetted, run, someone

pytestmark = pytest.mark.integration
Story = Callable[[Room], Awaitable[None]]
BY_ANOTHER = "statement-by-another"


def standing(room: Room, *by: str, **members: object) -> Envelope:
    """Return what somebody signed of an incident."""
    said = IncidentStanding(
        genesis=room.genesis.digest,
        incident=INCIDENT,
        entry=Digest.of(b"an entry"),
        entries=3,
        phase="declared",
        drill=False,
        at=room.clock.now(),
    )
    return sign(INCIDENT_TYPE, replace(said, **members).to_bytes(), *map(signer, by))  # type: ignore[arg-type]


async def lied(
    room: Room, kind: StatementKind, event: EventName, envelope: Envelope, facts: Mapping[str, Fact]
) -> None:
    """Record a statement as said, whoever signed it."""
    room.documents.save(kind.value, envelope.digest, envelope.to_bytes())
    await lie(room.keeper, event, {**facts, "statement": envelope.digest})


async def told(room: Room, envelope: Envelope, by: str, **facts: Fact) -> None:
    """Record how far an incident has come, with facts of the entry changed."""
    said = IncidentStanding.parse(envelope.payload)
    true: dict[str, Fact] = {
        "incident": said.incident,
        "entry": said.entry,
        "entries": said.entries,
        "phase": said.phase,
        "drill": int(said.drill),
        "person": by,
    }
    await lied(room, StatementKind.INCIDENT, EventName.INCIDENT_RECORDED, envelope, true | facts)


async def change(room: Room, name: str, **members: object) -> None:
    """Adopt a roster in which somebody is otherwise."""
    before = room.roster
    people = tuple(
        replace(one, **members) if one.id == name else one  # type: ignore[arg-type]
        for one in before.people
    )
    predecessor = Digest.of(before.to_bytes())
    await room.adopt_roster(replace(before, epoch=before.epoch + 1, predecessor=predecessor, people=people))


# --- incidents: each lie, and what it is found by ---------------------------------------------------------------------


async def without_the_role(room: Room) -> None:
    await told(room, standing(room, "sam"), "sam")


async def after_losing_the_role(room: Room) -> None:
    await change(room, "dana", roles=frozenset({"publisher", "requester"}))
    await told(room, standing(room, "dana"), "dana")


async def before_getting_the_role(room: Room) -> None:
    await hire(room, someone("tess", "auditor"))
    await told(room, standing(room, "tess"), "tess")
    await change(room, "tess", roles=frozenset({"responder"}))


async def after_leaving(room: Room) -> None:
    await hire(room, someone("tess", "responder"), someone("uma", "responder", active=False))
    await told(room, standing(room, "uma"), "uma")


async def by_an_agent_whose_sponsor_left(room: Room) -> None:
    warden = someone("warden", "responder", kind=PersonKind.AGENT, sponsor=PersonId("tess"))
    await hire(room, someone("tess", "auditor", active=False), warden)
    await told(room, standing(room, "warden"), "warden")


async def while_suspended(room: Room) -> None:
    await room.people.suspend(PersonId("dana"), SuspensionCause.DEACTIVATED)
    await told(room, standing(room, "dana"), "dana")


async def by_two(room: Room) -> None:
    await told(room, standing(room, "dana", "sam"), "dana")


async def signed_by_another(room: Room) -> None:
    await told(room, standing(room, "sam"), "dana")


async def by_nobody_known(room: Room) -> None:
    await told(room, standing(room, "nobody"), "nobody")


async def of_another_deployment(room: Room) -> None:
    await told(room, standing(room, "dana", genesis=Digest.of(b"another")), "dana")


async def with_fewer_entries(room: Room) -> None:
    await told(room, standing(room, "dana"), "dana", entries=2)


async def with_another_entry(room: Room) -> None:
    await told(room, standing(room, "dana"), "dana", entry=Digest.of(b"another"))


async def with_another_phase(room: Room) -> None:
    await told(room, standing(room, "dana"), "dana", phase="closed")


async def as_a_drill(room: Room) -> None:
    await told(room, standing(room, "dana"), "dana", drill=1)


async def about_another_incident(room: Room) -> None:
    await told(room, standing(room, "dana"), "dana", incident=f"inc-{'1' * 32}")


async def said_twice(room: Room) -> None:
    await told(room, standing(room, "dana"), "dana")
    await told(room, standing(room, "dana"), "dana")


@pytest.mark.parametrize(
    ("story", "code"),
    [
        (without_the_role, BY_ANOTHER),
        (after_losing_the_role, BY_ANOTHER),
        (before_getting_the_role, BY_ANOTHER),
        (after_leaving, BY_ANOTHER),
        (by_an_agent_whose_sponsor_left, BY_ANOTHER),
        (while_suspended, BY_ANOTHER),
        (by_two, BY_ANOTHER),
        (signed_by_another, "bad-signature"),
        (by_nobody_known, "unknown-person"),
        (of_another_deployment, "exhibit-contradicts-log"),
        (with_fewer_entries, "exhibit-contradicts-log"),
        (with_another_entry, "exhibit-contradicts-log"),
        (with_another_phase, "exhibit-contradicts-log"),
        (as_a_drill, "exhibit-contradicts-log"),
        (about_another_incident, "exhibit-contradicts-log"),
        (said_twice, "statement-twice"),
    ],
)
def test_what_no_responder_said_of_an_incident_is_found(story: Story, code: str) -> None:
    async def whole(room: Room) -> None:
        await story(room)
        found = retell(room)
        assert code in codes(found)
        assert found.exhibits is not None
        # What is said twice is true each time, by itself.
        assert found.exhibits["incident"]["verified"] == (2 if code == "statement-twice" else 0)

    run(whole)


def test_an_honest_log_is_found_good_whoever_lost_the_role_since() -> None:
    async def story(room: Room) -> None:
        warden = someone("warden", "responder", kind=PersonKind.AGENT, sponsor=PersonId("tess"))
        await hire_vetted(room, someone("tess", "responder"))
        await hire(room, warden)
        for count, by in enumerate(("dana", "tess", "warden"), 1):
            await room.people.state(StatementKind.INCIDENT, standing(room, by, entries=count))
        await change(room, "dana", roles=frozenset({"publisher", "requester"}))
        await change(room, "tess", active=False)
        found = retell(room)
        assert found.findings == ()
        assert found.exhibits is not None
        assert found.exhibits["incident"] == {"named": 3, "verified": 3, "missing": 0, "unjudged": 0}

    run(story)


def test_without_the_roster_of_the_day_nothing_is_called_good() -> None:
    async def story(room: Room) -> None:
        await told(room, standing(room, "sam"), "sam")
        last = room.log.last(EventName.ROSTER_ADOPTED).digest("document")
        room.documents.save("roster", last, b"{}")
        found = retell(room)
        assert BY_ANOTHER not in codes(found)
        assert found.exhibits is not None
        assert found.exhibits["incident"]["unjudged"] == 1

    run(story)


# --- the other kinds that take a role ---------------------------------------------------------------------------------


async def assessed_by_nobody_who_may(room: Room) -> None:
    now = room.clock.now()
    notice = AssessmentNotice(
        genesis=room.genesis.digest, assessment=Digest.of(b"assessment"), held=4, goal=SecurityLevel.SL4, at=now
    )
    envelope = sign(NOTICE_TYPE, notice.to_bytes(), signer("sam"))
    facts: dict[str, Fact] = {
        "assessment": notice.assessment,
        "held": notice.held,
        "goal": notice.goal.rank,
        "made": format_instant(now),
        "person": "sam",
    }
    await lied(room, StatementKind.ASSESSMENT, EventName.ASSESSMENT_RECORDED, envelope, facts)


async def copied_by_no_registrar(room: Room) -> None:
    now = room.clock.now()
    terms = Terms(
        model=ModelId(MODEL),
        version=1,
        kind=CopyKind.EXPORTED,
        host="w1",
        place="/data",
        holder="sam",
        reason="evaluation",
        expires=now + 1000,
        prove_seconds=100,
        files=Digest.of(b"files"),
    )
    said = Statement(genesis=room.genesis.digest, previous=None, at=now, copy="1" * 32, step=Step.ADDED, terms=terms)
    facts = room.keeper.journal.ledger.copies.facts(said, PersonId("sam"))
    envelope = said.signed_by(signer("sam"))
    await lied(room, StatementKind.COPY, EventName.COPY_RECORDED, envelope, {**facts, "hold": None})


@pytest.mark.parametrize("story", [assessed_by_nobody_who_may, copied_by_no_registrar])
def test_what_takes_another_role_is_found_without_it(story: Story) -> None:
    async def whole(room: Room) -> None:
        await story(room)
        assert codes(retell(room)) == {BY_ANOTHER}

    run(whole)


def test_the_same_is_found_good_with_the_role() -> None:
    async def story(room: Room) -> None:
        await change(room, "sam", roles=frozenset({"approver-security", "assessor", "registrar"}))
        await assessed_by_nobody_who_may(room)
        await copied_by_no_registrar(room)
        assert retell(room).findings == ()

    run(story)


@pytest.mark.parametrize(("by", "wrong"), [("sam", set()), ("rina", {"bad-signature"})])
def test_a_custodians_word_is_judged_by_their_own_key(by: str, wrong: set[str]) -> None:
    async def story(room: Room) -> None:
        await lie(room.keeper, EventName.ESCROW_ADOPTED, ESCROW_FACTS)
        said = ShareDestroyed(genesis=room.genesis.digest, custodian=PersonId("sam"), generation=1)
        envelope = sign(SHARE_DESTROYED_TYPE, said.to_bytes(), signer(by))
        facts: dict[str, Fact] = {"custodian": "sam", "generation": 1}
        await lied(room, StatementKind.SHARE_DESTROYED, EventName.ESCROW_ANSWERED, envelope, facts)
        found = retell(room)
        assert codes(found) == wrong
        assert found.exhibits is not None
        assert found.exhibits["share-destroyed"]["verified"] == (not wrong)

    run(story)
