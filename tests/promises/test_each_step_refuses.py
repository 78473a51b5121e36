"""Refusals of the steps that need no TPM: documents, standing, version, challenge, evidence and the act itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from strongroom.access.request import Action, LogHead
from strongroom.attestation.evidence import Evidence
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.keys.recipient import RecipientKey
from strongroom.release.challenge import CHALLENGE_SECONDS
from strongroom.release.dossier import Dossier
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import DAY, publisher, signer
from support.room import MANIFEST, Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


def refusal(
    reason: str,
    step: str,
    *,
    change: Callable[[Room, Dossier], Dossier] = lambda _room, dossier: dossier,
    asked: dict[str, Any] | None = None,
) -> None:
    """Release with something wrong, and see the step and the reason, also in the log; then release rightly."""

    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(**(asked or {}))
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(request, change=lambda dossier: change(room, dossier))
        assert (caught.value.reason, caught.value.step.number) == (reason, step)
        if caught.value.step.number.startswith("4") and not asked:
            # A refusal takes no use: what was wrong was this dossier, not the grant.
            await room.release(request)

    asyncio.run(run())


def test_step_4_1_a_request_under_another_policy() -> None:
    refusal("policy-changed", "4.1", asked={"policy": Digest.of(b"older")})


def test_step_4_1_a_request_under_a_roster_that_never_was() -> None:
    refusal("roster-unknown", "4.1", asked={"roster": Digest.of(b"invented")})


def test_step_4_1_a_log_shorter_than_the_requester_saw_it() -> None:
    refusal("log-behind", "4.1", asked={"log": LogHead(size=10_000, root=Digest.of(b"root"))})


def test_step_4_1_a_request_of_another_deployment() -> None:
    async def run() -> None:
        room = await Room().furnish()
        with pytest.raises(StrongroomError):
            await room.ask(genesis=Digest.of(b"other"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"version": 2}, "version-not-current"),
        ({"manifest": Digest.of(b"other")}, "version-not-current"),
        ({"model": "minilm-2"}, "no-rule"),
    ],
)
def test_step_4_5_another_version_manifest_or_model(members: dict[str, object], reason: str) -> None:
    refusal(reason, "4.1" if reason == "no-rule" else "4.5", asked=members)


def test_step_4_5_an_older_version_isn_t_released_once_a_newer_is_registered() -> None:
    async def run() -> None:
        room = await Room().furnish()
        old = await room.ask(max_uses=9)
        await room.release(old)
        key = RecipientKey()
        request = await room.submit(Action.SEAL, version=2, recipient=key.digest)
        dossier = Dossier(request=request, recipient_key=key.public, wrapped=room.wrapped)
        _delivery, wrapped = await room.keeper.seal(dossier)
        await room.keeper.record_pinned(
            EventName.VERSION_REGISTERED,
            {
                "request": request.digest,
                "model": "minilm",
                "version": 2,
                "manifest": Digest.of(b"manifest 2"),
                "predecessor": MANIFEST,
                "publisher": "dana",
                "publisher_key": publisher("dana").public_key,
                "data_key": wrapped.data_key,
            },
        )
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(old)
        assert caught.value.reason == "version-not-current"
        room.wrapped = wrapped
        await room.keeper.release(
            await room.dossier(await room.ask(version=2, manifest=Digest.of(b"manifest 2")), RecipientKey())
        )

    asyncio.run(run())


@pytest.mark.parametrize("version", [1, 3])
def test_step_4_5_a_data_key_is_made_for_the_next_version_only(version: int) -> None:
    async def run() -> None:
        room = await Room().furnish()
        key = RecipientKey()
        request = await room.submit(Action.SEAL, version=version, recipient=key.digest)
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.keeper.seal(Dossier(request=request, recipient_key=key.public))
        assert caught.value.reason == "version-out-of-order"

    asyncio.run(run())


def test_step_4_6_a_challenge_answered_too_late() -> None:
    def wait(room: Room, dossier: Dossier) -> Dossier:
        room.clock.at += CHALLENGE_SECONDS
        return dossier

    refusal("challenge-expired", "4.6", change=wait)


def test_step_4_6_a_challenge_of_another_request() -> None:
    async def run() -> None:
        room = await Room().furnish()
        one, other = await room.ask(), await room.ask()
        dossier = await room.dossier(one, RecipientKey())
        moved = replace(dossier, request=other, approvals=await room.approvals(other))
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.keeper.release(moved)
        assert caught.value.reason == "challenge-for-another"
        # It was answered, wrongly: it doesn't open a second try.
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.keeper.release(dossier)
        assert caught.value.reason == "challenge-unknown"

    asyncio.run(run())


def test_step_4_6_challenges_die_with_the_keeper() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        dossier = await room.dossier(request, RecipientKey())
        await room.restart()
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.keeper.release(dossier)
        assert caught.value.reason == "challenge-unknown"
        await room.release(request)

    asyncio.run(run())


def test_step_4_7_evidence_that_names_another_recipient_key() -> None:
    def divert(_room: Room, dossier: Dossier) -> Dossier:
        assert dossier.testimony is not None
        evidence = dossier.testimony.evidence
        mine = RecipientKey().public
        changed = replace(Evidence.parse(evidence), recipient_key=mine).to_bytes()
        return replace(dossier, testimony=replace(dossier.testimony, evidence=changed))

    refusal("evidence-replayed", "4.7", change=divert)


def test_step_4_7_a_platform_record_that_the_keeper_didn_t_sign() -> None:
    def forge(_room: Room, dossier: Dossier) -> Dossier:
        assert dossier.testimony is not None
        platform = dossier.testimony.platform
        forged = sign(platform.kind, platform.payload, signer("thief"))
        return replace(dossier, testimony=replace(dossier.testimony, platform=forged))

    refusal("bad-signature", "4.7", change=forge)


def test_step_4_7_bytes_that_are_no_evidence() -> None:
    def spoil(_room: Room, dossier: Dossier) -> Dossier:
        assert dossier.testimony is not None
        return replace(dossier, testimony=replace(dossier.testimony, evidence=b"{}"))

    refusal("malformed", "4.7", change=spoil)


def test_step_4_9_evidence_is_needed() -> None:
    refusal("enclave-missing", "4.9", change=lambda _room, dossier: replace(dossier, testimony=None))


def test_step_4_9_every_condition_is_looked_at_anew_under_one_grant() -> None:
    # Parts of a decision are kept by their bytes. Nothing that can change may be kept with them.
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask(max_uses=100)
        await room.release(request)

        async def refused(reason: str) -> None:
            with pytest.raises(ReleaseRefusedError) as caught:
                await room.release(request)
            assert caught.value.reason == reason

        first = room.roster

        async def people(change: Callable[..., object]) -> None:
            before = room.roster
            changed = tuple(change(one) for one in first.people)
            await room.adopt_roster(
                replace(before, epoch=before.epoch + 1, predecessor=Digest.of(before.to_bytes()), people=changed)  # type: ignore[arg-type]
            )

        new_key = signer("rina's new key").public_key
        cases: list[tuple[str, str, dict[str, object]]] = [
            ("rina", "approver-inactive", {"active": False}),
            ("rina", "approval-by-unknown-key", {"keys": (new_key,)}),
            ("dana", "bad-signature", {"keys": (signer("dana's new key").public_key,)}),
            ("dana", "requester-role-missing", {"roles": frozenset({"publisher"})}),
        ]
        for name, reason, members in cases:
            await people(lambda one, name=name, members=members: replace(one, **members) if one.id == name else one)
            await refused(reason)
            await people(lambda one: one)
            if members == {"active": False}:
                # Back in the roster isn't back: only a newer vetting record reinstates.
                await refused(reason)
                await room.vet(name)
            await room.release(request)
        await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))
        await refused("model-frozen")
        resume = await room.submit(Action.RESUME)
        await room.keeper.control(Dossier(request=resume, approvals=await room.approvals(resume)))
        await room.release(request)
        room.clock.at += DAY
        await refused("request-expired")

    asyncio.run(run())


def test_step_6_the_delivery_is_refused_when_the_wrapped_key_is_of_another_deployment() -> None:
    async def run() -> None:
        room, other = await Room().furnish(), await Room().furnish()
        room.wrapped = other.wrapped
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(await room.ask())
        assert (caught.value.reason, caught.value.step.number) == ("wrapped-key-refused", "6")

    asyncio.run(run())


def test_step_4_1_a_log_that_the_requester_saw_otherwise() -> None:
    refusal("log-forked", "4.1", asked={"log": LogHead(size=2, root=Digest.of(b"another root"))})
