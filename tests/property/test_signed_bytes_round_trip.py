"""Whatever canonical JSON holds comes back the same; whatever is changed in a signed envelope is refused."""

from __future__ import annotations

import json

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from strongroom.core.canonical import MAX_INTEGER, Json, decode, encode, parse
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import Envelope, pae, sign, verify
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.signature import Ed25519Signer

texts = st.text(st.characters(codec="utf-8"), max_size=12)
values: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
SIGNER = Ed25519Signer.from_seed(bytes(range(32)))
KIND = "application/vnd.strongroom.test.v1"


@given(values)
def test_a_value_comes_back(value: Json) -> None:
    data = encode(value)
    assert decode(data) == value
    assert encode(decode(data)) == data
    assert json.loads(data) == value


@given(values, values)
def test_different_values_have_different_bytes(one: Json, other: Json) -> None:
    # repr tells True from 1, which Python's own equality doesn't; it depends on the order of names, so sort first.
    def shape(value: Json) -> str:
        return repr(json.loads(json.dumps(value, sort_keys=True)))

    assert (encode(one) == encode(other)) == (shape(one) == shape(other))


@given(values, st.sampled_from([(", ", ": "), (",", ": ")]), st.booleans())
def test_any_other_spelling_is_refused(value: Json, separators: tuple[str, str], escaped: bool) -> None:  # noqa: FBT001 - hypothesis passes it
    data = json.dumps(value, separators=separators, ensure_ascii=escaped).encode()
    assume(data != encode(value))
    assert parse(data) == value
    with pytest.raises(MalformedError):
        decode(data)


@given(st.binary(max_size=200))
def test_bytes_are_canonical_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except MalformedError:
        return
    assert encode(value) == data


@given(st.binary(max_size=100))
def test_base64_has_one_spelling(data: bytes) -> None:
    assert from_base64(to_base64(data)) == data
    assert str(Digest.parse(str(Digest.of(data)))) == str(Digest.of(data))


@given(st.text(alphabet="ABab01+/=-_ \n", max_size=12))
def test_text_is_the_one_base64_or_refused(text: str) -> None:
    try:
        data = from_base64(text)
    except MalformedError:
        return
    assert to_base64(data) == text


@given(texts, st.binary(max_size=30), texts, st.binary(max_size=30))
def test_type_and_payload_never_run_together(kind: str, payload: bytes, other_kind: str, other: bytes) -> None:
    assume((kind, payload) != (other_kind, other))
    assert pae(kind, payload) != pae(other_kind, other)


@given(st.binary(max_size=64))
def test_an_envelope_comes_back_and_verifies(payload: bytes) -> None:
    envelope = Envelope.parse(sign(KIND, payload, SIGNER).to_bytes())
    assert verify(envelope, KIND, [SIGNER.public_key], threshold=1) == {SIGNER.public_key.key_id}
    assert envelope.payload == payload


@given(st.data())
def test_no_changed_byte_gets_another_payload_accepted(data: st.DataObject) -> None:
    original = sign(KIND, b'{"allow":false}', SIGNER)
    changed = bytearray(original.to_bytes())
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        envelope = Envelope.parse(bytes(changed))
        verify(envelope, KIND, [SIGNER.public_key], threshold=1)
    except StrongroomError:
        return
    # A change that still verifies changed the envelope's spelling only.
    assert (envelope.kind, envelope.payload) == (original.kind, original.payload)


@given(values)
def test_the_encoder_is_rfc_8785(value: Json) -> None:
    # Both ways of encoding, the one for ASCII names and the one for all others, against the reference implementation.
    assert encode(value) == rfc8785.dumps(value)


@given(st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=6), texts, max_size=6))
def test_ascii_names_are_sorted_and_escaped_as_rfc_8785_says(value: dict[str, Json]) -> None:
    assert encode(value) == rfc8785.dumps(value)
