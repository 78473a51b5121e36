"""Where the policy names witnesses, nothing new is let out unless a quorum saw this very log lately; freezing never
waits. What the log writer hands over isn't believed: each way of lying about it has its own code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from strongroom.access.policy import LevelAge, Witnesses
from strongroom.access.request import Action
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import CosignatureKind, Cosigner, CosignerKey
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.note import Note
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import model_id
from strongroom.framework.levels import SecurityLevel
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from strongroom.release.witnesses import WitnessQuorumStaleError, witness_terms
from support.cosigners import witness
from support.deployment import LEVEL, signer
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration

W1, W2, W3 = witness(1), witness(2, CosignatureKind.ED25519), witness(3)
TEXT = "".join(f"witness W{n} {one.key}\n" for n, one in enumerate((W1, W2, W3), 1)) + "group G 2 W1 W2 W3\nquorum G\n"


def cosigned(room: Room, *by: Cosigner, ago: int = 0, size: int | None = None) -> bytes:
    """Return the log's checkpoint as cosigned by witnesses some seconds ago."""
    note = Note.parse(room.log.sign(size))
    checkpoint = Checkpoint.parse_text(note.text)
    return note.signed_also(one.cosign(checkpoint, room.clock.now() - ago) for one in by).to_bytes()


async def witnessed_room(**section: object) -> Room:
    room = await Room().furnish()
    await room.next_policy(witnesses=replace(Witnesses(policy=TEXT), **section))  # type: ignore[arg-type]
    room.log.witnessed = cosigned(room, W1, W2)
    return room


def forked(room: Room) -> bytes:
    frontier = Frontier()
    for entry in (*room.log.entries[:-1], b"another entry"):
        frontier.append(leaf_hash(entry))
    other = Checkpoint(room.genesis.log_origin, frontier.size, frontier.root())
    note = Note.parse(other.sign(signer("log")))
    return note.signed_also(one.cosign(other, room.clock.now()) for one in (W1, W2)).to_bytes()


def longer(room: Room) -> bytes:
    room.log.entries.append(b"what was taken away")
    try:
        return cosigned(room, W1, W2)
    finally:
        room.log.entries.pop()


def other_log(room: Room) -> bytes:
    checkpoint = replace(Checkpoint.parse_text(Note.parse(room.log.sign()).text), origin="strongroom/another")
    note = Note.parse(checkpoint.sign(signer("log")))
    return note.signed_also(one.cosign(checkpoint, room.clock.now()) for one in (W1, W2)).to_bytes()


def forged(room: Room) -> bytes:
    note = Note.parse(cosigned(room, W1, W2))
    spoiled = replace(note.signatures[1], value=note.signatures[1].value[:-1] + b"\0")
    return Note(note.text, (note.signatures[0], spoiled, *note.signatures[2:])).to_bytes()


def of_another_size(room: Room) -> bytes:
    early, now = Note.parse(cosigned(room, W1, W2, size=3)), Note.parse(room.log.sign())
    return Note(now.text, (*now.signatures, *early.signatures[1:])).to_bytes()


LIES: dict[str, tuple[Callable[[Room], bytes | None], str]] = {
    "nothing": (lambda _room: None, "witness-quorum-stale"),
    "one witness": (lambda room: cosigned(room, W1), "witness-quorum-stale"),
    "a stranger": (lambda room: cosigned(room, W1, witness(9)), "witness-quorum-stale"),
    "sixteen minutes old": (lambda room: cosigned(room, W1, W2, ago=960), "witness-quorum-stale"),
    "from the future": (lambda room: cosigned(room, W1, W2, ago=-3600), "cosignature-from-future"),
    "forged": (forged, "cosignature-forged"),
    "over another size": (of_another_size, "cosignature-forged"),
    "another log's": (other_log, "cosignature-other-log"),
    "unsigned by the log": (
        lambda room: (
            Note(Note.parse(room.log.sign()).text, ())
            .signed_also((W1.cosign(Checkpoint.parse_text(Note.parse(room.log.sign()).text), room.clock.now()),))
            .to_bytes()
        ),
        "log-key-wrong",
    ),
    "by another log key": (lambda room: room.log.sign(by=signer("thief")), "log-key-wrong"),
    "a fork": (forked, "log-forked"),
    "a longer log": (longer, "log-rolled-back"),
    "garbage": (lambda _room: b"garbage", "malformed"),
}


