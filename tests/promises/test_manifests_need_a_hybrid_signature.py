"""A version is registered, and opened, by a hybrid signature alone; a second key makes nobody a second person."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, Action, Purpose
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import DeniedError
from strongroom.core.signature import Signer
from strongroom.keeper import voices
from strongroom.keeper.registry import register_version
from strongroom.keys.recipient import RecipientKey
from strongroom.release.delivery import accept
from strongroom.release.dossier import Dossier
from strongroom.release.steps import ReleaseRefusedError
from strongroom.sealing.errors import NotHybridError
from strongroom.sealing.manifest import MANIFEST_TYPE, Manifest, ManifestExpectation, verify_manifest
from support.deployment import MODEL, publisher, signer
from support.room import Room, second_manifest

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


async def next_version(room: Room) -> tuple[Manifest, Digest]:
    """Have a data key made for version 2; return its manifest and the request's digest."""
    key = RecipientKey()
    request = await room.submit(Action.SEAL, version=2, recipient=key.digest, purpose=Purpose.PUBLISH)
    _delivery, wrapped = await room.keeper.seal(
        Dossier(request=request, recipient_key=key.public, wrapped=room.wrapped)
    )
    room.wrapped = wrapped
    return second_manifest(room, wrapped.data_key), request.digest


def signed(manifest: Manifest, *signers: Signer) -> Envelope:
    return sign(MANIFEST_TYPE, manifest.to_bytes(), *signers)


def test_a_manifest_under_the_publisher_s_plain_key_alone_is_not_registered() -> None:
    async def run() -> None:
        room = await Room().furnish()
        manifest, request = await next_version(room)
        with pytest.raises(NotHybridError):
            await register_version(room.keeper, signed(manifest, signer("dana")), request)
        for stranger in (publisher("sam"), publisher("rina")):
            with pytest.raises(DeniedError) as caught:
                await register_version(room.keeper, signed(manifest, stranger), request)
            assert caught.value.reason == "other-publisher"
        assert room.keeper.journal.ledger.current(MODEL).version == 1  # type: ignore[union-attr]  # furnished

    asyncio.run(run())


@pytest.mark.parametrize("order", [1, -1])
def test_the_hybrid_key_is_the_one_that_is_recorded_and_delivered(order: int) -> None:
    async def run() -> None:
        room = await Room().furnish()
        manifest, request = await next_version(room)
        envelope = signed(manifest, *(signer("dana"), publisher("dana"))[::order])
        await register_version(room.keeper, envelope, request)
        key = RecipientKey()
        asked = await room.ask(version=2, manifest=manifest.digest)
        answered = await room.keeper.release(await room.dossier(asked, key))
        delivered, data_key = accept(answered.delivery, room.genesis, key, request=asked.digest, model=MODEL, version=2)
        data_key.wipe()
        assert delivered.publisher_key == publisher("dana").public_key
        expected = ManifestExpectation(genesis=room.genesis.digest, model=MODEL, version=2, digest=manifest.digest)
        assert verify_manifest(envelope, delivered.publisher_key, expect=expected) == manifest

    asyncio.run(run())


def test_step_4_9_two_keys_of_one_person_are_one_voice() -> None:
    # Who publishes may approve, too: an approval by the plain key and one by the hybrid key are the same person's.
    async def run() -> None:
        room = await Room().furnish()
        before, second = room.roster, publisher("sam").public_key
        people = tuple(replace(one, keys=(*one.keys, second)) if one.id == "sam" else one for one in before.people)
        await room.adopt_roster(replace(before, epoch=2, predecessor=Digest.of(before.to_bytes()), people=people))
        request = await room.ask()
        twice = tuple(sign(APPROVAL_TYPE, request.payload, one) for one in (signer("sam"), publisher("sam")))
        await voices.approve(room.keeper, room.clock, twice[1])
        for approvals, reason in ((twice, "one-person-twice"), (twice[1:], "quorum-not-met")):
            with pytest.raises(ReleaseRefusedError) as caught:
                await room.release(request, change=lambda case, voices=approvals: replace(case, approvals=voices))  # type: ignore[misc]
            assert caught.value.reason == reason
        # Either key is the person's own: one voice of each kind counts, once.
        both = (twice[1], *await room.approvals(request, "rina"))
        await room.release(request, change=lambda case: replace(case, approvals=both))

    asyncio.run(run())


def test_step_4_9_nobody_approves_their_own_request_with_their_other_key() -> None:
    async def run() -> None:
        room = await Room().furnish()
        request = await room.ask()
        approvals = tuple(
            sign(APPROVAL_TYPE, request.payload, one) for one in (publisher("dana"), signer("sam"), signer("rina"))
        )
        with pytest.raises(ReleaseRefusedError) as caught:
            await room.release(request, change=lambda case: replace(case, approvals=approvals))
        assert caught.value.reason == "self-approval"
        by_hybrid = sign(REQUEST_TYPE, room.request(Action.FREEZE).to_bytes(), publisher("dana"))
        await voices.submit(room.keeper, room.clock, by_hybrid)

    asyncio.run(run())
