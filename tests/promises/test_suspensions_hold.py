"""A suspension is undone by a decision that was made after it, and by people who may still decide."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.access.policy import Caps
from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD, Envelope, sign
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId, PlatformId
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper import people
from strongroom.keeper.leases import LiveLease
from strongroom.personnel.lifecycle import Employment, SuspensionCause
from strongroom.personnel.statements import ERASURE_TYPE, Erasure
from strongroom.personnel.vetting import VETTING_TYPE
from strongroom.release.statements import StatementKind
from support.deployment import DAY, ROOTS, signer, vetting
from support.room import Room
from support.stories import hire_vetted, refused, run, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


def drafted(room: Room, name: str, *signers: str, **members: object) -> Envelope:
    """Return a person's next vetting record, adjudicated now, signed by officers or by the root quorum."""
    serial = room.serials.get(name, 0) + 1
    now = room.clock.now()
    record = vetting(room.genesis.digest, name, at=now, until=now + 30 * DAY, serial=serial, **members)
    return sign(VETTING_TYPE, record.to_bytes(), *(map(signer, signers) if signers else ROOTS[:2]))


async def with_officers(room: Room) -> None:
    await hire_vetted(room, *(someone(name, "vetting-officer") for name in ("olga", "otto", "oona")))


@pytest.mark.parametrize("signers", [("olga", "otto"), ()], ids=["officers", "root quorum"])
def test_a_record_that_was_signed_before_a_suspension_and_kept_back_doesn_t_undo_it(signers: tuple[str, ...]) -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        state = room.people.state
        # Signed for a renewal, and not handed in: whoever holds it could choose the moment.
        kept_back = drafted(room, "dana", *signers)
        room.clock.at += 60
        await room.people.suspend(PersonId("dana"), SuspensionCause.CREDENTIAL_COMPROMISED)
        await refused(state(StatementKind.VETTING, kept_back), "vetting-before-suspension")
        await room.restart()
        await refused(room.people.state(StatementKind.VETTING, kept_back), "vetting-before-suspension")
        await refused(room.ask(), "person-inactive")
        # Adjudicated anew, after the suspension.
        await room.people.state(StatementKind.VETTING, drafted(room, "dana", *signers))
        await room.release(await room.ask())

    run(story)


def test_a_renewal_that_was_signed_a_while_ago_is_good_where_nobody_was_suspended_since() -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        kept_back = drafted(room, "dana", "olga", "otto")
        room.clock.at += 60
        await room.people.state(StatementKind.VETTING, kept_back)
        await room.release(await room.ask())

    run(story)


@pytest.mark.parametrize("employment", [Employment.NOTICE, Employment.LEAVE, Employment.LEFT])
def test_an_officer_who_is_on_the_way_out_vouches_for_nobody(employment: Employment) -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        await room.people.state(StatementKind.VETTING, drafted(room, "dana", "olga", "otto"))
        room.serials["dana"] += 1
        await room.vet("otto", employment=employment)
        record = drafted(room, "dana", "olga", "otto")
        await refused(room.people.state(StatementKind.VETTING, record), "signer-not-cleared")
        erasure = Erasure(genesis=room.genesis.digest, person=PersonId("dana"))
        erasing = sign(ERASURE_TYPE, erasure.to_bytes(), signer("olga"), signer("otto"))
        await refused(room.people.state(StatementKind.ERASURE, erasing), "signer-not-cleared")
        await room.people.state(StatementKind.VETTING, drafted(room, "dana", "olga", "oona"))

    run(story)


