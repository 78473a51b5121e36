"""Grants: fresh agreement, counted people, cooling-off, units, export, break-glass and its review."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from simulators.attester import NOW
from strongroom.access.policy import Caps, Factor, ModelTerms, Rule, Unit
from strongroom.access.request import Action, Purpose
from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.framework.levels import SecurityLevel
from strongroom.keeper.service import HandedOver
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.statements import (
    ACCESS_REVIEW_TYPE,
    BREAK_GLASS_REVIEW_TYPE,
    AccessDecision,
    AccessReview,
    BreakGlassReview,
    Outcome,
)
from strongroom.release.decided import Decided
from strongroom.release.delivery import accept
from strongroom.release.judge import REVIEW_SECONDS
from strongroom.release.statements import StatementKind
from support.deployment import DAY, MODEL, signer
from support.room import Room
from support.stories import hire_vetted, refused, run, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
TWO = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1))


async def change(room: Room, action: Action, *, terms: dict[str, object] | None = None, **members: object) -> None:
    """Adopt a policy in which one action's rule, and the model's terms, are changed."""
    rules = [rule for rule in room.policy.rules if rule.action is not action]
    before = next((rule for rule in room.policy.rules if rule.action is action), None)
    base = before or replace(room.policy.rules[1], action=action)
    level = (terms or {}).get("level", room.policy.models[0].level)
    changed: Rule = replace(base, **members)  # type: ignore[arg-type]
    every = tuple(replace(rule, level=level) for rule in (*rules, changed))  # type: ignore[arg-type]
    models: tuple[ModelTerms, ...] = (replace(room.policy.models[0], **(terms or {})),)  # type: ignore[arg-type]
    await room.next_policy(rules=every, models=models)


def test_a_grant_is_issued_once_the_quorum_agreed_and_not_before() -> None:
    async def story(room: Room) -> None:
        request = await room.ask()
        one = await room.voice(request, "sam")
        assert await room.keeper.grant(room.bare(request, one)) is None
        two = await room.voice(request, "rina")
        assert await room.keeper.grant(room.bare(request, one, two)) is not None
        assert await room.keeper.grant(room.bare(request, one, two)) is None
        issued = room.log.last(EventName.GRANT_ISSUED)
        assert issued.digest("request") == request.digest
        assert issued.text("access") == "output"
        assert issued.texts("approvers") == ("rina", "sam")

    run(story)


def test_an_approval_that_isn_t_in_the_log_counts_for_nothing() -> None:
    async def story(room: Room) -> None:
        request = await room.ask()
        signed = await room.approvals(request, "sam")
        hidden = sign("application/vnd.strongroom.approval.v1", request.payload, signer("rina"))
        case = await room.dossier(request, RecipientKey(), "sam")
        await refused(room.keeper.release(replace(case, approvals=(*signed, hidden))), "approver-approval-not-recorded")

    run(story)


def test_old_agreement_is_no_agreement_unless_the_grant_was_issued_in_time() -> None:
    async def story(room: Room) -> None:
        await change(room, Action.OPEN_IN_ENCLAVE, approval_life=3600)
        late, granted = await room.ask(max_uses=9), await room.ask(max_uses=9)
        await room.approvals(late)
        approvals = await room.approvals(granted)
        await room.keeper.grant(room.bare(granted, *approvals))
        room.clock.at += 3601
        await refused(room.release(late), "approver-approval-stale")
        await room.release(granted)

    run(story)


def test_cooling_off_holds_back_the_first_use() -> None:
    async def story(room: Room) -> None:
        await change(room, Action.OPEN_IN_ENCLAVE, delay=7200, approval_life=3600)
        request = await room.ask(max_uses=9)
        approvals = await room.approvals(request)
        await room.keeper.grant(room.bare(request, *approvals))
        await refused(room.release(request), "cooling-off")
        room.clock.at += 7200
        await room.release(request)

    run(story)


def test_another_unit_must_agree_where_the_rule_says_so() -> None:
    async def story(room: Room) -> None:
        other = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1, unit=Unit.OTHER))
        await change(room, Action.OPEN_IN_ENCLAVE, factors=other)
        # `rina` is of the requester's own unit, `both` of another.
        request = await room.ask(max_uses=9)
        error = await refused(room.release(request), "quorum-not-met")
        assert "of another unit" in error.remedy
        await room.voice(request, "both")
        await room.release(
            request, change=lambda case: replace(case, approvals=(case.approvals[0], room.signed(request, "both")))
        )

    run(story)


def test_the_unit_that_owns_the_model_must_agree_where_the_rule_says_so() -> None:
    async def story(room: Room) -> None:
        owner = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1, unit=Unit.OWNER))
        # Without an owner nobody could ever agree: such a policy doesn't come into force at all.
        await refused(change(room, Action.OPEN_IN_ENCLAVE, factors=owner), "policy-unsafe")
        await change(room, Action.OPEN_IN_ENCLAVE, factors=owner, terms={"owner": "security"})
        await refused(room.release(await room.ask()), "quorum-not-met")
        await change(room, Action.OPEN_IN_ENCLAVE, factors=owner, terms={"owner": "research"})
        await room.release(await room.ask())

    run(story)


def test_no_more_people_hold_access_than_the_cap_allows() -> None:
    async def story(room: Room) -> None:
        people = [someone(f"user-{n}", "requester", org="research") for n in range(3)]
        await hire_vetted(room, *people)
        await change(
            room,
            Action.OPEN_IN_ENCLAVE,
            terms={"level": SecurityLevel.SL3},
        )
        await room.next_policy(caps=Caps(output=2, isolated=2, copy=2))
        first = await room.ask(by="user-0", max_uses=9)
        await room.release(first)
        await room.release(await room.ask(by="user-1"))
        # Who holds access already may hold it twice; a third person may not hold it at all.
        await room.release(await room.ask(by="user-1"))
        third = await room.ask(by="user-2")
        await refused(room.release(third), "cap-reached")
        await room.release(await room.ask(by="user-2", purpose=Purpose.RESEARCH))
        await room.people.suspend(PersonId("user-0"), SuspensionCause.LEFT)
        await room.release(third)

    run(story)


def test_caps_hold_when_many_ask_at_once() -> None:
    async def story(room: Room) -> None:
        people = [someone(f"user-{n}", "requester", org="research") for n in range(6)]
        await hire_vetted(room, *people)
        await change(room, Action.OPEN_IN_ENCLAVE, terms={"level": SecurityLevel.SL3})
        await room.next_policy(caps=Caps(output=2, isolated=2, copy=2))
        dossiers = [await room.dossier(await room.ask(by=person.id), RecipientKey()) for person in people]
        outcomes = await asyncio.gather(*(room.keeper.release(one) for one in dossiers), return_exceptions=True)
        assert sum(isinstance(one, HandedOver) for one in outcomes) == 2
        assert {one.reason for one in outcomes if isinstance(one, StrongroomError)} == {"cap-reached"}

    run(story)


def test_export_takes_two_others_and_terms_that_allow_it() -> None:
    async def story(room: Room) -> None:
        await change(room, Action.EXPORT_PLAINTEXT, factors=TWO, requester_role="requester", max_uses=1)

        async def export(key: RecipientKey) -> tuple[Envelope, Envelope]:
            request = await room.submit(
                Action.EXPORT_PLAINTEXT, version=1, manifest=room.manifest, recipient=key.digest
            )
            approvals = await room.approvals(request)
            case = replace(room.bare(request, *approvals, key=key), wrapped=room.wrapped)
            return request, await room.keeper.export(case)

        await refused(export(RecipientKey()), "export-disabled")
        await change(room, Action.EXPORT_PLAINTEXT, terms={"export": True})
        key = RecipientKey()
        request, envelope = await export(key)
        _delivery, data_key = accept(envelope, room.genesis, key, request=request.digest, model=MODEL, version=1)
        assert len(data_key.reveal(TOKEN)) == 32
        assert room.log.last(EventName.EXPORTED).texts("approvers") == ("rina", "sam")
        assert room.log.last(EventName.GRANT_ISSUED).text("access") == "copy"
        await change(room, Action.EXPORT_PLAINTEXT, factors=TWO[:1])
        await refused(export(RecipientKey()), "quorum-below-floor")

    run(story)


def test_an_export_goes_to_the_recipient_that_everybody_saw() -> None:
    async def story(room: Room) -> None:
        await change(room, Action.EXPORT_PLAINTEXT, factors=TWO, max_uses=1, terms={"export": True})
        key = RecipientKey()
        request = await room.submit(Action.EXPORT_PLAINTEXT, version=1, manifest=room.manifest, recipient=key.digest)
        approvals = await room.approvals(request)
        case = replace(room.bare(request, *approvals, key=RecipientKey()), wrapped=room.wrapped)
        await refused(room.keeper.export(case), "other-recipient")
        await refused(
            room.keeper.export(replace(case, recipient_key=key.public, approvals=approvals[:1])), "quorum-not-met"
        )

    run(story)


async def break_glass(room: Room, **members: object) -> Envelope:
    """Ask for a break-glass opening."""
    told: dict[str, object] = {"expires": NOW + 3000, "purpose": Purpose.INCIDENT_RESPONSE}
    return await room.ask(action=Action.BREAK_GLASS, **(told | members))


async def with_break_glass(room: Room) -> None:
    """Adopt a rule for break-glass, and hire a second team."""
    await change(room, Action.BREAK_GLASS, factors=TWO, requester_role="responder", max_uses=1)
    await hire_vetted(room, *(someone(name, "responder", org="audit") for name in ("ada", "abe")))


def reviewed(room: Room, request: Envelope, *people: str) -> Envelope:
    """Return a signed review of a break-glass opening."""
    review = BreakGlassReview(
        genesis=room.genesis.digest, request=request.digest, outcome=Outcome.JUSTIFIED, report=Digest.of(b"report")
    )
    return sign(BREAK_GLASS_REVIEW_TYPE, review.to_bytes(), *(signer(name) for name in people))


def test_break_glass_is_a_rule_of_its_own_and_not_a_way_around() -> None:
    async def story(room: Room) -> None:
        await refused(room.release(await break_glass(room)), "no-rule")
        await with_break_glass(room)
        await refused(room.release(await break_glass(room, expires=NOW + 2 * 3600)), "window-too-long")
        request = await break_glass(room)
        error = await refused(
            room.release(request, change=lambda case: replace(case, approvals=case.approvals[:1])), "quorum-not-met"
        )
        assert "approver-research" in error.remedy
        await room.release(request)
        await change(room, Action.BREAK_GLASS, factors=TWO[:1])
        await refused(room.release(await break_glass(room)), "quorum-below-floor")

    run(story)


def test_a_second_team_reviews_a_break_glass_opening() -> None:
    async def story(room: Room) -> None:
        await with_break_glass(room)
        request = await break_glass(room)
        await refused(
            room.people.state(StatementKind.BREAK_GLASS_REVIEW, reviewed(room, request, "ada", "abe")),
            "nothing-to-review",
        )
        await room.release(request)
        for people, reason in (
            (("ada",), "reviewers-missing"),
            (("ada", "dana"), "signer-may-not"),
            (("ada", "both"), "signer-may-not"),
        ):
            await refused(room.people.state(StatementKind.BREAK_GLASS_REVIEW, reviewed(room, request, *people)), reason)
        await room.people.state(StatementKind.BREAK_GLASS_REVIEW, reviewed(room, request, "ada", "abe"))
        room.clock.at += REVIEW_SECONDS + 1
        await room.release(await room.ask(expires=room.clock.at + DAY))

    run(story)


def test_a_review_that_is_overdue_tightens_the_model_s_rules_by_itself() -> None:
    async def story(room: Room) -> None:
        await with_break_glass(room)
        opened = await break_glass(room)
        await room.release(opened)
        room.clock.at += REVIEW_SECONDS + 1
        usual = await room.ask(expires=room.clock.at + DAY, max_uses=9)
        error = await refused(room.release(usual), "quorum-not-met")
        assert "any approver" in error.remedy
        third = await room.voice(usual, "both")
        await room.release(usual, change=lambda case: replace(case, approvals=(*case.approvals, third)))
        again = await break_glass(room, not_before=room.clock.at - 1, expires=room.clock.at + 3000)
        more = await room.voice(again, "both")
        await refused(
            room.release(again, change=lambda case: replace(case, approvals=(*case.approvals, more))),
            "break-glass-review-overdue",
        )
        # Stopping is never made dearer.
        await room.keeper.control(room.bare(await room.submit(Action.FREEZE, expires=room.clock.at + DAY)))
        await room.people.state(StatementKind.BREAK_GLASS_REVIEW, reviewed(room, opened, "ada", "abe"))

    run(story)


def test_an_access_review_ends_what_it_removes_and_nobody_reviews_their_own() -> None:
    async def story(room: Room) -> None:
        kept, removed = await room.ask(max_uses=9), await room.ask(max_uses=9)
        await room.release(kept)
        await room.release(removed)
        await hire_vetted(room, someone("ruth", "access-reviewer"), someone("dora", "requester"))
        review = AccessReview(
            genesis=room.genesis.digest,
            at=NOW,
            decisions=(AccessDecision(grant=kept.digest, keep=True), AccessDecision(grant=removed.digest, keep=False)),
        )

        def by(name: str) -> Envelope:
            return sign(ACCESS_REVIEW_TYPE, review.to_bytes(), signer(name))

        await refused(room.people.state(StatementKind.ACCESS_REVIEW, by("dora")), "signer-may-not")
        await refused(room.people.state(StatementKind.ACCESS_REVIEW, by("dana")), "signer-may-not")
        await room.people.state(StatementKind.ACCESS_REVIEW, by("ruth"))
        await room.release(kept)
        await refused(room.release(removed), "request-denied")
        await room.restart()
        await refused(room.release(removed), "request-denied")

    run(story)


def test_each_decision_is_kept_and_named_in_the_log_by_its_digest() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=1)
        await room.release(request)
        await refused(room.release(request), "grant-spent")
        allowed, denied = (Decided.parse(record) for record in room.decisions.newest(2))
        assert (allowed.allowed, denied.allowed) == (True, False)
        assert room.log.last(EventName.RELEASED).digest("decision") == allowed.digest
        assert room.log.last(EventName.REFUSED).digest("decision") == denied.digest
        assert encode(room.parse(allowed.to_bytes())) == allowed.to_bytes()

    run(story)
