"""Traps of deciding about access, each with the test that falls into it. Numbered as on the page on access traps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cedarpy
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.attester import NOW
from strongroom.access import engine as module
from strongroom.access.decision import Decision, decide
from strongroom.access.engine import CedarEngine, InvalidPolicyError
from strongroom.access.facts import Facts
from strongroom.access.request import Action
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.personnel.statements import ERASURE_TYPE, Erasure
from strongroom.release.dossier import Dossier
from strongroom.release.statements import StatementKind
from support.deployment import DAY, signer
from support.examples import examples
from support.facts import any_facts, good, policy
from support.room import Room
from support.stories import hire_vetted, refused, run, someone

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
BARRED = (
    '@id("all")\npermit (principal, action, resource);\n'
    '@id("barred")\nforbid (principal in Strongroom::Role::"barred", action, resource);\n'
)
SECRET = "unit-of-a-secret-name"


def without(kind: str) -> Callable[[Facts], list[Any]]:
    """Return a slice-maker that forgets the entities of a kind."""
    build = module._entities

    def ruined(facts: Facts) -> list[Any]:
        whole: list[Any] = [*build(facts)]
        return [one for one in whole if one["uid"]["type"] != f"Strongroom::{kind}"]

    return ruined


# --- 1. Cedar skips what errs, and lets by whom it doesn't know -------------------------------------------------------


@pytest.mark.parametrize("kind", ["Human", "Model", "Role"])
def test_1_who_is_missing_from_the_slice_is_refused_and_not_let_by(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    barring, barred = CedarEngine(policy(BARRED)), good()
    barred = replace(barred, requester=replace(barred.requester, roles=frozenset({"barred", "asker"})))
    assert barring.allows(good()) == ("all",)
    assert barring.allows(barred) is None
    # Cedar by itself allows here, without an error: somebody unknown is in no role.
    monkeypatch.setattr(module, "_entities", without(kind))
    assert barring.allows(barred) is None


@settings(max_examples=examples(60), deadline=None)
@given(any_facts(), st.data())
def test_1_taking_anything_out_of_the_slice_never_opens_what_was_shut(facts: Facts, data: st.DataObject) -> None:
    default, build = CedarEngine(policy()), module._entities
    whole: list[Any] = [*build(facts)]
    left_out = data.draw(st.integers(0, len(whole) - 1))
    attribute = data.draw(st.none() | st.sampled_from(sorted(whole[left_out]["attrs"]) or [""]))
    if attribute is None:
        del whole[left_out]
    else:
        whole[left_out]["attrs"].pop(attribute, None)
    ruined = default._ask(whole, module._request(facts))
    assert ruined is None or default.allows(facts) == ruined


# --- 2. What Cedar says of its troubles holds every entity ------------------------------------------------------------


@pytest.mark.parametrize("where", ["reading the slice", "deciding"])
def test_2_what_cedar_says_of_its_troubles_reaches_no_error_no_log_and_no_explanation(
    where: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    default, facts = CedarEngine(policy()), good()
    assert decide(facts, default).allowed
    default = CedarEngine(policy())

    def troubled(*_given: object) -> SimpleNamespace:
        # The most talkative Cedar that there was: its message holds all that it was given.
        if where == "reading the slice":
            raise ValueError(SECRET)
        said = SimpleNamespace(errors=[SECRET], reasons=[SECRET], id_annotations_by_reason={SECRET: SECRET})
        return SimpleNamespace(decision=cedarpy.Decision.NoDecision, diagnostics=said)

    place, name = (cedarpy.Entities, "from_json_str") if where == "reading the slice" else (cedarpy, "is_authorized")
    monkeypatch.setattr(place, name, troubled)
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as lines:
        decision = decide(facts, default)
    printed = capfd.readouterr()
    assert SECRET not in repr(decision) + caplog.text + repr(lines) + printed.out + printed.err
    assert decision == Decision(refusals=decision.refusals)
    assert [reason.value for reason, _text in decision.refusals] == ["policy-refuses"]


def test_2_what_is_wrong_with_a_policy_is_said_without_anybody_s_data() -> None:
    with pytest.raises(InvalidPolicyError) as caught:
        CedarEngine(policy(BARRED + f'@id("x")\npermit (principal, action, resource) when {{ "{SECRET}" > 3 }};'))
    assert len(caught.value.diagnosis()) < 4096


# --- 10. An old copy brings nothing back ------------------------------------------------------------------------------


def test_10_an_old_copy_with_the_key_in_it_brings_an_erased_person_nothing() -> None:
    # Until the epoch key changes, such a copy can still be *read* by whoever has the keeper's passphrase as well. It
    # clears nobody: the log says that the person was erased.
    async def story(room: Room) -> None:
        await hire_vetted(room, someone("olga", "vetting-officer"), someone("otto", "vetting-officer"))
        request = await room.ask(max_uses=9)
        await room.release(request)
        copy = dict(room.records.files)
        erasure = Erasure(genesis=room.genesis.digest, person=PersonId("dana"))
        signed = sign(ERASURE_TYPE, erasure.to_bytes(), signer("olga"), signer("otto"))
        await room.people.state(StatementKind.ERASURE, signed)
        room.records.files.clear()
        room.records.files.update(copy)
        await room.restart()
        await refused(room.release(request), "requester-inactive")
        await refused(room.vet("dana"), "vetting-out-of-order")

    run(story)


# --- 18. One person is one person -------------------------------------------------------------------------------------


def test_18_two_roles_two_keys_and_a_new_key_are_one_person() -> None:
    async def story(room: Room) -> None:
        keys = (signer("both").public_key, signer("both, again").public_key)
        people = tuple(replace(one, keys=keys) if one.id == "both" else one for one in room.roster.people)
        before = Digest.of(room.roster.to_bytes())
        await room.adopt_roster(replace(room.roster, epoch=2, predecessor=before, people=people))
        request = await room.ask(max_uses=9)
        both = [room.signed(request, name) for name in ("both", "both, again")]
        await room.voice(request, "both")
        await room.voice(request, "both, again")

        def by_both(case: Dossier) -> Dossier:
            return replace(case, approvals=tuple(both))

        await refused(room.release(request, change=by_both), "one-person-twice")
        # One key is changed for another in the next roster: what the old one signed isn't a second voice either.
        people = tuple(replace(one, keys=keys[1:]) if one.id == "both" else one for one in room.roster.people)
        before = Digest.of(room.roster.to_bytes())
        await room.adopt_roster(replace(room.roster, epoch=3, predecessor=before, people=people))
        await refused(room.release(request, change=by_both), "approval-by-unknown-key")
        await room.release(request)

    run(story)


# --- 19. What begins in the future ------------------------------------------------------------------------------------


def test_19_a_grant_that_begins_in_the_future_ends_with_who_holds_it() -> None:
    async def story(room: Room) -> None:
        later: dict[str, Any] = {"not_before": NOW + 5 * DAY, "expires": NOW + 6 * DAY, "max_uses": 9}
        mine, other = await room.ask(**later), await room.ask(**later)
        for request in (mine, other):
            approvals = await room.approvals(request)
            assert await room.keeper.grant(room.bare(request, *approvals)) is not None
        await refused(room.release(mine), "not-yet-valid")
        # Dana leaves before it begins. Nobody thinks of the grant; it is judged when it is used.
        fallen = await room.people.suspend(PersonId("dana"), SuspensionCause.LEFT)
        assert fallen.grants == 3
        room.clock.at += 5 * DAY + 1
        await refused(room.release(mine), "requester-inactive")
        await room.restart()
        await refused(room.release(other), "requester-inactive")

    run(story)


def test_19_an_approval_given_for_later_ends_with_who_gave_it() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(not_before=NOW + DAY, expires=NOW + 2 * DAY, max_uses=9)
        approvals = await room.approvals(request)
        assert await room.keeper.grant(room.bare(request, *approvals)) is not None
        await room.people.suspend(PersonId("rina"), SuspensionCause.LEFT)
        room.clock.at += DAY + 1
        await refused(room.release(request), "approver-inactive")

    run(story)


# --- 24. What was remembered of people doesn't outlive them -----------------------------------------------------------


def test_24_nothing_that_was_remembered_outlives_a_change_of_the_roster() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=99)
        # Asked often enough that whatever is kept between decisions is kept by now.
        for _ in range(3):
            await room.release(request)
        first = room.roster

        async def changed(name: str, **members: object) -> None:
            people = tuple(replace(one, **members) if one.id == name else one for one in first.people)  # type: ignore[arg-type]
            before = room.roster
            epoch, predecessor = before.epoch + 1, Digest.of(before.to_bytes())
            await room.adopt_roster(replace(first, epoch=epoch, predecessor=predecessor, people=people))

        await changed("dana", roles=frozenset({"publisher"}))
        await refused(room.release(request), "requester-role-missing")
        await changed("sam", roles=frozenset({"responder"}))
        await refused(room.release(request), "quorum-not-met")
        await changed("dana")
        await room.release(request)
        other = Ed25519Signer.from_seed(bytes(32)).public_key
        await changed("rina", keys=(other,))
        await refused(room.release(request), "approval-by-unknown-key")
        await changed("dana")
        await room.vet("sam", tier=0)
        await refused(room.release(request), "approver-tier-too-low")
        await room.vet("sam")
        await room.release(request)

    run(story)


def test_24_a_policy_engine_keeps_slices_by_everything_that_is_in_them() -> None:
    default, facts = CedarEngine(policy()), good()
    assert default.allows(facts) is not None
    for weaker in (
        replace(facts, requester=replace(facts.requester, active=False)),
        replace(facts, requester=replace(facts.requester, roles=frozenset())),
        replace(facts, frozen=True),
    ):
        assert default.allows(weaker) is None
        assert default.allows(facts) is not None
    assert default._slice.cache_info().currsize == 4


# --- 25. The clock ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [1, 86400])
def test_25_behind_the_log_s_newest_entry_nothing_is_decided_recorded_or_kept(behind: int) -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=9)
        await room.release(request)
        approvals = await room.approvals(request)
        room.clock.at += 100
        freeze = await room.submit(Action.FREEZE)
        room.clock.at -= behind
        size = room.keeper.journal.ledger.size
        acts: list[Callable[[], Any]] = [
            lambda: room.release(request),
            room.ask,
            lambda: room.voice(request, "both"),
            lambda: room.voice(request, "both", deny=True),
            lambda: room.vet("dana"),
            lambda: room.people.suspend(PersonId("dana"), SuspensionCause.LEFT),
            lambda: room.keeper.control(room.bare(freeze)),
            lambda: room.keeper.export(room.bare(request, *approvals, key=RecipientKey())),
            lambda: room.keeper.grant(room.bare(request, *approvals)),
        ]
        for act in acts:
            with pytest.raises(StrongroomError) as caught:
                await act()
            assert caught.value.reason == "clock-behind"
        assert room.keeper.journal.ledger.size == size

    run(story)
