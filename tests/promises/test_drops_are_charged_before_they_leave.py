"""What leaves a workspace is charged in the log first, once, within every quota, and goes to reviewers alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access.request import Action, Purpose
from strongroom.audit.entries import read_entry
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import ConflictError, StrongroomError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.core.signature import SignatureError
from strongroom.egress.bits import Output
from strongroom.egress.workspace import MAX_DROP, YEAR
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import DELIVERY_TYPE
from strongroom.release.dossier import Dossier
from strongroom.release.drop import REVIEWER, TicketMismatchError, accept_ticket
from strongroom.release.drop_statements import DropOutcome
from strongroom.release.lease import LeaseEndedError
from strongroom.release.statements import StatementKind
from support.deployment import MODEL, signer
from support.drops import DropScene, Seat, files_may_leave, identity

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
END = 29
"""Bits for the length of a drop."""


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]  # each is a coroutine


def entries(scene: DropScene, event: EventName) -> list[dict[str, Any]]:
    found = [read_entry(data) for data in scene.room.log.entries]
    return [dict(one.facts) for one in found if one.event is event]


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(StrongroomError) as caught:
        await work
    return caught.value.reason


def test_a_drop_is_in_the_log_before_its_ticket_and_in_the_odometer_for_good() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        ticket = await seat.leave(b"x" * 1000)
        assert ticket.bits == 8 * 1000 + END
        (charged,) = entries(scene, EventName.DROP_CHARGED)
        assert charged["drop"] == str(Digest.of(b"x" * 1000))
        assert (charged["person"], charged["bytes"], charged["bits"]) == ("dana", 1000, ticket.bits)
        assert charged["total"] == ticket.bits == scene.total
        (begun,) = entries(scene, EventName.WORKSPACE_BEGUN)
        assert begun["person"] == "dana"
        assert ticket.researcher.person == "dana"
        assert [one.person for one in ticket.reviewers] == ["sam"]
        assert ticket.reviewers[0].public == identity("sam").public
        await scene.restart()
        assert scene.total == ticket.bits

    run(story)


def test_the_same_drop_is_charged_once_and_another_takes_a_new_ticket() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        first = await seat.leave(b"one")
        again = await seat.leave(b"one")
        assert (again.log_index, again.bits) == (first.log_index, first.bits)
        # A new run of the same request, as after a crash between ticket and drop.
        dossier = await scene.room.dossier(seat.request, RecipientKey(), "sam", "rina")
        handed = await scene.room.keeper.release(dossier)
        second = Seat(scene, handed.delivery, seat.request)
        await second.begin()
        assert (await second.leave(b"one")).log_index == first.log_index
        other = await second.leave(b"two")
        assert other.log_index > first.log_index
        assert len(entries(scene, EventName.DROP_CHARGED)) == 2
        assert scene.total == first.bits + other.bits
        assert await refused(second.leave(Digest.of(b"one"), 2)) == "drop-changed"

    run(story)


def test_whoever_holds_a_delivery_charges_one_drop_and_can_not_fill_the_log() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        first = await seat.leave(b"one")
        size = scene.room.keeper.journal.ledger.size
        for number in range(8):
            assert await refused(seat.leave(Digest.of(bytes([number])), 1)) == "drop-changed"
        assert scene.room.keeper.journal.ledger.size == size
        assert scene.total == first.bits
        # Two askings at once are no way around it.
        other = await scene.seat("rina")
        found = await asyncio.gather(other.leave(b"a"), other.leave(b"b"), return_exceptions=True)
        assert [isinstance(one, StrongroomError) for one in found] == [False, True]

    run(story)


def test_after_a_crash_the_charged_drop_leaves_though_no_quota_is_left() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(workspace_person_bits=8 * 10 + END))
        seat = await scene.seat()
        first = await seat.leave(b"x" * 10)
        handed = await scene.room.keeper.release(await scene.room.dossier(seat.request, RecipientKey(), "sam", "rina"))
        second = Seat(scene, handed.delivery, seat.request)
        await second.begin()
        assert (await second.leave(b"x" * 10)).log_index == first.log_index
        assert await refused(second.leave(b"y")) == "egress-limit.workspace-person-year"
        assert await refused(scene.seat()) == "egress-limit.workspace-person-year"

    run(story)


def test_a_person_has_a_quota() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(workspace_person_bits=8 * 1000 + END))
        seat = await scene.seat()
        await seat.leave(b"x" * 500)
        # A quota is a person's, not a request's.
        assert await refused((await scene.seat()).leave(b"z" * 500)) == "egress-limit.workspace-person-year"
        other = await scene.seat("rina")
        await other.leave(b"y" * 500)

    run(story)


def test_all_together_have_less_than_one_percent_a_year() -> None:
    async def story() -> None:
        policy = files_may_leave(workspace_person_bits=3_000_000)
        scene = await DropScene.furnished(policy)
        assert policy.workspace_year_bits == 4_000_000
        await (await scene.seat()).leave(Digest.of(b"large"), 370_000)
        other = await scene.seat("rina")
        assert await refused(other.leave(Digest.of(b"large too"), 200_000)) == "egress-limit.workspace-year"
        await other.leave(b"small")

    run(story)


def test_no_more_people_than_the_policy_says_hold_a_quota() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(quota_holders=1))
        await (await scene.seat()).leave(b"first")
        # Found out before any weights are opened.
        assert await refused(scene.seat("rina")) == "egress-limit.quota-holders"

    run(story)


def test_a_years_old_drop_gives_its_quota_back_and_the_odometer_keeps_it() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(workspace_person_bits=8 * 10 + END))
        first = await (await scene.seat()).leave(b"x" * 10)
        ledger = scene.room.keeper.journal.ledger
        old = replace(ledger.drops.charged[first.request, first.ask.digest], at=scene.room.clock.now() - YEAR)
        ledger.drops.charged[first.request, first.ask.digest] = old
        second = await (await scene.seat()).leave(b"y" * 10)
        assert scene.total == first.bits + second.bits

    run(story)


def test_a_drop_ends_with_the_models_life() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(lifetime_permille=1))
        assert await refused((await scene.seat()).leave(Digest.of(b"z"), 60_000)) == "egress-limit.lifetime"

    run(story)


def test_marks_of_the_models_life_are_recorded_as_they_are_passed() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(lifetime_permille=1, workspace_person_bits=400_000))
        seat = await scene.seat()
        await seat.leave(Digest.of(b"half"), 26_000)
        assert [one["permille"] for one in entries(scene, EventName.EGRESS_WARNED)] == [500]
        await (await scene.seat()).leave(Digest.of(b"more"), 1000)
        assert len(entries(scene, EventName.EGRESS_WARNED)) == 1

    run(story)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": Purpose.EVALUATE}, "workspace-purpose"),
        ({"purpose": Purpose.SERVE}, "workspace-purpose"),
    ],
)
def test_only_research_may_have_a_workspace(changes: dict[str, Any], reason: str) -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        assert await refused(scene.seat(**changes)) == reason

    run(story)


def test_files_leave_only_where_the_policy_says_so() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(outputs=(Output.TOKENS,)))
        assert await refused(scene.seat()) == "egress-output"
        await scene.adopt()
        assert await refused(scene.seat()) == "egress-policy-missing"

    run(story)


def test_an_input_is_recorded_first_and_once() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat(begin=False)
        assert await refused(seat.leave(b"x")) == "workspace-not-begun"
        first = await seat.begin()
        assert await seat.begin() == first
        assert await refused(seat.begin(Digest.of(b"another input"))) == "input-changed"
        assert len(entries(scene, EventName.WORKSPACE_BEGUN)) == 1

    run(story)


def test_sizes_that_no_drop_has_are_refused() -> None:
    async def story() -> None:
        seat = await (await DropScene.furnished()).seat()
        assert await refused(seat.leave(Digest.of(b"x"), MAX_DROP + 1)) == "usage"

    run(story)


def test_who_shows_no_delivery_of_the_keepers_gets_nothing() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat, other = await scene.seat(), await scene.seat("rina")
        payload = seat.delivery.payload
        with pytest.raises(SignatureError):
            await Seat(scene, sign(DELIVERY_TYPE, payload, signer("dana")), seat.request).leave(b"x")
        # Another release's delivery with this one's asking.
        with pytest.raises(StrongroomError) as caught:
            await scene.drops.leave(other.delivery, seat.ask(b"x"))
        assert caught.value.reason == "lease-unknown"
        assert not entries(scene, EventName.DROP_CHARGED)

    run(story)


def test_no_drop_leaves_once_the_lease_ended() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        request = await scene.room.submit(Action.REVOKE_GRANT, target=seat.request.digest)
        await scene.room.keeper.control(Dossier(request=request))
        with pytest.raises(LeaseEndedError):
            await seat.leave(b"x")
        other = await scene.seat("rina")
        await scene.room.keeper.control(Dossier(request=await scene.room.submit(Action.FREEZE)))
        assert await refused(other.leave(b"x")) == "model-frozen"
        assert not entries(scene, EventName.DROP_CHARGED)

    run(story)


def test_a_keeper_that_was_started_anew_waits_for_the_next_renewal() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        first = await seat.leave(b"x")
        await scene.restart()
        assert await refused(seat.leave(b"x")) == "lease-not-live"
        fresh = await scene.seat()
        assert (await fresh.leave(b"y")).log_index > first.log_index

    run(story)


def test_nothing_goes_to_people_who_are_not_cleared_reviewers_now() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        await scene.roles("both", REVIEWER)
        # No key, so nothing can be encrypted to them.
        assert [one.person for one in (await seat.leave(b"a")).reviewers] == ["sam"]
        await scene.key("both")
        assert [one.person for one in (await seat.leave(b"a")).reviewers] == ["both", "sam"]
        await scene.room.vet("both", conflict="case-7")
        assert [one.person for one in (await seat.leave(b"a")).reviewers] == ["sam"]
        await scene.roles("sam", taken=(REVIEWER,))
        assert await refused(seat.leave(b"a")) == "drop-reviewer-missing"

    run(story)


def test_a_researcher_with_the_role_isnt_their_own_reviewer() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        await scene.roles("dana", REVIEWER)
        seat = await scene.seat()
        ticket = await seat.leave(b"a")
        assert [one.person for one in ticket.reviewers] == ["sam"]
        assert await refused(scene.review(ticket, DropOutcome.ACCEPT, "dana")) == "signer-may-not"
        await scene.roles("sam", taken=(REVIEWER,))
        assert await refused(scene.seat()) == "drop-reviewer-missing"

    run(story)


def test_a_researcher_needs_a_key_before_weights_are_opened() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(keys=("sam",))
        assert await refused(scene.seat()) == "drop-key-missing"

    run(story)


def test_a_key_is_named_by_its_own_person_and_an_old_one_never_comes_back() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        people = scene.room.people
        with pytest.raises(StrongroomError) as caught:
            await people.state(StatementKind.DROP_KEY, scene.key_statement("sam", 2, by="dana"))
        assert caught.value.reason == "signer-may-not"
        await scene.key("sam", 2)
        seat = await scene.seat()
        assert (await seat.leave(b"a")).reviewers[0].public == identity("sam", 2).public
        with pytest.raises(ConflictError):
            await people.state(StatementKind.DROP_KEY, scene.key_statement("sam", 1))
        await scene.restart()
        with pytest.raises(ConflictError):
            await scene.room.people.state(StatementKind.DROP_KEY, scene.key_statement("sam", 1))

    run(story)


def test_a_key_falls_with_the_signing_key_that_named_it() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat("rina")
        await scene.roles("both", REVIEWER)
        await scene.key("both")
        before = scene.room.roster
        people = tuple(
            replace(one, keys=(signer("sam anew").public_key,)) if one.id == "sam" else one for one in before.people
        )
        digest = Digest.of(before.to_bytes())
        await scene.room.adopt_roster(replace(before, epoch=before.epoch + 1, predecessor=digest, people=people))
        assert [one.person for one in (await seat.leave(b"a")).reviewers] == ["both"]

    run(story)


def test_a_drop_is_reviewed_once_and_stays_charged_when_refused() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        ticket = await seat.leave(b"a")
        assert await refused(scene.review(ticket, DropOutcome.ACCEPT, "both")) == "signer-may-not"
        await scene.review(ticket, DropOutcome.REFUSE, "sam")
        (reviewed,) = entries(scene, EventName.DROP_REVIEWED)
        assert (reviewed["reviewer"], reviewed["outcome"]) == ("sam", "refuse")
        assert await refused(scene.review(ticket, DropOutcome.ACCEPT, "sam")) == "nothing-to-review"
        assert scene.total == ticket.bits
        (shown,) = scene.drops.shown(MODEL)
        assert isinstance(shown, dict)
        assert (shown["person"], shown["outcome"], shown["reviewer"]) == ("dana", "refuse", "sam")
        other = replace(ticket, ask=replace(ticket.ask, digest=Digest.of(b"never charged")))
        assert await refused(scene.review(other, DropOutcome.ACCEPT, "sam")) == "nothing-to-review"

    run(story)


def test_two_drops_at_once_cant_both_take_what_is_left() -> None:
    async def story() -> None:
        scene = await DropScene.furnished(files_may_leave(workspace_person_bits=8 * 1000 + END))
        seat = await scene.seat()
        came = await asyncio.gather(*(seat.leave(bytes([n]) * 600) for n in range(5)), return_exceptions=True)
        assert sum(not isinstance(one, BaseException) for one in came) == 1
        assert len(entries(scene, EventName.DROP_CHARGED)) == 1

    run(story)


def test_a_ticket_for_anything_else_than_this_asking_is_refused() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        genesis, request = scene.room.genesis, seat.request.digest
        ask = seat.ask(b"a")
        word = await scene.drops.leave(seat.delivery, ask)
        accept_ticket(word, genesis, request=request, ask=ask)
        for other in (
            seat.ask(b"a"),
            replace(ask, digest=Digest.of(b"b")),
            replace(ask, size=2),
            replace(ask, use=2),
            replace(ask, recipient=Digest.of(b"key")),
        ):
            with pytest.raises(TicketMismatchError):
                accept_ticket(word, genesis, request=request, ask=other)
        with pytest.raises(TicketMismatchError):
            accept_ticket(word, genesis, request=Digest.of(b"other"), ask=ask)
        forged = sign(word.kind, word.payload, signer("dana"))
        with pytest.raises(SignatureError):
            accept_ticket(forged, genesis, request=request, ask=ask)
        # The keeper's word on an input isn't a ticket.
        begun = await scene.drops.begin(seat.delivery, (entered := seat.ask(Digest.of(b"an input"))))
        with pytest.raises(SignatureError):
            accept_ticket(begun, genesis, request=request, ask=entered)
        with pytest.raises(SignatureError):
            accept_ticket(Envelope(word.kind, begun.payload, begun.signatures), genesis, request=request, ask=entered)

    run(story)


def test_the_log_refuses_a_drop_that_fits_nothing() -> None:
    async def story() -> None:
        scene = await DropScene.furnished()
        seat = await scene.seat()
        ticket = await seat.leave(b"a")
        facts: dict[str, Fact] = {
            "request": ticket.request,
            "use": 1,
            "model": MODEL,
            "person": PersonId("dana"),
            "drop": Digest.of(b"b"),
            "bytes": 1,
            "bits": 10,
            "total": ticket.bits + 9,
        }
        keeper = scene.room.keeper
        for wrong in (facts, {**facts, "drop": ticket.ask.digest, "total": ticket.bits + 10}, {**facts, "use": 2}):
            with pytest.raises(TamperedError):
                await keeper.record(EventName.DROP_CHARGED, wrong)

    run(story)
