"""Whatever the judges of step 4 allow: signatures, log and signed records must bear it out before a record is made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, Action, Request
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.framework.levels import SecurityLevel
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.chronicle import UnfoundedError
from strongroom.release.dossier import Dossier
from strongroom.release.judge import examine
from strongroom.release.recount import require_recounted
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import DAY, signer
from support.retold import codes, retell
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
Off = Callable[[Room, Dossier], Awaitable[Dossier]]


def recount(room: Room, dossier: Dossier) -> None:
    """Count again what the judges would be asked."""
    request = Request.parse(dossier.request.payload)
    require_recounted(
        dossier,
        request,
        room.keeper.journal.ledger.current(request.model) if request.action is Action.OPEN_IN_ENCLAVE else None,
        documents=room.keeper.documents,
        ledger=room.keeper.journal.ledger,
        now=room.clock.now(),
    )


async def same(_room: Room, dossier: Dossier) -> Dossier:
    return dossier


async def one_approval(_room: Room, dossier: Dossier) -> Dossier:
    return replace(dossier, approvals=dossier.approvals[:1])


async def one_twice(_room: Room, dossier: Dossier) -> Dossier:
    return replace(dossier, approvals=dossier.approvals[:1] * 2)


async def unrecorded(room: Room, dossier: Dossier) -> Dossier:
    room.keeper.journal.ledger.approvals[dossier.request.digest].pop(PersonId("sam"))
    return dossier


async def forged(_room: Room, dossier: Dossier) -> Dossier:
    first, *others = dossier.approvals
    stolen = replace(first.signatures[0], value=bytes(64))
    return replace(dossier, approvals=(Envelope(APPROVAL_TYPE, first.payload, (stolen,)), *others))


async def of_other_bytes(_room: Room, dossier: Dossier) -> Dossier:
    first, *others = dossier.approvals
    return replace(dossier, approvals=(sign(APPROVAL_TYPE, first.payload + b" ", signer("sam")), *others))


async def left(room: Room, dossier: Dossier) -> Dossier:
    await room.people.suspend(PersonId("sam"), SuspensionCause.DEACTIVATED)
    return dossier


async def approver_lapsed(room: Room, dossier: Dossier) -> Dossier:
    await room.vet("sam", adjudicated_on=1, expires_on=2, rescreen_due=2)
    return dossier


async def requester_lapsed(room: Room, dossier: Dossier) -> Dossier:
    await room.vet("dana", adjudicated_on=1, expires_on=2, rescreen_due=2)
    return dossier


async def record_lost(room: Room, dossier: Dossier) -> Dossier:
    room.keeper.documents.vetting.pop(PersonId("dana"))
    return dossier


async def signed_by_another(_room: Room, dossier: Dossier) -> Dossier:
    return replace(dossier, request=sign(REQUEST_TYPE, dossier.request.payload, signer("sam")))


async def dismissed(room: Room, dossier: Dossier) -> Dossier:
    people = tuple(one for one in room.roster.people if one.id != "dana")
    room.keeper.documents.roster = replace(room.roster, people=people)
    return dossier


@pytest.mark.parametrize(
    ("off", "reason"),
    [
        (one_approval, "recount-short"),
        (one_twice, "recount-short"),
        (unrecorded, "recount-short"),
        (forged, "recount-short"),
        (of_other_bytes, "recount-short"),
        (left, "recount-short"),
        (approver_lapsed, "recount-short"),
        (requester_lapsed, "recount-not-cleared"),
        (record_lost, "recount-not-cleared"),
        (signed_by_another, "recount-not-signed"),
        (dismissed, "recount-not-signed"),
    ],
)
def test_what_is_not_borne_out_is_refused(off: Off, reason: str) -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        dossier = Dossier(request=request, approvals=await room.approvals(request), wrapped=room.wrapped)
        recount(room, dossier)
        with pytest.raises(ReleaseRefusedError) as caught:
            recount(room, await off(room, dossier))
        assert (caught.value.reason, caught.value.step.number) == (reason, "5")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"max_uses": 1_000_000}, "recount-beyond-rule"),
        ({"expires": 4_000_000_000}, "recount-beyond-rule"),
        ({"version": 2}, "recount-other-version"),
        ({"manifest": Digest.of(b"another")}, "recount-other-version"),
    ],
)
def test_what_was_asked_for_beyond_rule_and_log_is_refused(asked: dict[str, Any], reason: str) -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(**asked)
        dossier = Dossier(request=request, approvals=await room.approvals(request), wrapped=room.wrapped)
        with pytest.raises(ReleaseRefusedError) as caught:
            recount(room, dossier)
        assert caught.value.reason == reason

    asyncio.run(run())


def test_two_agree_where_the_law_of_the_house_says_so_whatever_the_rule() -> None:
    async def run() -> None:
        room = await Room().furnish()
        await room.keeper.control(room.bare(await room.submit(Action.FREEZE)))
        request = await room.submit(Action.RESUME)
        approvals = await room.approvals(request)
        dossier = room.bare(request, *approvals)
        policy = room.keeper.documents.policy
        assert policy is not None
        lax = tuple(replace(rule, factors=()) if rule.action is Action.RESUME else rule for rule in policy.rules)
        room.keeper.documents.policy = replace(policy, rules=lax)
        recount(room, dossier)
        with pytest.raises(ReleaseRefusedError, match="of 2 that must"):
            recount(room, room.bare(request, approvals[0]))

    asyncio.run(run())


def test_it_asks_for_no_more_than_the_judges() -> None:
    """What the judges allow of an honest dossier, with an approver too many who lapsed since, it lets pass."""

    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        await room.release(request)
        await room.vet("dana", adjudicated_on=room.clock.now() - DAY)
        dossier = Dossier(request=request, approvals=await room.approvals(request), wrapped=room.wrapped)
        verdict = examine(
            dossier,
            genesis=room.genesis,
            documents=room.keeper.documents,
            ledger=room.keeper.journal.ledger,
            challenge=None,
            collateral=room.keeper.collateral,
            now=room.clock.now(),
        )
        # Without evidence it waits for that, and for nothing else.
        assert verdict.refusal is not None
        assert verdict.refusal.reason in {"enclave-missing", "grant-spent"}
        recount(room, dossier)

    asyncio.run(run())


def test_who_was_suspended_since_blocks_nothing_that_needed_nobodys_approval() -> None:
    async def run() -> None:
        room = await Room().furnish()
        lax = (
            replace(rule, factors=(), level=SecurityLevel.SL2) if rule.action is Action.OPEN_IN_ENCLAVE else rule
            for rule in room.policy.rules
        )
        await room.next_policy(rules=tuple(lax), models=(replace(room.terms, level=SecurityLevel.SL2),))
        request = await room.ask(max_uses=2)
        await room.release(request)
        await room.people.suspend(PersonId("sam"), SuspensionCause.DEACTIVATED)
        agreed = room.signed(request, "sam")
        await room.release(request, change=lambda dossier: replace(dossier, approvals=(agreed,)))
        assert room.log.last(EventName.RELEASED).texts("approvers") == ()
        assert codes(retell(room)) == set()

    asyncio.run(run())


def judges_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the plain-Python judge find nothing, and tell Cedar that the quorum is met."""
    monkeypatch.setattr("strongroom.access.decision.broken", lambda _facts: iter(()))
    monkeypatch.setattr("strongroom.access.engine.quorum", lambda _facts: {})


def test_a_release_that_failing_judges_allow_is_refused_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        room = await Room().furnish()
        judges_off(monkeypatch)
        request = await room.ask()
        await room.approvals(request, "sam")
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(request, change=lambda dossier: replace(dossier, approvals=dossier.approvals[:1]))
        assert caught.value.reason == "recount-short"
        last = room.log.last(EventName.REFUSED)
        assert (last.digest("request"), last.text("reason")) == (request.digest, "recount-short")

    asyncio.run(run())


def test_what_failing_judges_and_a_failing_recount_allow_the_journal_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        room = await Room().furnish()
        judges_off(monkeypatch)
        monkeypatch.setattr("strongroom.keeper.service.require_recounted", lambda *_given, **_named: None)
        await room.keeper.control(room.bare(await room.submit(Action.FREEZE)))
        request = await room.submit(Action.RESUME)
        with pytest.raises(UnfoundedError):
            await room.keeper.control(room.bare(request))
        assert "minilm" in room.keeper.journal.ledger.frozen
        await asyncio.sleep(0)
        await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        last = room.log.last(EventName.REFUSED)
        assert (last.digest("request"), last.text("step")) == (request.digest, "5")
        assert last.text("reason") == "act-without-approval"

    asyncio.run(run())
