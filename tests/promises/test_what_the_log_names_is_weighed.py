"""Objects that the log only names count when they are those very objects and say what the log says; never before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from strongroom.access.request import APPROVAL_TYPE, LogHead
from strongroom.audit.entries import Entry, read_entry
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.events import EventName
from strongroom.release.attested import Attested
from strongroom.release.decided import Decided
from strongroom.release.exhibits import ExhibitKind, named_by
from support.deployment import signer
from support.lying import lie
from support.retold import RoomExhibits, codes, retell
from support.room import Room
from support.stories import run

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration
WHAT = {
    "request": (EventName.REQUEST_CREATED, "request"),
    "approval": (EventName.REQUEST_APPROVED, "approval"),
    "decision": (EventName.RELEASED, "decision"),
    "attested": (EventName.RELEASED, "attested"),
    "platform": (EventName.PLATFORM_ENROLLED, "record"),
    "roster": (EventName.ROSTER_ADOPTED, "document"),
    "policy": (EventName.POLICY_ADOPTED, "document"),
    "reference-values": (EventName.REFERENCE_VALUES_ADOPTED, "document"),
}


def name_of(room: Room, kind: str) -> tuple[str, Digest]:
    event, fact = WHAT[kind]
    return kind, room.log.last(event).digest(fact)


def unsigned(data: bytes) -> bytes:
    return replace(Envelope.parse(data), signatures=()).to_bytes()


def signed_by_another(data: bytes) -> bytes:
    envelope = Envelope.parse(data)
    return sign(envelope.kind, envelope.payload, signer("nobody")).to_bytes()


def of_another_type(data: bytes) -> bytes:
    envelope = Envelope.parse(data)
    return sign(APPROVAL_TYPE, envelope.payload, signer("dana")).to_bytes()


@pytest.mark.parametrize("kind", WHAT)
def test_one_that_isnt_handed_in_is_counted_as_missing(kind: str) -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask())
        verdict = retell(room, RoomExhibits(room, {name_of(room, kind): None}))
        assert verdict.findings == ()
        assert verdict.exhibits is not None
        assert verdict.exhibits[kind]["missing"] == 1
        if kind in {"roster", "policy"}:
            # Nothing that would be judged by it is called good.
            assert sum(tally["unjudged"] for tally in verdict.exhibits.values())

    run(story)


@pytest.mark.parametrize("kind", WHAT)
def test_another_object_in_its_place_is_found(kind: str) -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask())
        kept = RoomExhibits(room)
        name = name_of(room, kind)
        # A genuine object of the same kind, only not this one.
        for other in (b"{}", b"", b"\xff", *(data for (of, digest), data in room.said.items() if (of, digest) != name)):
            kept.instead[name] = other
            verdict = retell(room, kept)
            assert verdict.findings, (kind, other)
            assert verdict.exhibits is not None
            good = retell(room).exhibits
            assert good is not None
            assert verdict.exhibits[kind]["verified"] < good[kind]["verified"]

    run(story)


@pytest.mark.parametrize("change", [unsigned, signed_by_another, of_another_type])
@pytest.mark.parametrize("kind", ["request", "platform", "roster", "policy", "reference-values"])
def test_the_same_bytes_without_the_right_signatures_are_found(kind: str, change: Callable[[bytes], bytes]) -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask())
        name = name_of(room, kind)
        good = room.said.get(name) or room.documents.load(*name)
        assert good is not None
        verdict = retell(room, RoomExhibits(room, {name: change(good)}))
        assert codes(verdict) & {"bad-signature", "act-without-request"}
        assert verdict.findings[0].index == next(
            index for index, entry in entries(room) if any(one.digest == name[1] for one in named_by(entry))
        )

    run(story)


def entries(room: Room) -> list[tuple[int, Entry]]:
    return [(index, read_entry(data)) for index, data in enumerate(room.log.entries)]


def test_a_decision_that_the_facts_dont_carry_is_found() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=2)
        await room.release(request)
        last = room.log.last(EventName.RELEASED)
        decided = Decided.parse(room.decisions.find(last.digest("decision")) or b"")
        # The keeper lies: it recorded a release, and keeps facts under which nobody had agreed.
        alone = replace(decided, facts=replace(decided.facts, approvers=(), uses_left=1))
        room.decisions.append(alone.to_bytes())
        facts = {**last.facts, "use": 2, "decision": alone.digest}
        await lie(room.keeper, EventName.RELEASED, facts)
        assert codes(retell(room)) == {"decided-otherwise"}

    run(story)


def test_facts_that_the_log_contradicts_are_found() -> None:
    async def story(room: Room) -> None:
        request = await room.ask(max_uses=2)
        await room.release(request)
        last = room.log.last(EventName.RELEASED)
        decided = Decided.parse(room.decisions.find(last.digest("decision")) or b"")
        for facts in (
            replace(decided.facts, uses_left=7),
            replace(decided.facts, recorded_at=decided.facts.recorded_at - 1),
            replace(decided.facts, uses_left=1, frozen=True),
            replace(decided.facts, uses_left=1, rule=replace(decided.facts.rule, factors=())),
        ):
            told = replace(decided, facts=facts)
            named = RoomExhibits(room, {("decision", last.digest("decision")): told.to_bytes()})
            # Under its own digest it isn't even the one that is named.
            assert "exhibit-of-another" in codes(retell(room, named))
            room.decisions.append(told.to_bytes())
            await lie(
                room.keeper,
                EventName.RELEASED,
                {
                    **last.facts,
                    "use": room.keeper.journal.ledger.times_used(request.digest) + 1,
                    "decision": told.digest,
                },
            )
            assert "exhibit-contradicts-log" in codes(retell(room))

    run(story)


def test_a_result_that_isnt_the_keepers_is_found() -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask(max_uses=2))
        last = room.log.last(EventName.RELEASED)
        record = Attested.parse(room.attested.find(last.digest("attested")) or b"")
        head, claims, signature = record.result.split(".")
        forged = replace(record, result=f"{head}.{claims}.{signature[::-1]}")
        room.attested.append(forged.to_bytes())
        facts = {**last.facts, "use": 2, "attested": forged.digest, "result": forged.result_digest}
        await lie(room.keeper, EventName.RELEASED, facts)
        assert codes(retell(room)) & {"bad-signature", "ear-malformed"}

    run(story)


def test_who_signed_to_have_seen_another_log_is_heard() -> None:
    async def story(room: Room) -> None:
        await room.ask(log=LogHead(size=3, root=Digest.of(b"another log")))
        verdict = retell(room)
        # Their word against the log's: told, but nothing that the keeper did wrong.
        assert verdict.findings == ()
        assert [index for index, _message in verdict.disputes] == [len(room.log.entries) - 1]
        await room.ask(log=LogHead(size=10**6, root=Digest.of(b"a longer log")))
        assert len(retell(room).disputes) == 2

    run(story)


def test_every_object_that_an_entry_names_has_a_kind() -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask())
        kinds = {named.kind for _index, entry in entries(room) for named in named_by(entry)}
        assert {ExhibitKind.REQUEST, ExhibitKind.APPROVAL, ExhibitKind.DECISION, ExhibitKind.ATTESTED} <= kinds

    run(story)


def test_a_binding_for_another_request_is_found() -> None:
    async def story(room: Room) -> None:
        await room.release(await room.ask(max_uses=2))
        last = room.log.last(EventName.RELEASED)
        record = Attested.parse(room.attested.find(last.digest("attested")) or b"")
        bound = decode(record.binding)
        assert isinstance(bound, dict)
        moved = replace(record, binding=encode({**bound, "request": str(Digest.of(b"another"))}))
        room.attested.append(moved.to_bytes())
        facts = {**last.facts, "use": 2, "attested": moved.digest}
        await lie(room.keeper, EventName.RELEASED, facts)
        assert "exhibit-contradicts-log" in codes(retell(room))
        assert json.dumps(retell(room).to_json())

    run(story)
