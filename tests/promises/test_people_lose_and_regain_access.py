"""Who is cleared today decides, and nobody is by default: vetting, suspension, reinstatement, erasure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign, verify
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.keeper.people import FALLEN_TYPE
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import Employment, SuspensionCause
from strongroom.personnel.roster import PersonKind
from strongroom.personnel.statements import ERASURE_TYPE, Erasure
from strongroom.personnel.vetting import VETTING_TYPE, Training
from strongroom.release.statements import StatementKind
from support.deployment import DAY, ROOTS, signer, vetting
from support.room import Room
from support.stories import hire, hire_vetted, refused, run, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
OFFICERS = ("olga", "otto")


async def with_officers(room: Room) -> None:
    """Hire two vetting officers and have the root quorum vet them."""
    await hire_vetted(room, *(someone(name, "vetting-officer") for name in OFFICERS))


def by_officers(room: Room, name: str, *officers: str, **members: object) -> Envelope:
    """Return a person's next vetting record, signed by officers."""
    serial = room.serials.get(name, 0) + 1
    record = vetting(room.genesis.digest, name, at=NOW, until=NOW + 30 * DAY, serial=serial, **members)
    return sign(VETTING_TYPE, record.to_bytes(), *(signer(officer) for officer in officers))


def test_without_a_vetting_record_nobody_is_cleared() -> None:
    async def story(room: Room) -> None:
        await hire(room, someone("newcomer", "requester", org="research"))
        await refused(room.release(await room.ask(by="newcomer")), "requester-not-vetted")
        await room.vet("newcomer")
        await room.release(await room.ask(by="newcomer"))

    run(story)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"tier": 0}, "requester-tier-too-low"),
        ({"adjudicated_on": NOW - 9, "expires_on": NOW - 1}, "requester-vetting-lapsed"),
        ({"adjudicated_on": NOW - 9, "rescreen_due": NOW - 1}, "requester-vetting-lapsed"),
        ({"employment": Employment.LEFT}, "requester-inactive"),
        ({"employment": Employment.LEAVE}, "requester-inactive"),
        ({"conflict": "HR-17"}, "requester-conflict-open"),
    ],
)
def test_what_a_record_says_of_the_requester_counts_at_each_use(members: dict[str, object], reason: str) -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        await room.vet("dana", **members)
        await refused(room.release(request), reason)
        await room.vet("dana")
        if reason == "requester-inactive":
            # Who was gone asks anew: what fell stays fallen.
            await refused(room.release(request), "request-denied")
            request = await room.ask()
        await room.release(request)

    run(story)


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"tier": 1}, "approver-tier-too-low"),
        ({"adjudicated_on": NOW - 9, "expires_on": NOW - 1}, "approver-vetting-lapsed"),
        ({"employment": Employment.NOTICE}, "approver-employment"),
        ({"conflict": "HR-17"}, "approver-conflict-open"),
    ],
)
def test_what_a_record_says_of_an_approver_counts_at_each_use(members: dict[str, object], reason: str) -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        await room.vet("rina", **members)
        await refused(room.release(request), reason)
        await room.vet("rina")
        await room.release(request)

    run(story)


def test_training_that_the_rule_wants_lapses_by_itself() -> None:
    async def story(room: Room) -> None:
        await room.next_policy(rules=tuple(replace(rule, courses=("weights-handling",)) for rule in room.policy.rules))
        request = await room.ask(max_uses=9)
        await room.release(request)
        await room.vet("dana", training=(Training(course="weights-handling", expires=NOW - 1),))
        await refused(room.release(request), "requester-training-lapsed")

    run(story)


def test_who_serves_notice_may_ask_the_model_and_no_longer_copy_it() -> None:
    async def story(room: Room) -> None:
        await room.vet("dana", employment=Employment.NOTICE)
        await room.release(await room.ask())
        seal = await room.submit(Action.SEAL, version=2, recipient=Digest.of(b"key"))
        await refused(room.keeper.seal(room.bare(seal)), "requester-employment")

    run(story)