@pytest.mark.parametrize("lie", LIES)
def test_without_the_fresh_word_of_a_quorum_nothing_is_released(lie: str) -> None:
    async def run() -> None:
        room = await witnessed_room()
        request = await room.ask()
        dossier = await room.dossier(request, RecipientKey())
        room.log.witnessed = LIES[lie][0](room)
        before = len(room.log.entries)
        with pytest.raises(StrongroomError) as caught:
            await room.keeper.release(dossier)
        assert caught.value.reason == LIES[lie][1]
        assert len(room.log.entries) == before, "a use was spent"
        # Proof that the log isn't whole ends it all; what may be a mishap doesn't.
        proven = LIES[lie][1] in {"log-forked", "log-rolled-back"}
        assert bool(room.keeper.locked_because) is proven
        if not proven:
            room.log.witnessed = cosigned(room, W1, W2)
            await room.keeper.release(dossier)

    asyncio.run(run())


def test_the_word_ages_and_is_asked_for_again() -> None:
    async def run() -> None:
        room = await witnessed_room(max_age_seconds=300)
        await room.release(await room.ask(max_uses=3))
        room.clock.at += 301
        with pytest.raises(WitnessQuorumStaleError):
            await room.release(await room.ask())
        # Two witnesses must be young: the age of a quorum is that of its oldest member that is needed.
        note = Note.parse(cosigned(room, W1, W2, ago=301))
        checkpoint = Checkpoint.parse_text(note.text)
        room.log.witnessed = note.signed_also((W3.cosign(checkpoint, room.clock.now()),)).to_bytes()
        with pytest.raises(WitnessQuorumStaleError):
            await room.release(await room.ask())
        room.log.witnessed = cosigned(room, W2, W3, ago=299)
        await room.release(await room.ask())

    asyncio.run(run())


def test_a_level_may_ask_for_a_younger_word() -> None:
    async def run() -> None:
        room = await witnessed_room(levels=(LevelAge(level=LEVEL, max_age_seconds=60),))
        room.log.witnessed = cosigned(room, W1, W2, ago=61)
        with pytest.raises(WitnessQuorumStaleError):
            await room.release(await room.ask())
        room.log.witnessed = cosigned(room, W1, W2, ago=60)
        await room.release(await room.ask())

    asyncio.run(run())


async def seal(room: Room) -> None:
    key = RecipientKey()
    request = await room.submit(Action.SEAL, version=2, recipient=key.digest)
    await room.keeper.seal(Dossier(request=request, recipient_key=key.public, wrapped=room.wrapped))


async def resume(room: Room) -> None:
    request = await room.submit(Action.RESUME)
    await room.keeper.control(Dossier(request=request))


async def grant(room: Room) -> None:
    request = await room.ask()
    await room.keeper.grant(Dossier(request=request, approvals=await room.approvals(request)))


async def roster(room: Room) -> None:
    before = room.roster
    await room.adopt_roster(replace(before, epoch=2, predecessor=room.keeper.documents.roster_digest))


@pytest.mark.parametrize("act", [seal, resume, grant, roster])
def test_what_gives_anything_waits_for_witnesses(act: Callable[[Room], Awaitable[None]]) -> None:
    async def run() -> None:
        room = await witnessed_room()
        room.log.witnessed = None
        with pytest.raises(WitnessQuorumStaleError):
            await act(room)

    asyncio.run(run())


def test_what_takes_away_never_waits() -> None:
    async def run() -> None:
        room = await witnessed_room()
        request = await room.ask()
        room.log.witnessed = None
        await room.keeper.control(Dossier(request=await room.submit(Action.FREEZE)))
        await room.keeper.control(Dossier(request=await room.submit(Action.REVOKE_GRANT, target=request.digest)))
        platforms = (room.platform_id,)
        await room.keeper.control(Dossier(request=await room.submit(Action.REVOKE_PLATFORM, platforms=platforms)))
        assert room.log.last().event is EventName.PLATFORM_REVOKED

    asyncio.run(run())


def test_a_policy_can_name_other_witnesses_when_all_are_gone() -> None:
    async def run() -> None:
        room = await witnessed_room()
        room.log.witnessed = None
        other = witness(7)
        await room.next_policy(witnesses=Witnesses(policy=f"witness A {other.key}\nquorum A\n"))
        # The word of those before doesn't count any more.
        room.log.witnessed = cosigned(room, W1, W2)
        with pytest.raises(WitnessQuorumStaleError):
            await room.release(await room.ask())
        room.log.witnessed = cosigned(room, other)
        await room.release(await room.ask())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("quorum none\n", "policy-witnesses"),
        ("quorum W1\n", "witness-policy-malformed"),
        ("no policy", "witness-policy-malformed"),
        (f"log example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k\n{TEXT}", "policy-witnesses"),
    ],
)
def test_a_policy_without_a_quorum_of_this_log_is_refused(text: str, reason: str) -> None:
    async def run() -> None:
        room = await Room().furnish()
        with pytest.raises(StrongroomError) as caught:
            await room.next_policy(witnesses=Witnesses(policy=text))
        assert caught.value.reason == reason

    asyncio.run(run())


