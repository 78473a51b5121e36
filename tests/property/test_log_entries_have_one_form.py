"""An entry is exactly its canonical bytes: what was made is read, and no other spelling of it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.audit.entries import make_entry, read_entry, verify_entry
from strongroom.audit.errors import EntryError, EntryForgedError
from strongroom.audit.facts import Kind, Producer, form_of, producer_of
from strongroom.core import canonical
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.events import EventName
from strongroom.core.signature import Ed25519Signer
from support.logs import AT, KEEPER, sample_entry, sample_facts

EVENTS = st.sampled_from(EventName)


@given(EVENTS, st.integers(min_value=0, max_value=2**53 - 1), st.integers(min_value=0, max_value=2**31))
def test_made_is_read(event: EventName, seq: int, at: int) -> None:
    data = sample_entry(event, seq, at=at)
    entry = read_entry(data)
    assert (entry.event, entry.at, entry.seq, entry.by) == (event, at, seq, producer_of(event))
    verify_entry(entry, KEEPER.public_key)
    # The fast encoder of entries and the general one of signed objects agree.
    assert canonical.encode(entry.to_json()) == data


@given(EVENTS)
def test_what_is_signed_is_the_entry_without_its_signature(event: EventName) -> None:
    body = json.loads(sample_entry(event, 3))
    body.pop("sig", None)
    assert read_entry(sample_entry(event, 3)).signed_bytes == canonical.encode(body)


@given(
    EVENTS,
    st.sampled_from(
        [
            (b'"v":1', b'"v":1.0'),
            (b'"v":1', b'"v":true'),
            (b'"v":1', b'"v":1e0'),
            (b'"v":1', b'"v":1,"v":1'),
            (b'"v":1', b'"v":2,"v":1'),
            (b'"seq":3', b'"seq":3.0'),
            (b'"seq":3', b'"seq":-0'),
            (b'"seq":3', b'"seq":NaN'),
            (b'"seq":3', b'"seq":9007199254740992'),
            (b'"facts":{', b'"facts":{ '),
            (b'"event":"', b'"event":"\\u0061'),
            (b'{"at"', b'\xef\xbb\xbf{"at"'),
            (b'"at":"2', b'"at":"\\u0032'),
            (b'"facts":{', b'"facts":{},"facts":{'),
            (b'"facts":{', b'"facts":[[' + b"[" * 2000 + b"]" * 2000 + b"]],{"),
        ]
    ),
)
def test_another_spelling_is_refused(event: EventName, change: tuple[bytes, bytes]) -> None:
    good = sample_entry(event, 3)
    assert change[0] in good
    with pytest.raises(EntryError):
        read_entry(good.replace(change[0], change[1], 1))


@given(EVENTS, st.data())
def test_another_byte_is_another_entry(event: EventName, data: st.DataObject) -> None:
    made = sample_entry(event, 3)
    at = data.draw(st.integers(min_value=0, max_value=len(made) - 1))
    edited = made[:at] + bytes([made[at] ^ data.draw(st.integers(min_value=1, max_value=255))]) + made[at + 1 :]
    try:
        entry = read_entry(edited)
    except EntryError:
        return
    if entry.by is Producer.KEEPER:
        with pytest.raises(EntryForgedError):
            verify_entry(entry, KEEPER.public_key)


@pytest.mark.parametrize("event", list(EventName))
def test_unknown_missing_and_wrong_facts_are_refused(event: EventName) -> None:
    by = producer_of(event)
    signer = KEEPER if by is Producer.KEEPER else None
    good: dict[str, Any] = dict(sample_facts(event))
    wrong: list[dict[str, Any]] = [{**good, "note": "free text"}]
    wrong += [{k: v for k, v in good.items() if k != name} for name in good]
    wrong += [{**good, name: "Free text with a secret!"} for name in good]
    for facts in wrong:
        with pytest.raises(EntryError):
            make_entry(event, at=AT, by=by, seq=0, facts=facts, signer=signer)
        body = json.loads(sample_entry(event, 0))
        body["facts"] = {k: str(v) for k, v in facts.items()}
        if facts.keys() != good.keys():
            with pytest.raises(EntryError):
                read_entry(canonical.encode(body))


def test_an_entry_of_the_keeper_needs_the_keepers_signature() -> None:
    facts = sample_facts(EventName.MODEL_FROZEN)
    with pytest.raises(EntryError):
        make_entry(EventName.MODEL_FROZEN, at=AT, by=Producer.KEEPER, seq=0, facts=facts, signer=None)
    with pytest.raises(EntryError):
        make_entry(EventName.MODEL_FROZEN, at=AT, by=Producer.LOG, seq=0, facts=facts, signer=None)
    other = Ed25519Signer.from_seed(b"O" * 32)
    forged = make_entry(EventName.MODEL_FROZEN, at=AT, by=Producer.KEEPER, seq=0, facts=facts, signer=other)
    with pytest.raises(EntryForgedError):
        verify_entry(read_entry(forged), KEEPER.public_key)
    body = json.loads(forged)
    del body["sig"]
    with pytest.raises(EntryError):
        read_entry(canonical.encode(body))


def test_the_longest_entry_fits_a_bundle_and_longer_bytes_are_refused() -> None:
    facts = {**sample_facts(EventName.RELEASED), "approvals": [Digest.of(b"x")] * 256, "approvers": ["a" * 64] * 256}
    made = make_entry(EventName.RELEASED, at=AT, by=Producer.KEEPER, seq=0, facts=facts, signer=KEEPER)
    assert len(made) <= 65_535
    with pytest.raises(EntryError):
        read_entry(made + b" " * 65_535)


@given(st.one_of(st.text(max_size=80), st.from_regex(r"sha256:[0-9a-fA-F]{62,66}", fullmatch=True)))
def test_digest_facts_accept_what_digests_accept(text: str) -> None:
    def accepted(parse: Any) -> bool:
        try:
            parse()
        except (MalformedError, StrongroomError):
            return False
        return True

    assert accepted(lambda: form_of(Kind.DIGEST)(text)) == accepted(lambda: Digest.parse(text))