def test_two_officers_vet_and_one_does_not() -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        state = room.people.state
        await refused(state(StatementKind.VETTING, by_officers(room, "dana", "olga")), "officers-missing")
        await refused(state(StatementKind.VETTING, by_officers(room, "dana", "olga", "sam")), "signer-may-not")
        await refused(state(StatementKind.VETTING, by_officers(room, "olga", "olga", "otto")), "signer-may-not")
        unknown = by_officers(room, "dana", "olga", "nobody")
        await refused(state(StatementKind.VETTING, unknown), "unknown-person")
        await state(StatementKind.VETTING, by_officers(room, "dana", "olga", "otto"))

    run(story)


def test_one_officer_with_two_keys_is_one() -> None:
    async def story(room: Room) -> None:
        keys = (signer("olga").public_key, signer("olga's other").public_key)
        await hire(room, someone("olga", "vetting-officer", keys=keys), someone("otto", "vetting-officer"))
        for name in OFFICERS:
            await room.vet(name)
        twice = by_officers(room, "dana", "olga", "olga's other")
        await refused(room.people.state(StatementKind.VETTING, twice), "officers-missing")

    run(story)


def test_an_officer_who_is_suspended_or_lapsed_vets_nobody() -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        await room.people.suspend(PersonId("olga"), SuspensionCause.DEACTIVATED)
        record = by_officers(room, "dana", *OFFICERS)
        await refused(room.people.state(StatementKind.VETTING, record), "signer-not-cleared")

    run(story)


def test_one_root_holder_vets_nobody() -> None:
    async def story(room: Room) -> None:
        record = vetting(room.genesis.digest, "dana", at=NOW, until=NOW + DAY, serial=2)
        await refused(
            room.people.state(StatementKind.VETTING, sign(VETTING_TYPE, record.to_bytes(), ROOTS[0])), "bad-signature"
        )

    run(story)


def test_an_older_record_doesn_t_come_back() -> None:
    async def story(room: Room) -> None:
        better = by_officers(room, "dana")
        first = sign(VETTING_TYPE, better.payload, *ROOTS[:2])
        await room.people.state(StatementKind.VETTING, first)
        room.serials["dana"] += 1
        await room.vet("dana", tier=0)
        await refused(room.people.state(StatementKind.VETTING, first), "vetting-out-of-order")

    run(story)


def test_a_record_of_another_deployment_is_refused() -> None:
    async def story(room: Room) -> None:
        record = vetting(Digest.of(b"another"), "dana", at=NOW, until=NOW + DAY, serial=2)
        await refused(
            room.people.state(StatementKind.VETTING, sign(VETTING_TYPE, record.to_bytes(), *ROOTS[:2])), "malformed"
        )

    run(story)


def test_a_leaver_loses_everything_at_once_and_one_record_says_what() -> None:
    async def story(room: Room) -> None:
        mine, other = await room.ask(max_uses=9), await room.ask(max_uses=9)
        await room.release(mine)
        await room.release(other)
        lease: Json = {"request": str(mine.digest), "use": 1}
        room.people.live_leases = lambda person: (lease,) if person == "dana" else ()
        fallen = await room.people.suspend(PersonId("dana"), SuspensionCause.LEFT)
        assert (fallen.grants, fallen.approvals, fallen.leases) == (3, 0, 1)
        for request in (mine, other):
            await refused(room.release(request), "requester-inactive")
        entry = room.log.last(EventName.PERSON_SUSPENDED)
        envelope = room.people.fallen(entry.digest("fell"))
        assert envelope is not None
        verify(envelope, FALLEN_TYPE, [room.genesis.keeper_key], threshold=1)
        said = Fields(room.parse(envelope.payload), "fallen")
        assert set(said.texts("grants", most=9)) >= {str(mine.digest), str(other.digest)}
        assert said.value("leases") == [lease]

    run(story)


def test_an_approver_who_leaves_takes_the_approval_along() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        fallen = await room.people.suspend(PersonId("rina"), SuspensionCause.LEFT)
        assert (fallen.grants, fallen.approvals) == (0, 1)
        await refused(room.release(request), "approver-inactive")

    run(story)


