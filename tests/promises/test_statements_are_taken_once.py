"""What was signed about people is recorded once: whoever has seen it fills no log with it, nor makes it true again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import NOW
from simulators.security_key import Maker, SoftwareSecurityKey
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.ids import PersonId
from strongroom.personnel.enrolment import ENROLMENT_TYPE
from strongroom.personnel.statements import ACCESS_REVIEW_TYPE, ERASURE_TYPE, AccessDecision, AccessReview, Erasure
from strongroom.personnel.vetting import VETTING_TYPE
from strongroom.release.statements import StatementKind
from support.deployment import DAY, ROOTS, signer, vetting
from support.room import Room
from support.security_keys import Ports, allowed
from support.stories import hire_vetted, refused, run, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


async def taken_once(room: Room, kind: StatementKind, envelope: Envelope, reason: str) -> None:
    """Hand a statement in; again, and after a restart, it is refused and the log doesn't grow."""
    await room.people.state(kind, envelope)
    size = room.keeper.journal.ledger.size
    await refused(room.people.state(kind, envelope), reason)
    assert room.keeper.journal.ledger.size == size
    await room.restart()
    size = room.keeper.journal.ledger.size
    await refused(room.people.state(kind, envelope), reason)
    assert room.keeper.journal.ledger.size == size


def test_an_access_review() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        await hire_vetted(room, someone("ruth", "access-reviewer"))
        decisions = (AccessDecision(grant=request.digest, keep=True),)
        review = AccessReview(genesis=room.genesis.digest, at=NOW, decisions=decisions)
        signed = sign(ACCESS_REVIEW_TYPE, review.to_bytes(), signer("ruth"))
        await taken_once(room, StatementKind.ACCESS_REVIEW, signed, "statement-known")
        again = sign(ACCESS_REVIEW_TYPE, replace(review, at=NOW + 1).to_bytes(), signer("ruth"))
        await room.people.state(StatementKind.ACCESS_REVIEW, again)

    run(story)


def test_a_vetting_record_and_an_erasure() -> None:
    async def story(room: Room) -> None:
        await hire_vetted(room, someone("olga", "vetting-officer"), someone("otto", "vetting-officer"))
        record = vetting(room.genesis.digest, "dana", at=NOW, until=NOW + DAY, serial=2)
        signed = sign(VETTING_TYPE, record.to_bytes(), *ROOTS[:2])
        await taken_once(room, StatementKind.VETTING, signed, "vetting-out-of-order")
        erasure = Erasure(genesis=room.genesis.digest, person=PersonId("dana"))
        erasing = sign(ERASURE_TYPE, erasure.to_bytes(), signer("olga"), signer("otto"))
        await taken_once(room, StatementKind.ERASURE, erasing, "nothing-to-erase")

    run(story)


def test_an_enrolment(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(room: Room) -> None:
        await hire_vetted(room, someone("olga", "vetting-officer"), someone("otto", "vetting-officer"))
        roster = room.roster
        before = Digest.of(roster.to_bytes())
        await room.adopt_roster(
            replace(roster, epoch=roster.epoch + 1, predecessor=before, authenticators=allowed(Maker()))
        )
        ports = Ports(monkeypatch, {"first": SoftwareSecurityKey(), "second": SoftwareSecurityKey(pin="13579")})
        enrolment, _keys = ports.enrol(person=PersonId("sam"), genesis=room.genesis.digest)
        payload = replace(enrolment, at=NOW).to_bytes()
        signed = sign(ENROLMENT_TYPE, payload, signer("olga"), signer("otto"))
        await taken_once(room, StatementKind.ENROLMENT, signed, "statement-known")

    run(story)
