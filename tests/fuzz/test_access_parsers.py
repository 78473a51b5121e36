"""What is signed, kept or told about people and access: one form when read, or an error of ours.

Good objects of every kind are drawn, written and read back; then one member at a time is made odd. What a server says
of people is read by clients in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strongroom.access.facts import Facts
from strongroom.access.invariants import broken
from strongroom.access.policy import Policy
from strongroom.access.request import Action, Request
from strongroom.client.state import CapUse, PersonStanding, State, WaitingChange
from strongroom.core.canonical import MAX_DEPTH, Json, encode, parse
from strongroom.core.clock import format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import PersonId
from strongroom.ipc import frames
from strongroom.personnel.enrolment import Enrolment
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.roster import Person, PersonKind, Roster
from strongroom.personnel.statements import (
    AccessDecision,
    AccessReview,
    BreakGlassReview,
    Erasure,
    Objection,
    Outcome,
)
from strongroom.personnel.vetting import Nda, Training, VettingRecord
from strongroom.release.decided import Decided
from strongroom.release.pending import Pending
from strongroom.release.steps import Check, Step
from support.deployment import rules, signer
from support.examples import examples
from support.facts import any_facts, good, policy, request_to, someone


class Written(Protocol):
    """Something with one canonical form."""

    def to_bytes(self) -> bytes: ...


GENESIS = Digest.of(b"genesis")
FIRST, LAST = parse_instant("0001-01-01T00:00:00Z"), parse_instant("9999-12-31T23:59:59Z")
PARSERS: dict[str, Callable[[bytes], Written]] = {
    "vetting": VettingRecord.parse,
    "erasure": Erasure.parse,
    "objection": Objection.parse,
    "break-glass-review": BreakGlassReview.parse,
    "access-review": AccessReview.parse,
    "enrolment": Enrolment.parse,
    "roster": Roster.parse,
    "policy": Policy.parse,
    "facts": Facts.parse,
    "decided": Decided.parse,
    "request": Request.parse,
}


def read_with(read: Callable[[Fields], object]) -> Callable[[Json], object]:
    def whole(value: Json) -> object:
        with reading(value, "told") as fields:
            return read(fields)

    return whole


READERS: dict[str, Callable[[Json], object]] = {
    "state": State.read,
    "person": read_with(PersonStanding.read),
    "waiting": read_with(WaitingChange.read),
    "destruction": read_with(Pending.read),
    "cap": read_with(CapUse.read),
    "check": read_with(Check.read),
}

# --- good ones --------------------------------------------------------------------------------------------------------

instants = st.integers(FIRST, LAST)
people = st.sampled_from(["dana", "sam", "rina", "a", "a" * 40]).map(PersonId)
digests = st.binary(max_size=4).map(Digest.of)
codes = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?", fullmatch=True)
references = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", fullmatch=True)


@st.composite
def vettings(draw: st.DrawFn) -> VettingRecord:
    begun = draw(st.integers(FIRST, LAST - 2))
    return VettingRecord(
        genesis=draw(digests),
        person=draw(people),
        serial=draw(st.integers(1, 2**53 - 1)),
        scheme=draw(codes),
        tier=draw(st.integers(0, 5)),
        adjudicated_on=begun,
        expires_on=draw(st.integers(begun + 1, LAST)),
        rescreen_due=draw(st.integers(begun + 1, LAST)),
        employment=draw(st.sampled_from(Employment)),
        training=tuple(
            Training(course=course, expires=draw(instants))
            for course in draw(st.lists(codes, max_size=32, unique=True))
        ),
        nda=draw(st.none() | st.builds(Nda, version=codes, signed_on=instants)),
        conflict=draw(st.none() | references),
        case=draw(st.just("") | references),
        salt=draw(st.binary(min_size=16, max_size=16)),
    )


@st.composite
def rosters(draw: st.DrawFn) -> Roster:
    names = draw(st.lists(people, max_size=4, unique=True))
    roles = st.frozensets(st.sampled_from(["requester", "vetting-officer", "a"]), max_size=3)
    made: list[Person] = []
    for name in names:
        humans = [one.id for one in made if one.kind is PersonKind.HUMAN]
        sponsor = draw(st.none() | st.sampled_from(humans)) if humans else None
        made.append(
            Person(
                id=name,
                kind=PersonKind.AGENT if sponsor else PersonKind.HUMAN,
                sponsor=sponsor,
                org=draw(st.text("abc äß", max_size=64)),
                active=draw(st.booleans()),
                roles=draw(roles),
                keys=(signer(name).public_key, *([signer(name + "2").public_key] if draw(st.booleans()) else [])),
            )
        )
    epoch = draw(st.integers(1, 3))
    return Roster(
        genesis=draw(digests),
        epoch=epoch,
        predecessor=None if epoch == 1 else draw(digests),
        people=tuple(made),
    )


reviews = st.builds(
    AccessReview,
    genesis=digests,
    at=instants,
    decisions=st.lists(
        st.builds(AccessDecision, grant=digests, keep=st.booleans()),
        min_size=1,
        max_size=8,
        unique_by=lambda one: one.grant,
    ).map(tuple),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    action = draw(st.sampled_from(Action))
    base = request_to(action)
    opens = action in {Action.OPEN_IN_ENCLAVE, Action.BREAK_GLASS}
    exports = action is Action.EXPORT_PLAINTEXT
    begin = draw(st.integers(FIRST, LAST - 1))
    return replace(
        base,
        version=draw(st.integers(1, 1_000_000)) if opens or exports or action is Action.SEAL else 0,
        manifest=base.manifest if opens or exports else None,
        image=base.image if opens else None,
        measurement=base.measurement if opens else None,
        platforms=base.platforms if opens or action is Action.REVOKE_PLATFORM else (),
        recipient=draw(digests) if exports or action is Action.SEAL else None,
        target=draw(digests) if action in {Action.REVOKE_GRANT, Action.LIFT} else None,
        justification=draw(st.none() | digests),
        ticket=draw(st.text("ABC-123é", max_size=64)),
        not_before=begin,
        expires=draw(st.integers(begin + 1, LAST)),
        max_uses=draw(st.integers(1, 1_000_000)) if opens else 1,
        nonce=draw(st.binary(min_size=16, max_size=16)),
    )


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    drawn = draw(any_facts())
    return replace(drawn, request=draw(requests()), now=draw(instants), uses_left=max(0, drawn.uses_left))


checks = st.builds(
    Check,
    step=st.sampled_from(Step),
    passed=st.booleans(),
    found=st.text("abc `ü", max_size=40),
    reason=st.just("") | codes,
    remedy=st.text("abc ", max_size=40),
)
decisions = st.builds(
    Decided,
    facts=facts(),
    allowed=st.booleans(),
    checks=st.lists(checks, max_size=9).map(tuple),
    others=st.lists(st.tuples(codes, st.text("abc", max_size=20)), max_size=4).map(tuple),
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "vetting": vettings(),
    "erasure": st.builds(Erasure, genesis=digests, person=people),
    "objection": st.builds(Objection, genesis=digests, document=digests),
    "break-glass-review": st.builds(
        BreakGlassReview, genesis=digests, request=digests, outcome=st.sampled_from(Outcome), report=digests
    ),
    "access-review": reviews,
    "roster": rosters(),
    "policy": st.just(replace(policy(), rules=rules(), models=(good().terms,))),
    "facts": facts(),
    "decided": decisions,
    "request": requests(),
}


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None)
def test_what_is_written_is_read_back_and_has_one_form(kind: str, data: st.DataObject) -> None:
    value = data.draw(GOOD[kind])
    written = value.to_bytes()
    read = PARSERS[kind](written)
    assert read == value
    assert read.to_bytes() == written


@given(instants)
@example(FIRST)
@example(LAST)
def test_every_instant_that_is_read_is_written_alike(at: int) -> None:
    # A year of three digits, written as such, made records that nobody could read again.
    text = format_instant(at)
    assert len(text) == len("2026-11-23T22:08:37Z")
    assert parse_instant(text) == at


def test_the_worst_refusal_that_a_dossier_can_earn_can_be_read_again() -> None:
    # 32 approvers, each lacking all that can be lacked, and a requester no better: more reasons than anybody counts on.
    hopeless = {
        "active": False,
        "human": False,
        "tier": 0,
        "vetted_until": 1,
        "copy_until": 0,
        "employment": "left",
        "conflict": True,
        "nda": False,
        "hardware": False,
        "courses": frozenset(),
        "approved_at": 1,
        "roles": frozenset(),
    }
    crowd = tuple(replace(someone(f"person-{n}"), **hopeless) for n in range(32))  # type: ignore[arg-type]
    base = good()
    worst = replace(
        base,
        requester=replace(base.requester, **hopeless),  # type: ignore[arg-type]
        approvers=crowd,
        repeated=frozenset(one.id for one in crowd),
        denied=True,
        frozen=True,
        uses_left=0,
        holders=1000,
        enclave=None,
    )
    refusals = list(broken(worst))
    assert len(refusals) > 256
    decided = Decided(
        facts=worst,
        allowed=False,
        checks=(),
        others=tuple((code.value, text) for code, text in refusals[1:]),
    )
    assert Decided.parse(decided.to_bytes()) == decided


# --- bad ones ---------------------------------------------------------------------------------------------------------

texts = st.text(max_size=8) | st.sampled_from(
    ["", "sha256:" + "0" * 64, "0000-00-00T00:00:00Z", "0900-01-01T00:00:00Z", "AAAA", "dana", "seal", "\ud800", "\x00"]
)
odd: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def answers(data: bytes) -> None:
    told: list[str] = []
    for read in PARSERS.values():
        try:
            value = read(data)
        except StrongroomError as error:
            # What an error says can always be told, and doesn't repeat at length what was sent.
            frames.refusal(1, error)
            told.append(error.message)
        else:
            again = value.to_bytes()
            # Sets have one order when they are written; whatever was read has one form from then on.
            assert read(again) == value
            assert read(again).to_bytes() == again
    assert all(len(message) < 600 for message in told)


@given(st.binary(max_size=300) | odd.map(lambda value: json.dumps(value).encode()))
@example(b"\xff")
@example(b"[" * 100_000)
@example(b'{"v":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1))
@example(b'{"v":1,"v":1}')
@example(b'{"v":true}')
@example(b'{"v":1e400}')
def test_any_bytes(data: bytes) -> None:
    answers(data)


def spoil(data: st.DataObject, sample: Any) -> None:
    """Replace, remove or add one thing somewhere inside of a JSON value."""
    spot = sample
    while True:
        names: list[Any] = sorted(spot) if isinstance(spot, dict) else list(range(len(spot)))
        if not names:
            break
        name = data.draw(st.sampled_from(names))
        if isinstance(spot[name], dict | list) and spot[name] and data.draw(st.booleans()):
            spot = spot[name]
            continue
        act = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if act == "remove":
            del spot[name]
        elif act == "replace":
            spot[name] = data.draw(odd)
        elif isinstance(spot, dict):
            spot["odd"] = data.draw(odd)
        else:
            spot.append(spot[name])
        break


@pytest.mark.parametrize("kind", GOOD)
@given(data=st.data())
@settings(max_examples=examples(120), deadline=None)
def test_a_good_object_with_one_thing_made_odd(kind: str, data: st.DataObject) -> None:
    sample = json.loads(data.draw(GOOD[kind]).to_bytes())
    spoil(data, sample)
    try:
        spoilt = encode(sample)
    except StrongroomError:
        spoilt = json.dumps(sample, sort_keys=True, separators=(",", ":")).encode()
    answers(spoilt)


# --- what a server tells ----------------------------------------------------------------------------------------------

PERSON: dict[str, Json] = {
    "person": "dana",
    "kind": "human",
    "unit": "research",
    "roles": ["requester"],
    "active": True,
    "suspended": False,
    "tier": 3,
    "vetted_until": "2026-11-23T22:08:37Z",
    "serial": 1,
    "hardware_keys": 2,
}
WAITING: dict[str, Json] = {
    "kind": "policy",
    "epoch": 2,
    "document": str(GENESIS),
    "effective": "2026-11-23T22:08:37Z",
}
DESTRUCTION: dict[str, Json] = {
    "request": str(GENESIS),
    "model": "atlas",
    "requester": "dana",
    "agreed": "2026-11-23T22:08:37Z",
    "effective": "2026-11-24T22:08:37Z",
    "expires": "2026-11-30T22:08:37Z",
}
PRECAUTION: dict[str, Json] = {
    "precaution": str(GENESIS),
    "kind": "approver",
    "subject": "dana",
    "cause": "statistics",
    "incident": None,
    "person": "warden",
    "taken": "2026-11-23T22:08:37Z",
    "until": "2026-11-24T22:08:37Z",
}
TOLD: dict[str, dict[str, Json]] = {
    "person": PERSON,
    "waiting": WAITING,
    "destruction": DESTRUCTION,
    "cap": {"access": "copy", "people": 3, "cap": 20},
    "check": {"step": "4.9", "name": "decision", "passed": True, "found": "", "reason": "", "remedy": ""},
    "state": {
        "genesis": str(GENESIS),
        "locked": False,
        "cause": "",
        "documents": {},
        "models": {"atlas": {"version": 1, "manifest": str(GENESIS), "data_key": "k", "frozen": False}},
        "frozen": ["atlas"],
        "suspended": ["dana"],
        "waiting": [WAITING],
        "precautions": [PRECAUTION],
        "destructions": [DESTRUCTION],
        "destroyed": ["atlas"],
        "irrecoverable": ["borea"],
        "closed": ["borea"],
        "lost": ["cetus"],
        "log": {"size": 7, "root": "A" * 43 + "="},
        "latest": "2026-11-23T22:08:37Z",
        "checkpoint": "text\nof\nlines\n",
    },
}


def test_what_a_server_tells_is_read() -> None:
    assert READERS["person"](dict(PERSON)) is not None
    state = State.read(json.loads(json.dumps(TOLD["state"])))
    assert state.suspended == ("dana",)
    assert state.waiting[0].epoch == 2
    assert not PersonStanding.read(Fields(PERSON | {"vetted_until": None}, "person")).cleared(0)


@pytest.mark.parametrize("kind", TOLD)
@given(data=st.data())
@settings(max_examples=examples(120), deadline=None)
def test_whatever_a_server_tells_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    sample = json.loads(json.dumps(TOLD[kind]))
    spoil(data, sample)
    for read in READERS.values():
        try:
            read(json.loads(json.dumps(sample)))
        except StrongroomError as error:
            frames.refusal(1, error)


@given(odd)
def test_whatever_else_a_server_tells_is_read_or_refused(value: Json) -> None:
    for read in READERS.values():
        try:
            read(value)
        except StrongroomError as error:
            frames.refusal(1, error)


def test_a_parser_is_asked_for_bytes_in_any_spelling_and_takes_one() -> None:
    record = Erasure(genesis=GENESIS, person=PersonId("dana")).to_bytes()
    for other in (record + b"\n", b" " + record, record.replace(b'"v":1', b'"v":1.0'), record.replace(b":", b": ", 1)):
        with pytest.raises(StrongroomError):
            Erasure.parse(other)
    assert parse(record)