def test_without_witnesses_in_the_policy_nobody_is_asked() -> None:
    async def run() -> None:
        room = await Room().furnish()
        await room.release(await room.ask())

    asyncio.run(run())


def test_a_policy_that_comes_meanwhile_is_not_met_by_the_witnesses_of_the_one_before() -> None:
    async def run() -> None:
        room = await witnessed_room()
        gate, other = room.keeper.witnesses, witness(7)
        asked, may_answer, told = asyncio.Event(), asyncio.Event(), cosigned(room, W1, W2)

        async def slowly() -> bytes | None:
            asked.set()
            await may_answer.wait()
            return told

        gate.cosigned = slowly
        waiting = asyncio.create_task(gate.require())
        await asked.wait()
        await room.next_policy(witnesses=Witnesses(policy=f"witness A {other.key}\nquorum A\n"))
        may_answer.set()
        with pytest.raises(WitnessQuorumStaleError):
            await waiting
        with pytest.raises(WitnessQuorumStaleError):
            await gate.require()

    asyncio.run(run())


def test_revoking_an_image_does_not_wait_for_witnesses() -> None:
    async def run() -> None:
        room = await witnessed_room()
        room.log.witnessed = None
        await room.next_values(images=())
        assert room.log.last().event is EventName.REFERENCE_VALUES_ADOPTED
        # What gives something back waits as before.
        with pytest.raises(WitnessQuorumStaleError):
            await room.next_values(images=room.first_values().images)

    asyncio.run(run())


@pytest.mark.parametrize("kind", CosignatureKind)
def test_the_log_is_no_witness_of_itself(kind: CosignatureKind) -> None:
    async def run() -> None:
        room = await Room().furnish()
        genesis = room.genesis
        raw = genesis.log_key.raw if kind is CosignatureKind.ED25519 else genesis.log_cosigner
        # Under another name than its own, which changes the key's id.
        itself = CosignerKey("somebody.example/else", kind, raw)
        text = f"witness A {itself}\nwitness B {W1.key}\ngroup G any A B\nquorum G\n"
        with pytest.raises(StrongroomError) as caught:
            await room.next_policy(witnesses=Witnesses(policy=text))
        assert caught.value.reason == "policy-witnesses"

    asyncio.run(run())


@pytest.mark.parametrize("kind", CosignatureKind)
def test_a_later_shard_is_no_witness_of_the_log(kind: CosignatureKind) -> None:
    async def run() -> None:
        room = await Room().furnish()
        await room.keeper.journal.turn(room.keeper.vault.signer)
        shard = room.keeper.journal.succession.current
        raw = shard.key.raw if kind is CosignatureKind.ED25519 else shard.cosigner
        assert raw is not None
        itself = CosignerKey("somebody.example/else", kind, raw)
        text = f"witness A {itself}\nwitness B {W1.key}\ngroup G any A B\nquorum G\n"
        await room.next_policy(witnesses=Witnesses(policy=text))
        room.log.witnessed = cosigned(room, W1)
        with pytest.raises(StrongroomError) as caught:
            await room.release(await room.ask())
        assert caught.value.reason == "policy-witnesses"

    asyncio.run(run())


def test_where_no_model_is_meant_the_shortest_age_counts() -> None:
    async def run() -> None:
        room = await witnessed_room()
        policy = room.keeper.documents.policy
        assert policy is not None
        lower = replace(policy.models[0], model=model_id("other"), level=SecurityLevel.SL1)
        ages = (LevelAge(level=SecurityLevel.SL1, max_age_seconds=60),)
        section = replace(Witnesses(policy=TEXT), levels=ages)
        terms = witness_terms(replace(policy, models=(*policy.models, lower), witnesses=section), room.genesis)
        assert terms is not None
        assert terms.max_age(terms.level(None)) == terms.max_age(terms.level(model_id("nobody"))) == 60
        assert terms.max_age(terms.level(policy.models[0].model)) == 900

    asyncio.run(run())
