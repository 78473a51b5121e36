"""A model whose keys were destroyed is never opened again: not by its rows, not by an older keyring, not by anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace

import pytest

from strongroom.access.invariants import Reason
from strongroom.access.request import Action, Purpose
from strongroom.audit.entries import read_entry
from strongroom.audit.facts import Fact
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.keeper import shredding
from strongroom.keeper.journal import Recorded
from strongroom.keeper.leases import Leases
from strongroom.keeper.reconciling import KeyringRolledBackError
from strongroom.keeper.shredding import Shredded
from strongroom.keys.hierarchy import Tree
from strongroom.keys.recipient import RecipientKey
from strongroom.keys.wrapping import WrapError
from strongroom.release.chronicle import Chronicle
from strongroom.release.dossier import Dossier
from strongroom.release.errors import LedgerError
from support.deployment import DAY, MODEL
from support.lying import lie
from support.room import MANIFEST
from support.shredding import DELAY, DESTROY, OTHER, CutShortError, ShreddingRoom, played

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


async def room() -> ShreddingRoom:
    return await ShreddingRoom().furnish()


async def refused(act: Awaitable[object]) -> str:
    with pytest.raises(StrongroomError) as caught:
        await act
    return caught.value.reason


# --- what is left ----------------------------------------------------------------------------------------------------


@played
async def test_no_row_opens_and_every_other_model_does() -> None:
    here = await room()
    before = here.keyring()
    await here.destroyed()
    with pytest.raises(WrapError):
        here.opened(MODEL)
    assert here.opened(OTHER) == here.keys[OTHER]
    now = here.keyring()
    assert {held.model for held in now.keks} == {OTHER}
    assert not {held.epoch for held in now.epochs} & {held.epoch for held in before.epochs}
    assert now.generation == before.generation + 1
    await here.restart()
    assert here.opened(OTHER) == here.keys[OTHER]
    with pytest.raises(WrapError):
        here.opened(MODEL)


@played
async def test_every_later_use_is_refused_and_told_why() -> None:
    here = await room()
    key = RecipientKey()
    opening = await here.ask()
    asked_before = await here.dossier(opening, key)
    await here.destroyed()
    assert await refused(here.keeper.release(asked_before)) == Reason.MODEL_DESTROYED
    explained = here.keeper.explain(replace(asked_before, testimony=None))
    assert explained.refusal is not None
    assert explained.refusal.reason == Reason.MODEL_DESTROYED
    assert "strongroom key certificate" in explained.refusal.remedy
    opens = {"version": 1, "manifest": MANIFEST}
    for action, members, act in (
        (Action.SEAL, {"version": 2, "recipient": key.digest, "purpose": Purpose.PUBLISH}, here.keeper.seal),
        (Action.EXPORT_PLAINTEXT, {**opens, "recipient": key.digest}, here.keeper.export),
        (Action.RESUME, {}, here.keeper.control),
        (Action.DESTROY, {}, here.keeper.control),
    ):
        request = await here.submit(action, **members)  # type: ignore[arg-type]  # none is `by`
        dossier = Dossier(request=request, approvals=await here.approvals(request), recipient_key=key.public)
        # What has no rule is refused for that.
        assert await refused(act(dossier)) in {Reason.MODEL_DESTROYED.value, "no-rule"}


@played
async def test_leases_end_with_the_keys() -> None:
    here = await room()
    leases = Leases(here.keeper, here.clock)
    request = await here.ask()
    await here.release(request)
    assert [lease.model for lease in leases.live()] == [MODEL]
    agreed = await here.ask_to_destroy()
    here.clock.at += DELAY
    await here.approvals(request)
    leases._live = {name: replace(held, until=here.clock.at + 60) for name, held in leases._live.items()}
    await here.carry_out(agreed)
    assert leases._looking is not None
    await leases._looking
    assert not leases.live()
    assert here.keeper.journal.ledger.ended[request.digest, 1] == Reason.MODEL_DESTROYED


@played
async def test_the_log_takes_no_entry_that_goes_on_with_the_model() -> None:
    here = await room()
    sealed = here.log.last(EventName.DATA_KEY_CREATED)
    await here.destroyed()
    registered = next(
        entry
        for entry in map(read_entry, here.log.entries)
        if entry.event is EventName.VERSION_REGISTERED and entry.text("model") == MODEL
    )
    for event, facts in (
        (EventName.VERSION_REGISTERED, {**registered.facts, "version": 2}),
        (EventName.DATA_KEY_CREATED, {**sealed.facts, "model": MODEL, "version": 2}),
    ):
        with pytest.raises(LedgerError, match=r"destroyed|active"):
            await lie(here.keeper, event, facts)


# --- older copies ----------------------------------------------------------------------------------------------------


@played
async def test_no_older_keyring_brings_the_model_back() -> None:
    here = await room()
    await here.destroyed()
    history = list(here.keyrings.history)
    final = len(here.log.entries)
    taken = 0
    for older in history[:-1]:
        here.keyrings.history.append(older)
        try:
            await here.restart()
        except KeyringRolledBackError:
            pass
        else:
            taken += 1
            with pytest.raises(WrapError):
                here.opened(MODEL)
            assert here.opened(OTHER) == here.keys[OTHER]
    assert not taken
    here.keyrings.history.append(history[-1])
    await here.restart()
    assert here.opened(OTHER) == here.keys[OTHER]
    assert len(here.log.entries) == final + 1


@played
async def test_last_week_s_whole_folder_is_refused_under_today_s_log() -> None:
    here = await room()
    pins, keyring, kept = here.pins.history[-1], here.keyrings.history[-1], dict(here.documents.kept)
    await here.destroyed()
    here.pins.history.append(pins)
    here.keyrings.history.append(keyring)
    here.documents.kept = kept
    assert await refused(here.restart()) == "keyring-rolled-back"


# --- agreement -------------------------------------------------------------------------------------------------------


@played
async def test_it_waits_from_the_moment_at_which_its_quorum_agreed() -> None:
    here = await room()
    request = await here.submit(Action.DESTROY, not_before=here.clock.now() - 1, expires=here.clock.now() + 10 * DAY)
    # Recorded long ago, and nobody agreed: that time doesn't count.
    here.clock.at += 2 * DELAY
    approvals = await here.approvals(request, "sam", "rina")
    dossier = Dossier(request=request, approvals=approvals)
    assert await refused(here.keeper.control(dossier)) == Reason.COOLING_OFF
    await here.keeper.grant(dossier)
    (pending,) = here.pending()
    assert (pending.model, pending.effective) == (MODEL, here.clock.now() + DELAY)
    for earlier in (0, 1, DELAY - 1):
        here.clock.at = pending.agreed + earlier
        assert await refused(here.keeper.control(dossier)) == Reason.COOLING_OFF
    here.clock.at = pending.effective
    await here.keeper.control(dossier)
    assert not here.pending()


@played
async def test_a_clock_that_was_moved_back_decides_nothing() -> None:
    here = await room()
    request = await here.ask_to_destroy()
    here.clock.at -= 1
    assert await refused(here.carry_out(request)) == "clock-behind"


@played
async def test_a_second_request_waits_by_itself() -> None:
    here = await room()
    first = await here.ask_to_destroy()
    yes = here.said_yes
    here.clock.at += DELAY // 2
    second = await here.ask_to_destroy()
    here.clock.at += DELAY // 2
    assert await refused(here.carry_out(second)) == Reason.COOLING_OFF
    # Nor does the first one's agreement carry the second.
    assert await refused(here.carry_out(second, yes)) == "approval-of-another-request"
    await here.carry_out(first, yes)
    here.clock.at += DELAY
    assert await refused(here.carry_out(second)) == Reason.MODEL_DESTROYED
    assert await refused(here.carry_out(first, yes)) == Reason.MODEL_DESTROYED


@pytest.mark.parametrize("people", [("sam",), ("rina",), ("sam", "both"), ("sam", "dana"), ("dana", "rina")])
@played
async def test_too_few_or_without_who_answers_for_keys_agree_on_nothing(people: tuple[str, ...]) -> None:
    here = await room()
    request = await here.ask_to_destroy(MODEL, *people)
    here.clock.at += 2 * DELAY
    assert not here.pending()
    assert await refused(here.carry_out(request)) in {"quorum-not-met", "self-approval", "cooling-off"}
    assert here.opened(MODEL) == here.keys[MODEL]


@played
async def test_a_rule_that_asks_for_less_changes_nothing_about_that() -> None:
    here = await room()
    for factors, delay, reason in ((DESTROY.factors[:1], DELAY, "quorum-below-floor"), ((), 0, "quorum-below-floor")):
        weaker = replace(DESTROY, factors=factors, delay=delay)
        await here.next_policy(
            rules=(*(rule for rule in here.policy.rules if rule.action is not Action.DESTROY), weaker)
        )
        request = await here.ask_to_destroy()
        here.clock.at += DELAY
        assert await refused(here.carry_out(request)) in {reason, "cooling-off"}
        assert here.opened(MODEL) == here.keys[MODEL]


@played
async def test_without_a_grant_nothing_is_destroyed_even_where_nothing_waits() -> None:
    here = await room()
    at_once = replace(DESTROY, delay=0)
    await here.next_policy(rules=(*(rule for rule in here.policy.rules if rule.action is not Action.DESTROY), at_once))
    request = await here.submit(Action.DESTROY, not_before=here.clock.now() - 1, expires=here.clock.now() + DELAY)
    approvals = await here.approvals(request, "sam", "rina")
    # Whoever carries requests to the keeper leaves the grant out: nobody would have seen it coming.
    assert await refused(here.carry_out(request, approvals)) == "not-granted"
    await here.shredding.finish()
    assert not here.keeper.journal.ledger.keys.destroyed
    await here.restart()
    assert here.opened(MODEL) == here.keys[MODEL]
    await here.keeper.grant(Dossier(request=request, approvals=approvals))
    await here.carry_out(request, approvals)


@played
async def test_an_entry_that_the_log_can_t_take_destroys_nothing_in_memory() -> None:
    here = await room()
    keys = here.keeper.journal.ledger.keys
    kek = keys.active(MODEL)
    assert kek is not None
    facts: dict[str, Fact] = {
        "request": Digest.of(b"nobody's"),
        "model": MODEL,
        "kek": kek.kek,
        "epoch": kek.epoch,
        "generation": keys.generation,
    }
    with pytest.raises(LedgerError):
        await lie(here.keeper, EventName.MODEL_DESTROYED, facts)
    assert not here.shredding.unfinished()
    assert keys.active(MODEL) == kek


@played
async def test_any_of_them_stops_it_while_it_waits() -> None:
    here = await room()
    denied = await here.ask_to_destroy()
    await here.voice(denied, "rina", deny=True)
    assert not here.pending()
    revoked = await here.ask_to_destroy()
    yes = here.said_yes
    revocation = await here.submit(Action.REVOKE_GRANT, target=revoked.digest)
    await here.keeper.control(Dossier(request=revocation))
    assert not here.pending()
    frozen = await here.ask_to_destroy()
    last_yes = here.said_yes
    freeze = await here.submit(Action.FREEZE)
    await here.keeper.control(Dossier(request=freeze))
    here.clock.at += DELAY
    for request, given, reason in (
        (denied, None, Reason.DENIED),
        (revoked, yes, Reason.DENIED),
        (frozen, last_yes, Reason.FROZEN),
    ):
        assert await refused(here.carry_out(request, given or await here.approvals(request))) == reason
    assert here.opened(MODEL) == here.keys[MODEL]


@played
async def test_a_model_that_was_frozen_before_can_be_destroyed() -> None:
    here = await room()
    freeze = await here.submit(Action.FREEZE)
    await here.keeper.control(Dossier(request=freeze))
    here.clock.at += 1
    await here.destroyed()
    assert MODEL in here.keeper.journal.ledger.keys.destroyed


@played
async def test_a_model_that_was_never_sealed_has_nothing_to_destroy() -> None:
    here = await room()
    never = ModelId("never-sealed")
    terms = replace(here.policy.models[1], model=never)
    await here.next_policy(models=(*here.policy.models, terms))
    request = await here.ask_to_destroy(never)
    here.clock.at += DELAY
    assert await refused(here.carry_out(request)) == "no-kek"


@played
async def test_a_keeper_without_its_key_services_begins_nothing() -> None:
    here = await room()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    here.keeper.vault.providers = None
    assert await refused(here.carry_out(request)) == "no-provider"
    assert here.opened(MODEL) == here.keys[MODEL]


@played
async def test_an_honest_destruction_follows_from_its_log() -> None:
    here = await room()
    await here.destroyed()
    chronicle = Chronicle()
    for index, data in enumerate(here.log.entries):
        chronicle.take(index, read_entry(data))
    assert not chronicle.findings
    assert not chronicle.broken


# --- crashes ---------------------------------------------------------------------------------------------------------


@played
async def test_killed_at_every_place_it_is_finished_at_the_next_start() -> None:
    places: list[str] = []
    number = 0
    while not places or number < len(places):
        here = await room()
        request = await here.ask_to_destroy()
        here.clock.at += DELAY
        await here.carry_out(request)
        cut = here.cut(number)
        if not places:
            # Once without a crash: how many places there are.
            cut.left = -1
            await here.shredding.finish()
            places = cut.passed
            assert len(places) > 10
            continue
        with pytest.raises(CutShortError):
            await here.shredding.finish()
        await here.restart()
        with pytest.raises(WrapError):
            here.opened(MODEL)
        await here.shredding.finish()
        assert not here.shredding.unfinished()
        assert here.shredding.certificate(MODEL).signatures
        assert here.opened(OTHER) == here.keys[OTHER]
        assert here.keyring().generation == 2
        assert [held.epoch for held in here.keyring().epochs] == [2]
        events = [read_entry(data).event for data in here.log.entries]
        for event in (
            EventName.MODEL_DESTROYED,
            EventName.EPOCH_ROTATED,
            EventName.EPOCH_DESTROYED,
            EventName.ROOT_ROTATED,
            EventName.DESTRUCTION_CERTIFIED,
        ):
            assert events.count(event) == 1, places[number]
        number += 1


@played
async def test_killed_before_the_first_word_is_durable_nothing_is_destroyed() -> None:
    here = await room()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    size = len(here.log.entries)
    here.keeper.carries_out[Action.DESTROY] = _dies
    with pytest.raises(CutShortError):
        await here.carry_out(request)
    await here.restart()
    assert here.opened(MODEL) == here.keys[MODEL]
    assert EventName.MODEL_DESTROYED not in {read_entry(data).event for data in here.log.entries[size:]}
    await here.carry_out(request)
    await here.shredding.finish()
    assert here.shredding.certificate(MODEL).signatures


def _dies(*_arguments: object) -> asyncio.Future[Recorded]:
    raise CutShortError("before the record")


@played
async def test_a_key_service_that_fails_in_its_own_way_only_puts_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await room()
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    told: list[StrongroomError] = []
    here.shredding.failed = told.append
    monkeypatch.setattr(shredding, "AGAIN_SECONDS", 0.01)
    providers = here.keeper.vault.providers
    assert providers is not None
    make = providers.make

    def fails(tree: Tree) -> tuple[SecretBytes, bytes]:
        monkeypatch.setattr(providers, "make", make)
        raise RuntimeError(f"no {tree}")

    monkeypatch.setattr(providers, "make", fails)
    certified = asyncio.Event()
    here.shredding.reached = lambda place: certified.set() if place is Shredded.CERTIFIED else None
    running = asyncio.create_task(here.shredding.run())
    await here.carry_out(request)
    async with asyncio.timeout(60):
        await certified.wait()
    running.cancel()
    assert [error.reason for error in told] == ["unavailable"]


@played
async def test_what_isn_t_destroyed_has_no_certificate() -> None:
    here = await room()
    with pytest.raises(NotFoundError, match="aren't destroyed"):
        here.shredding.certificate(MODEL)
    request = await here.ask_to_destroy()
    here.clock.at += DELAY
    await here.carry_out(request)
    with pytest.raises(NotFoundError, match="isn't finished"):
        here.shredding.certificate(MODEL)
    with pytest.raises(NotFoundError, match="isn't finished"):
        await here.shredding.certify_again(MODEL)