def test_who_comes_back_finds_the_place_taken_where_it_was_given_to_another() -> None:
    async def story(room: Room) -> None:
        await hire_vetted(room, *(someone(f"user-{n}", "requester", org="research") for n in range(3)))
        level = SecurityLevel.SL3
        rules = tuple(replace(rule, level=level) for rule in room.policy.rules)
        models = (replace(room.policy.models[0], level=level),)
        await room.next_policy(rules=rules, models=models, caps=Caps(output=2, isolated=2, copy=2))
        first, second, third = [await room.ask(by=f"user-{n}", max_uses=9) for n in range(3)]
        await room.release(first)
        await room.release(second)
        await refused(room.release(third), "cap-reached")
        room.clock.at += 1
        await room.people.suspend(PersonId("user-0"), SuspensionCause.LEAVE)
        await room.release(third)
        await room.vet("user-0")
        # What fell stays fallen; and whoever asks anew takes a place like anybody else.
        await refused(room.release(first), "request-denied")
        again = await room.ask(by="user-0", max_uses=9)
        await refused(room.release(again), "cap-reached")
        await room.release(second)
        await room.release(third)
        await room.people.suspend(PersonId("user-1"), SuspensionCause.LEFT)
        await room.release(again)

    run(story)


def test_an_erasure_that_a_crash_cut_short_is_finished_at_the_next_start() -> None:
    async def story(room: Room) -> None:
        await with_officers(room)
        await room.release(await room.ask())
        before, kept = dict(room.records.files), list(room.decisions.kept)
        erasure = Erasure(genesis=room.genesis.digest, person=PersonId("dana"))
        signed = sign(ERASURE_TYPE, erasure.to_bytes(), signer("olga"), signer("otto"))
        await room.people.state(StatementKind.ERASURE, signed)
        gone = before.keys() - room.records.files.keys()
        # As if the process had died behind the log's record: everything lies there still.
        room.records.files.update(before)
        room.decisions.kept[:] = kept
        await room.restart()
        assert not gone & room.records.files.keys()
        assert not any(b'"id":"dana"' in one for one in room.decisions.kept)

    run(story)


def test_a_record_of_the_future_waits_for_its_day() -> None:
    # Dated ahead, it would outrun a suspension that is still to come.
    async def story(room: Room) -> None:
        ahead = drafted(room, "dana", adjudicated_on=NOW + DAY)
        await refused(room.people.state(StatementKind.VETTING, ahead), "malformed")

    run(story)


def test_whoever_gathered_more_than_a_record_holds_is_suspended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(room: Room) -> None:
        for _ in range(3):
            await room.release(await room.ask())
        monkeypatch.setattr(people, "MAX_FELL", 2)
        room.people.live_leases = lambda _person: ["lease"] * 3
        fallen = await room.people.suspend(PersonId("dana"), SuspensionCause.LEFT)
        # The log counts all, with the grant that the version was sealed under; the signed record names what it has room
        # for, and can be read.
        assert (fallen.grants, fallen.leases) == (4, 3)
        envelope = room.people.fallen(room.log.last(EventName.PERSON_SUSPENDED).digest("fell"))
        assert envelope is not None
        told = json.loads(Envelope.parse(envelope.to_bytes()).payload)
        assert (len(told["grants"]), len(told["leases"])) == (2, 2)
        await refused(room.ask(), "person-inactive")

    run(story)


def test_a_grant_that_can_be_used_is_shown_however_many_ended_since(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(room: Room) -> None:
        old, newer, newest = [await room.ask() for _ in range(3)]
        for request in (old, newer, newest):
            await room.release(request)
        room.keeper.journal.ledger.denied |= {newer.digest, newest.digest}
        monkeypatch.setattr(people, "MAX_GRANTS", 2)
        shown = [one["grant"] for one in room.people.grants() if isinstance(one, dict)]
        assert len(shown) == 2
        assert str(old.digest) in shown

    run(story)


def test_a_record_of_what_fell_can_be_read_however_long_the_names_in_it_are() -> None:
    lease = LiveLease(
        request=Digest.of(b""), use=10**6, recipient=Digest.of(b""), platform=PlatformId("tpm-ek-" + "0" * 64),
        model=ModelId("m" * 64), person=PersonId("p" * 64), until=NOW,
    )  # fmt: skip
    names: Json = [str(Digest.of(b""))] * people.MAX_FELL
    told: Json = {"grants": names, "approvals": names, "leases": [lease.to_json()] * people.MAX_FELL}
    assert len(encode(told)) < MAX_PAYLOAD - 4096