def test_a_suspension_is_replayed_and_only_a_newer_record_ends_it() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        await room.people.suspend(PersonId("dana"), SuspensionCause.DEACTIVATED)
        assert (await room.people.suspend(PersonId("dana"), SuspensionCause.DEACTIVATED)).record is None
        await room.restart()
        await refused(room.release(request), "requester-inactive")
        # Listed as active in a newer roster: still out.
        await room.adopt_roster(
            replace(room.roster, epoch=2, predecessor=Digest.of(room.roster.to_bytes()), people=room.roster.people)
        )
        await refused(room.release(request), "requester-inactive")
        await room.vet("dana")
        # Back, and what fell stays fallen, over a restart too: a key that was stolen may have signed it.
        await refused(room.release(request), "request-denied")
        await room.restart()
        await refused(room.release(request), "request-denied")
        await room.release(await room.ask())

    run(story)


def test_an_approver_who_comes_back_agrees_anew() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        await room.people.suspend(PersonId("rina"), SuspensionCause.CREDENTIAL_COMPROMISED)
        await room.vet("rina")
        case = await room.dossier(request, RecipientKey(), "sam")
        old = replace(case, approvals=(*case.approvals, room.signed(request, "rina")))
        await refused(room.keeper.release(old), "approver-approval-not-recorded")
        # The very same signature, handed in again after she is back, is a new word of hers.
        await room.voice(request, "rina")
        await room.release(request)

    run(story)


def test_who_is_suspended_neither_asks_nor_approves_nor_denies() -> None:
    async def story(room: Room) -> None:
        request = await room.ask()
        await room.people.suspend(PersonId("dana"), SuspensionCause.RISK_RAISED)
        await room.people.suspend(PersonId("sam"), SuspensionCause.RISK_RAISED)
        await refused(room.ask(), "person-inactive")
        await refused(room.voice(request, "sam"), "approver-inactive")
        await refused(room.voice(request, "sam", deny=True), "approver-inactive")

    run(story)


def test_vetting_records_survive_a_restart_encrypted() -> None:
    async def story(room: Room) -> None:
        await room.vet("dana", conflict="HR-99", case="CASE-123")
        stored = b"".join(room.records.files.values())
        assert b"HR-99" not in stored
        assert b"CASE-123" not in stored
        await room.restart()
        await refused(room.release(await room.ask()), "requester-conflict-open")

    run(story)


def test_a_record_that_was_lost_clears_nobody_and_one_that_was_changed_stops_the_start() -> None:
    async def story(room: Room) -> None:
        names = [name for name in room.records.files if ".record" in name]
        lost = dict(room.records.files)
        for name in names:
            del room.records.files[name]
        await room.restart()
        await refused(room.release(await room.ask()), "requester-not-vetted")
        room.records.files.update(lost)
        # One person's record in another's place.
        first, second = names[:2]
        room.records.files[first], room.records.files[second] = lost[second], lost[first]
        await refused(room.restart(), "record-tampered")

    run(story)


def test_an_erased_person_is_gone_from_the_disk_and_the_log_still_replays() -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        await room.release(await room.ask())
        before = dict(room.records.files)
        erasure = Erasure(genesis=room.genesis.digest, person=PersonId("dana"))
        one = sign(ERASURE_TYPE, erasure.to_bytes(), signer("olga"))
        await refused(room.people.state(StatementKind.ERASURE, one), "officers-missing")
        await room.people.state(StatementKind.ERASURE, one.signed_by(signer("otto")))
        gone = before.keys() - room.records.files.keys()
        assert len(gone) >= 2
        assert not any(b'"id":"dana"' in kept for kept in room.decisions.kept)
        # An old backup of the ciphertext opens no more: the key is gone.
        room.records.files.update({name: before[name] for name in gone if ".record" in name})
        await room.restart()
        await refused(room.ask(), "person-inactive")
        await refused(room.vet("dana"), "vetting-out-of-order")

    run(story)


def test_an_agent_asks_like_anybody_approves_nothing_and_falls_with_its_sponsor() -> None:
    async def story(room: Room) -> None:
        agent = someone(
            "helper", "requester", "approver-research", org="research", kind=PersonKind.AGENT, sponsor=PersonId("dana")
        )
        await hire(room, agent)
        await refused(room.release(await room.ask(by="helper")), "requester-not-vetted")
        await room.vet("helper")
        request = await room.ask(by="helper", max_uses=9)
        await room.release(request)
        await refused(room.voice(await room.ask(), "helper"), "approver-not-human")
        await room.people.suspend(PersonId("dana"), SuspensionCause.LEFT)
        await refused(room.release(request), "requester-inactive")

    run(story)
