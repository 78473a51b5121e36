"""Whoever has the log finds each act that doesn't follow from what was logged before, even if the keeper lied."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import pytest

from strongroom.access.request import Action
from strongroom.audit.entries import Entry, read_entry
from strongroom.audit.facts import Fact
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.chronicle import Chronicle, UnfoundedError
from support import lying
from support.deployment import MODEL
from support.log_views import log_of
from support.retold import codes, retell
from support.room import Room
from support.stories import run

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
Story = Callable[[Room], Awaitable[None]]


def facts_of(entry: Entry, **changed: Fact) -> dict[str, Fact]:
    return {**entry.facts, **changed}


async def lie(room: Room, event: EventName, facts: Mapping[str, Fact]) -> None:
    """Record what the keeper's rules never would, with the keeper's own key."""
    await lying.lie(room.keeper, event, facts)


async def released(room: Room) -> Envelope:
    request = await room.ask(max_uses=3)
    await room.release(request)
    return request


async def twice(room: Room, request: Envelope) -> None:
    """Have a key delivered, and once more to the same recipient, as after a crash."""
    key = RecipientKey()
    for _ in range(2):
        await room.keeper.release(await room.dossier(request, key))


async def again(room: Room, **changed: Fact) -> None:
    """Record the last release once more, as another use, with facts changed."""
    last = room.log.last(EventName.RELEASED)
    await lie(room, EventName.RELEASED, facts_of(last, **{"use": last.integer("use") + 1, **changed}))


def test_what_the_real_keeper_records_is_found_right() -> None:
    async def story(room: Room) -> None:
        request = await released(room)
        await twice(room, request)
        await room.keeper.control(room.bare(await room.submit(Action.FREEZE)))
        denied = await room.ask()
        await room.voice(denied, "sam", deny=True)
        resume = await room.submit(Action.RESUME)
        await room.keeper.control(room.bare(resume, *await room.approvals(resume)))
        await room.people.suspend(PersonId("dana"), SuspensionCause.DEACTIVATED)
        await room.vet("dana", adjudicated_on=room.clock.now())
        await released(room)
        await room.restart()
        verdict = retell(room)
        assert verdict.findings == ()
        assert verdict.judged == len(room.log.entries)
        assert verdict.exhibits is not None
        left = {kind: tally for kind, tally in verdict.exhibits.items() if tally["verified"] != tally["named"]}
        assert left.keys() == {"manifest"}  # the room registers a version that was never sealed

    run(story)


async def without_request(room: Room) -> None:
    await released(room)
    await again(room, request=Digest.of(b"nobody asked"), use=1)


async def without_grant(room: Room) -> None:
    await released(room)
    await room.approvals(request := await room.ask())
    entries = room.log.last(EventName.RELEASED)
    await lie(room, EventName.RELEASED, facts_of(entries, request=request.digest, use=1))


async def without_approval(room: Room) -> None:
    await released(room)
    request = await room.ask()
    granted = room.log.last(EventName.GRANT_ISSUED)
    await lie(room, EventName.GRANT_ISSUED, facts_of(granted, request=request.digest))


async def beyond_uses(room: Room) -> None:
    await released(room)
    await again(room)
    await again(room)
    await again(room)


async def after_expiry(room: Room) -> None:
    request = await released(room)
    room.clock.at += 2 * 86400
    assert room.clock.at > room.keeper.journal.ledger.grants[request.digest].expires
    await again(room)


async def after_denial(room: Room) -> None:
    await room.voice(await released(room), "sam", deny=True)
    await again(room)


async def on_frozen_model(room: Room) -> None:
    await released(room)
    await room.keeper.control(room.bare(await room.submit(Action.FREEZE)))
    await again(room)


async def by_suspended_requester(room: Room) -> None:
    await released(room)
    await room.people.suspend(PersonId("dana"), SuspensionCause.DEACTIVATED)
    await again(room)


async def by_suspended_approver(room: Room) -> None:
    request = await room.ask()
    await room.voice(await room.ask(), "sam")
    said = room.log.last(EventName.REQUEST_APPROVED)
    await room.people.suspend(PersonId("sam"), SuspensionCause.DEACTIVATED)
    forged = facts_of(said, request=request.digest, approval=Digest.of(b"x"))
    await lie(room, EventName.REQUEST_APPROVED, forged)


async def by_the_requester(room: Room) -> None:
    request = await room.ask()
    await room.voice(request, "sam")
    said = room.log.last(EventName.REQUEST_APPROVED)
    await lie(room, EventName.REQUEST_APPROVED, facts_of(said, person="dana", approval=Digest.of(b"x")))


async def of_another_version(room: Room) -> None:
    await released(room)
    await again(room, manifest=Digest.of(b"another"))


async def under_an_older_policy(room: Room) -> None:
    await released(room)
    await room.next_policy()
    await again(room)


async def on_an_unknown_platform(room: Room) -> None:
    await released(room)
    await again(room, platform="tpm-" + "00" * 32)


async def resumed_by_one(room: Room) -> None:
    await room.keeper.control(room.bare(await room.submit(Action.FREEZE)))
    request = await room.submit(Action.RESUME)
    await room.voice(request, "sam")
    await lie(room, EventName.MODEL_RESUMED, {"model": MODEL, "request": request.digest})


async def frozen_by_a_request_for_something_else(room: Room) -> None:
    request = await room.ask()
    await lie(room, EventName.MODEL_FROZEN, {"model": MODEL, "request": request.digest})


async def frozen_twice_by_one_request(room: Room) -> None:
    request = await room.submit(Action.FREEZE)
    await room.keeper.control(room.bare(request))
    await lie(room, EventName.MODEL_FROZEN, {"model": MODEL, "request": request.digest})


async def redelivered_to_another(room: Room) -> None:
    request = await released(room)
    await twice(room, request)
    last = room.log.last(EventName.REDELIVERED)
    await lie(room, EventName.REDELIVERED, facts_of(last, recipient=Digest.of(b"another")))


async def vetted_by_themselves(room: Room) -> None:
    last = room.log.last(EventName.VETTING_RECORDED)
    person = last.text("person")
    facts = facts_of(last, serial=last.integer("serial") + 1, officers=(person, "sam"), statement=Digest.of(b"x"))
    await lie(room, EventName.VETTING_RECORDED, facts)


async def enrolled_by_nobody(room: Room) -> None:
    facts: dict[str, Fact] = {"person": "sam", "statement": Digest.of(b"s"), "officers": (), "keys": ("k" * 32,)}
    await lie(room, EventName.KEYS_ENROLLED, facts)


async def registered_under_another_key(room: Room) -> None:
    last = room.log.last(EventName.VERSION_REGISTERED)
    predecessor = last.digest("manifest")
    await lie(room, EventName.VERSION_REGISTERED, facts_of(last, version=2, predecessor=predecessor))


async def counter_that_fell(room: Room) -> None:
    request = await room.ask()
    await room.voice(request, "sam")
    said = room.log.last(EventName.REQUEST_APPROVED)
    for number, counter in enumerate((5, 4)):
        voice = Digest.of(b"voice %d" % number)
        await lie(room, EventName.REQUEST_APPROVED, facts_of(said, approval=voice, counter=counter, person="rina"))


async def adopted_before_its_time(room: Room) -> None:
    document = Digest.of(b"another policy")
    effective = format_instant(room.clock.now() + 86400)
    proposed: dict[str, Fact] = {"kind": "policy", "epoch": 2, "document": document, "effective": effective}
    await lie(room, EventName.CHANGE_PROPOSED, proposed)
    await lie(room, EventName.POLICY_ADOPTED, {"epoch": 2, "document": document})


async def adopted_though_stopped(room: Room) -> None:
    await adopted_before_its_time(room)
    stopped: dict[str, Fact] = {"document": Digest.of(b"third"), "statement": Digest.of(b"x"), "person": "sam"}
    await lie(room, EventName.CHANGE_STOPPED, stopped)
    await lie(room, EventName.POLICY_ADOPTED, {"epoch": 3, "document": Digest.of(b"third")})


LIES: list[tuple[Story, str]] = [
    (without_request, "act-without-request"),
    (without_grant, "act-without-grant"),
    (without_approval, "act-without-approval"),
    (beyond_uses, "act-beyond-uses"),
    (after_expiry, "act-after-expiry"),
    (after_denial, "act-after-denial"),
    (on_frozen_model, "act-on-frozen-model"),
    (by_suspended_requester, "act-by-suspended-person"),
    (by_suspended_approver, "act-by-suspended-person"),
    (by_the_requester, "act-for-oneself"),
    (of_another_version, "act-on-other-version"),
    (under_an_older_policy, "act-under-other-documents"),
    (on_an_unknown_platform, "act-on-unenrolled-platform"),
    (resumed_by_one, "act-without-approval"),
    (frozen_by_a_request_for_something_else, "act-of-another-kind"),
    (frozen_twice_by_one_request, "act-beyond-uses"),
    (redelivered_to_another, "redelivery-of-another"),
    (vetted_by_themselves, "act-for-oneself"),
    (enrolled_by_nobody, "act-by-one"),
    (registered_under_another_key, "act-without-intent"),
    (counter_that_fell, "counter-went-back"),
    (adopted_before_its_time, "change-before-its-time"),
    (adopted_though_stopped, "change-was-stopped"),
]


@pytest.mark.parametrize(("story", "code"), LIES)
def test_a_keeper_that_lied_is_found_out(story: Story, code: str) -> None:
    async def whole(room: Room) -> None:
        before = len(room.log.entries)
        assert retell(room).findings == ()
        await story(room)
        verdict = retell(room)
        assert code in codes(verdict)
        # Found where it happened: nothing before the lie is blamed.
        assert min(finding.index for finding in verdict.findings) >= before
        assert {finding.index for finding in verdict.findings if finding.code == code}

    run(whole)


def test_every_finding_says_where_and_what_to_do() -> None:
    async def story(room: Room) -> None:
        await on_frozen_model(room)
        finding = next(one for one in retell(room).findings if one.code == "act-on-frozen-model")
        assert finding.index == len(room.log.entries) - 1
        error = finding.error()
        assert (error.reason, error.index) == ("act-on-frozen-model", finding.index)
        assert error.remedy

    run(story)


@pytest.mark.parametrize(("story", "code"), LIES)
def test_what_follows_from_nothing_isn_t_recorded(story: Story, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the keeper's judges let through: its journal reads as an auditor does, before it queues an entry."""

    async def attempted(room: Room, event: EventName, facts: Mapping[str, Fact]) -> None:
        await room.keeper.journal.record(event, facts, room.keeper.vault.signer)

    monkeypatch.setitem(globals(), "lie", attempted)

    async def whole(room: Room) -> None:
        with pytest.raises(UnfoundedError) as caught:
            await story(room)
        assert caught.value.index == len(room.log.entries)
        # It goes on with what does follow.
        await room.keeper.record(EventName.KEEPER_UNLOCKED, {})
        assert code not in codes(retell(room))

    run(whole)


@pytest.mark.parametrize("event", [event for event in EventName if event.family != "log"])
def test_whatever_a_keeper_signed_is_judged(event: EventName) -> None:
    chronicle = Chronicle()
    for index, data in enumerate(log_of([(event, 1, {})])):
        chronicle.take(index, read_entry(data))
    if event in {EventName.GRANT_ISSUED, EventName.DROP_REVIEWED, EventName.INTAKE_RECORDED}:
        assert chronicle.findings
