"""A person's record opens under its own key, id and kind, as it was, and under nothing else."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.people.errors import RecordRefusedError
from strongroom.broker.people.member_names import hide, reveal
from strongroom.broker.people.records import Lookup, LookupName, Record, RecordKind
from strongroom.core.ids import PersonId

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PERSONS = st.sampled_from(["dana", "sam", "rina"]).map(PersonId)
RECORDS = st.builds(
    Record,
    kind=st.sampled_from(RecordKind),
    id=IDS,
    resource=TEXTS,
    persons=st.lists(PERSONS, max_size=3, unique=True).map(tuple),
    lookups=st.lists(st.builds(Lookup, st.sampled_from(LookupName), TEXTS), max_size=4).map(tuple),
)
KEYS = st.binary(min_size=32, max_size=32).map(AESGCM)
NONCES = st.binary(min_size=12, max_size=12)


@given(RECORDS, KEYS, NONCES)
def test_a_record_comes_back_as_it_was(record: Record, key: AESGCM, nonce: bytes) -> None:
    assert Record.open(record.kind, record.id, record.seal(key, nonce), key) == record


@given(RECORDS, KEYS, NONCES, st.data())
def test_any_changed_bit_is_refused(record: Record, key: AESGCM, nonce: bytes, data: st.DataObject) -> None:
    body = bytearray(record.seal(key, nonce))
    bit = data.draw(st.integers(0, len(body) * 8 - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordRefusedError):
        Record.open(record.kind, record.id, bytes(body), key)


@given(RECORDS, KEYS, KEYS, NONCES, IDS)
def test_another_key_id_or_kind_is_refused(
    record: Record, key: AESGCM, other: AESGCM, nonce: bytes, stranger: str
) -> None:
    body = record.seal(key, nonce)
    kind = RecordKind.GROUP if record.kind is RecordKind.USER else RecordKind.USER
    for given_kind, given_id, given_key in (
        (kind, record.id, key),
        (record.kind, stranger + "0", key),
        (record.kind, record.id, AESGCM(bytes(32)) if other is key else other),
    ):
        if given_key is not key and given_key.encrypt(nonce, b"", b"") == key.encrypt(nonce, b"", b""):
            continue
        with pytest.raises(RecordRefusedError):
            Record.open(given_kind, given_id, body, given_key)


@given(st.binary(max_size=200), KEYS)
def test_any_other_bytes_are_refused(body: bytes, key: AESGCM) -> None:
    with pytest.raises(RecordRefusedError):
        Record.open(RecordKind.USER, "0" * 32, body, key)


@given(RECORDS, KEYS)
def test_nothing_of_a_record_is_shown(record: Record, key: AESGCM) -> None:
    del key
    assert repr(record) == f"<Record {record.kind.value} {record.id}>"


@given(st.dictionaries(IDS, TEXTS, max_size=5), st.data())
def test_names_in_groups_fall_with_their_members_keys(names: dict[str, str], data: st.DataObject) -> None:
    keys = {member: AESGCM(bytes([number]) * 32) for number, member in enumerate(names)}
    group = json.dumps({"members": [{"value": member, "display": name} for member, name in names.items()]})
    hidden = hide("g" * 32, group, keys.get, lambda size: b"n" * size)
    for name in names.values():
        assert len(name) < 8 or json.dumps(name) not in hidden
    assert json.loads(reveal("g" * 32, hidden, keys.get)) == json.loads(group)
    erased = set(data.draw(st.lists(st.sampled_from(sorted(names)), unique=True))) if names else set()
    left = {member: key for member, key in keys.items() if member not in erased}
    shown = {m["value"]: m.get("display") for m in json.loads(reveal("g" * 32, hidden, left.get))["members"]}
    assert shown == {member: None if member in erased else name for member, name in names.items()}
    # A name moved into another group, or to another member, opens for neither.
    moved = json.loads(reveal("h" * 32, hidden, keys.get))["members"]
    assert all("display" not in member for member in moved)


@given(st.builds(Lookup, st.sampled_from(LookupName), TEXTS), st.builds(Lookup, st.sampled_from(LookupName), TEXTS))
def test_no_two_look_ups_are_filed_alike(one: Lookup, other: Lookup) -> None:
    assert (one == other) is (one.to_bytes() == other.to_bytes())
