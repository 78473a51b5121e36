"""A precaution asks for more, or lets less happen: by one responder's word, for a while or until people lift it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.access.policy import MAX_MODELS
from strongroom.access.request import Action, Request
from strongroom.audit.facts import Fact
from strongroom.core.buckets import TooManyEntriesError
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper.quotas import RATES, Quota
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.roster import MAX_PEOPLE, PersonKind
from strongroom.personnel.statements import ERASURE_TYPE, Erasure
from strongroom.release import examining
from strongroom.release.chronicle import UnfoundedError
from strongroom.release.dossier import Dossier
from strongroom.release.lease import Sampling
from strongroom.release.precaution_ledger import MAX_PRECAUTIONS
from strongroom.release.precautions import DAY, Cause, PrecautionKind
from strongroom.release.recount import require_recounted
from strongroom.release.statements import StatementKind
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import MODEL, signer
from support.precaution_statements import said, take
from support.retold import RoomExhibits, codes, retell
from support.room import Room
from support.shredding import DELAY, ShreddingRoom
from support.stories import hire, hire_vetted, refused, run, someone

pytestmark = pytest.mark.integration
APPROVER, SAMPLING, HOLD = PrecautionKind


async def with_third(room: Room) -> None:
    """Hire somebody else who may approve, and who has no role that the rule asks for."""
    await hire_vetted(room, someone("tess", "auditor"))


def run_shredding(story: Callable[[ShreddingRoom], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story(await ShreddingRoom().furnish())

    asyncio.run(whole())


# --- one approver more ------------------------------------------------------------------------------------------------


def test_one_approver_more_is_asked_for_and_is_enough() -> None:
    async def story(room: Room) -> None:
        await with_third(room)
        await take(room)
        request = await room.ask()
        approvals = await room.approvals(request)
        error = await refused(room.keeper.release(await room.dossier(request, RecipientKey())), "one-approver-more")
        assert "`dana`" in error.remedy
        more = await room.approvals(request, "tess")
        dossier = Dossier(
            request=request,
            approvals=(*approvals, *more),
            testimony=room.testimony(request, RecipientKey()),
            wrapped=room.wrapped,
        )
        await room.keeper.release(dossier)
        assert room.log.last(EventName.RELEASED).texts("approvers") == ("rina", "sam", "tess")

    run(story)


def test_a_grant_of_before_needs_one_more_at_its_next_use_and_none_after_the_end() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9, expires=NOW + 2 * DAY)
        await room.release(request)
        await take(room, until=room.clock.now() + 3600)
        await refused(room.release(request), "one-approver-more")
        room.clock.at = room.clock.now() + 3600
        await room.release(request)

    run(story)


def test_two_precautions_ask_for_one_more_and_others_are_left_alone() -> None:
    async def story(room: Room) -> None:
        await with_third(room)
        await take(room)
        await take(room, until=room.clock.now() + 2 * DAY)
        assert len(room.keeper.journal.ledger.precautions.standing(room.clock.now())) == 1
        request = await room.ask()
        await room.approvals(request, "sam", "rina", "tess")
        assert (await _explained(room, request, "sam", "rina", "tess")) == "enclave-missing"
        await hire_vetted(room, someone("otto", "requester", org="research"))
        other = await room.ask(by="otto")
        assert (await _explained(room, other, "sam", "rina")) == "enclave-missing"

    run(story)


async def _explained(room: Room, request: Envelope, *people: str) -> str:
    verdict = room.keeper.explain(Dossier(request=request, approvals=await room.approvals(request, *people)))
    return verdict.refusal.reason if verdict.refusal else ""


def test_stopping_is_never_slowed() -> None:
    async def story(room: Room) -> None:
        await take(room)
        await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))
        request = await room.submit(Action.RESUME)
        approvals = await room.approvals(request)
        await refused(room.keeper.control(Dossier(request=request, approvals=approvals)), "one-approver-more")

    run(story)


def test_what_judges_believe_is_counted_again() -> None:
    async def story(room: Room) -> None:
        request = await room.ask()
        approvals = await room.approvals(request)
        await take(room)
        with pytest.raises(ReleaseRefusedError) as caught:
            _recount(room, Dossier(request=request, approvals=approvals))
        assert caught.value.reason == "recount-short"

    run(story)


def test_a_rule_that_is_missing_in_the_recount_is_a_refusal() -> None:
    async def story(room: Room) -> None:
        request = await room.ask()
        policy = room.keeper.documents.policy
        assert policy is not None
        room.keeper.documents.policy = replace(policy, rules=())
        with pytest.raises(ReleaseRefusedError) as caught:
            _recount(room, Dossier(request=request, approvals=await room.approvals(request)))
        assert caught.value.step.number

    run(story)


def _recount(room: Room, dossier: Dossier) -> None:
    require_recounted(
        dossier,
        Request.parse(dossier.request.payload),
        None,
        documents=room.keeper.documents,
        ledger=room.keeper.journal.ledger,
        now=room.clock.now(),
    )


# --- who may take one, and how often ----------------------------------------------------------------------------------


def test_a_responder_takes_one_agent_or_not_and_nobody_else_does() -> None:
    async def story(room: Room) -> None:
        await hire(room, someone("warden", "responder", kind=PersonKind.AGENT, sponsor=PersonId("sam")))
        await room.vet("warden")
        await take(room, by="warden")
        assert room.log.last(EventName.PRECAUTION_TAKEN).text("person") == "warden"
        state = room.people.state
        await refused(state(StatementKind.PRECAUTION, said(room, SAMPLING, by="sam")), "signer-may-not")
        twice = said(room, SAMPLING).signed_by(signer("warden"))
        await refused(state(StatementKind.PRECAUTION, twice), "signer-missing")
        with pytest.raises(MalformedError, match="another deployment"):
            await state(StatementKind.PRECAUTION, said(room, genesis=Digest.of(b"another")))

    run(story)


def test_a_statement_that_was_kept_back_or_names_nobody_is_refused() -> None:
    async def story(room: Room) -> None:
        now = room.clock.now()
        old = said(room, at=now - 3601)
        await refused(room.people.state(StatementKind.PRECAUTION, old), "statement-not-current")
        over = said(room, at=now - 3000, until=now + 5)
        await refused(room.people.state(StatementKind.PRECAUTION, over), "statement-not-current")
        for kind, subject in ((APPROVER, "nobody"), (SAMPLING, "no-model"), (HOLD, "no-model")):
            unknown = said(room, kind, subject=subject)
            await refused(room.people.state(StatementKind.PRECAUTION, unknown), "precaution-subject-unknown")

    run(story)


def test_taken_twice_is_taken_once_and_the_longest_end_counts() -> None:
    async def story(room: Room) -> None:
        envelope = said(room, SAMPLING)
        await room.people.state(StatementKind.PRECAUTION, envelope)
        await refused(room.people.state(StatementKind.PRECAUTION, envelope), "statement-known")
        now = room.clock.now()
        shorter = said(room, SAMPLING, until=now + 3600)
        await refused(room.people.state(StatementKind.PRECAUTION, shorter), "precaution-stands")
        await take(room, SAMPLING, until=now + 3 * DAY)
        (one,) = room.keeper.journal.ledger.precautions.standing(now)
        assert (one.name, one.until) == (envelope.digest, now + 3 * DAY)
        assert room.keeper.journal.ledger.precautions.sampling(MODEL, now + 3 * DAY) is Sampling.POLICY

    run(story)


def test_no_more_stand_than_readers_take(monkeypatch: pytest.MonkeyPatch) -> None:
    # As the release protocol says, and enough for everybody and every model.
    assert MAX_PRECAUTIONS == MAX_PEOPLE + 2 * MAX_MODELS + 1 == 10_193

    async def story(room: Room) -> None:
        monkeypatch.setattr(examining, "MAX_PRECAUTIONS", 2)
        await take(room, HOLD)
        await take(room)
        await refused(room.people.state(StatementKind.PRECAUTION, said(room, SAMPLING)), "precautions-too-many")
        # What stands may last longer, and what is over makes room.
        room.clock.at = room.clock.now() + DAY - 60
        await take(room, until=room.clock.now() + DAY)
        room.clock.at = room.clock.now() + DAY
        await take(room, SAMPLING)

    run(story)


def test_one_responder_doesn_t_flood_the_log() -> None:
    async def story(room: Room) -> None:
        now = room.clock.now()
        for number in range(RATES[Quota.PRECAUTION].burst):
            await take(room, SAMPLING, until=now + 3600 + number)
        with pytest.raises(TooManyEntriesError):
            await take(room, SAMPLING, until=now + DAY)

    run(story)


def test_what_stands_is_there_after_a_restart() -> None:
    async def story(room: Room) -> None:
        await take(room)
        before = room.keeper.journal.ledger.precautions
        await room.restart()
        assert room.keeper.journal.ledger.precautions == before

    run(story)


# --- holds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [MODEL, None])
def test_a_hold_stops_a_destruction_before_and_after_it_was_agreed_on(subject: ModelId | None) -> None:
    async def story(room: ShreddingRoom) -> None:
        agreed = await room.ask_to_destroy()
        await take(room, HOLD, subject=subject)
        room.clock.at = room.clock.now() + DELAY
        await refused(room.carry_out(agreed), "model-held")
        again = await room.ask_to_destroy()
        assert again.digest not in room.keeper.journal.ledger.grants
        assert MODEL not in room.keeper.journal.ledger.keys.destroyed

    run_shredding(story)


def test_two_people_lift_a_hold_and_one_statement_brings_no_second_back() -> None:
    async def story(room: ShreddingRoom) -> None:
        envelope = said(room, HOLD)
        await room.people.state(StatementKind.PRECAUTION, envelope)
        request = await room.submit(Action.LIFT, target=envelope.digest)
        alone = await room.approvals(request, "sam")
        await refused(room.keeper.control(Dossier(request=request, approvals=alone)), "quorum-not-met")
        approvals = await room.approvals(request)
        await room.keeper.control(Dossier(request=request, approvals=approvals))
        assert room.keeper.journal.ledger.precautions.any_hold() is None
        await refused(room.people.state(StatementKind.PRECAUTION, envelope), "statement-known")
        await room.destroyed()

    run_shredding(story)


def test_what_was_refused_as_standing_doesn_t_come_back_after_the_lifting() -> None:
    async def story(room: ShreddingRoom) -> None:
        name = await take(room, HOLD)
        again = said(room, HOLD, cause=Cause.LEGAL, incident=None)
        await refused(room.people.state(StatementKind.PRECAUTION, again), "precaution-stands")
        await lift(room, name)
        # Whoever saw it on its way may hand it in again.
        await refused(room.people.state(StatementKind.PRECAUTION, again), "statement-not-current")
        room.clock.at = room.clock.now() + 1
        await take(room, HOLD)

    run_shredding(story)


async def lift(room: Room, name: Digest) -> None:
    """Have two people lift a precaution."""
    request = await room.submit(Action.LIFT, target=name)
    await room.keeper.control(Dossier(request=request, approvals=await room.approvals(request)))


@pytest.mark.parametrize("subject", [MODEL, None])
def test_nobody_is_erased_while_anything_is_held(subject: ModelId | None) -> None:
    async def story(room: Room) -> None:
        await hire_vetted(room, someone("olga", "vetting-officer"), someone("otto", "vetting-officer"))
        name = await take(room, HOLD, subject=subject)
        erasure = Erasure(genesis=room.genesis.digest, person=PersonId("rina"))
        signed = sign(ERASURE_TYPE, erasure.to_bytes(), signer("olga"), signer("otto"))
        kept = dict(room.records.files)
        await refused(room.people.state(StatementKind.ERASURE, signed), "person-held")
        assert room.records.files == kept
        # And the journal would hold such an entry back, as whoever verifies the log would find it.
        facts: dict[str, Fact] = {"person": "rina", "statement": signed.digest, "officers": ("olga", "otto")}
        with pytest.raises(UnfoundedError, match="hold"):
            room.keeper.record(EventName.PERSON_ERASED, facts)
        await lift(room, name)
        await room.people.state(StatementKind.ERASURE, signed)

    run(story)


def test_too_few_people_are_refused_with_what_is_missing_and_somebody_else_lifts() -> None:
    """Nobody is left to be one more: the request waits, says why, and another person's own isn't slowed."""

    async def story(room: Room) -> None:
        held = await take(room, HOLD)
        await take(room)
        mine = await room.submit(Action.LIFT, target=held)
        dossier = Dossier(request=mine, approvals=await room.approvals(mine))
        error = await refused(room.keeper.control(dossier), "one-approver-more")
        assert "a precaution about `dana`" in error.remedy
        verdict = room.keeper.explain(dossier)
        assert verdict.refusal is not None
        assert verdict.refusal.reason == "one-approver-more"
        await hire_vetted(room, someone("tess", "responder"))
        theirs = await room.submit(Action.LIFT, target=held, by="tess")
        await room.keeper.control(Dossier(request=theirs, approvals=await room.approvals(theirs)))
        assert room.keeper.journal.ledger.precautions.any_hold() is None

    run(story)


def test_two_responders_take_one_and_a_suspended_one_s_stays() -> None:
    async def story(room: Room) -> None:
        await hire(room, someone("warden", "responder", kind=PersonKind.AGENT, sponsor=PersonId("sam")))
        await room.vet("warden")
        name = await take(room, SAMPLING, by="warden")
        shorter = said(room, SAMPLING, until=room.clock.now() + 3600)
        await refused(room.people.state(StatementKind.PRECAUTION, shorter), "precaution-stands")
        await room.people.suspend(PersonId("warden"), SuspensionCause.INCIDENT)
        later = said(room, SAMPLING, by="warden", until=room.clock.now() + 2 * DAY)
        await refused(room.people.state(StatementKind.PRECAUTION, later), "signer-not-cleared")
        await take(room, SAMPLING, until=room.clock.now() + 3 * DAY)
        (one,) = room.keeper.journal.ledger.precautions.standing(room.clock.now())
        assert (one.name, one.person, one.until) == (name, "warden", room.clock.now() + 3 * DAY)

    run(story)


def test_only_what_stands_and_people_lift_is_lifted_and_by_its_own_model_s_quorum() -> None:
    async def story(room: ShreddingRoom) -> None:
        watched = await take(room)
        held = await take(room, HOLD)
        for target, model, reason in (
            (Digest.of(b"nothing"), MODEL, "no-such-precaution"),
            (watched, MODEL, "no-such-precaution"),
            (held, ModelId("other"), "precaution-of-another"),
        ):
            request = await room.submit(Action.LIFT, target=target, model=model)
            dossier = Dossier(request=request, approvals=await room.approvals(request))
            await refused(room.keeper.control(dossier), reason)

    run_shredding(story)


def test_a_hold_on_everything_isn_t_lifted_through_a_model_that_is_guarded_less() -> None:
    async def story(room: Room) -> None:
        policy = room.keeper.documents.policy
        assert policy is not None
        guarded = replace(policy.terms(MODEL), model=ModelId("guarded"), level=SecurityLevel.SL5)
        room.keeper.documents.policy = replace(policy, models=(*policy.models, guarded))
        held = await take(room, HOLD, subject=None)
        request = await room.submit(Action.LIFT, target=held)
        dossier = Dossier(request=request, approvals=await room.approvals(request))
        error = await refused(room.keeper.control(dossier), "precaution-of-another")
        assert "SL5" in error.remedy
        assert room.keeper.journal.ledger.precautions.any_hold() is not None

    run(story)


# --- judged again -----------------------------------------------------------------------------------------------------


def test_a_log_with_precautions_is_found_good_and_one_that_ignores_them_isn_t() -> None:
    async def story(room: Room) -> None:
        await with_third(room)
        envelope = said(room, SAMPLING)
        await room.people.state(StatementKind.PRECAUTION, envelope)
        await take(room)
        request = await room.ask()
        dossier = await room.dossier(request, RecipientKey(), "sam", "rina", "tess")
        await room.keeper.release(dossier)
        request = await room.submit(Action.LIFT, target=envelope.digest)
        approvals = await room.approvals(request, "sam", "rina", "tess")
        await room.keeper.control(Dossier(request=request, approvals=approvals))
        verdict = retell(room)
        assert not codes(verdict)
        # The judges all believe that nothing stands; the log says otherwise, and the keeper's journal heeds it.
        seal = await room.submit(Action.SEAL, version=2, recipient=Digest.of(b"key"))
        facts: dict[str, Fact] = {
            "request": seal.digest,
            "action": "seal",
            "model": MODEL,
            "requester": "dana",
            "approvers": (),
            "access": "copy",
            "holders": 1,
            "expires": "2030-01-01T00:00:00Z",
            "uses": 1,
        }
        with pytest.raises(UnfoundedError, match="one approver more"):
            room.keeper.record(EventName.GRANT_ISSUED, facts)

    run(story)


def test_a_statement_that_says_otherwise_than_the_log_is_found() -> None:
    async def story(room: Room) -> None:
        name = await take(room)
        other = said(room, until=room.clock.now() + 2 * DAY)
        exhibits = RoomExhibits(room, {("precaution", name): other.to_bytes()})
        assert codes(retell(room, exhibits)) == {"exhibit-of-another"}

    run(story)
