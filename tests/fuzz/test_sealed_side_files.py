"""Whatever bytes lie beside a sealed model, or in a keyring: a value or a StrongroomError, never otherwise."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.keys.adapters.identity_file import create_identity, open_identity
from strongroom.keys.recipient import parse_public
from strongroom.loaders.keyring import Keyring
from strongroom.loaders.opening import split
from strongroom.sealing.canary import Canary
from strongroom.sealing.journal import Begun, Journal
from strongroom.sealing.recipients import Recipients, Stanza, StanzaKind
from support.examples import examples
from support.sealed import CountedRandom, data_key

ANYTHING = st.binary(max_size=400) | st.text(max_size=200).map(str.encode)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
COMMITMENT = b"c" * 32
STANZA = Stanza(kind=StanzaKind.HPKE_MLKEM768_X25519, recipient=Digest.of(b"one"), ciphertext=b"x" * 1168)
RECIPIENTS = Recipients.of((STANZA,), commitment=COMMITMENT, data_key=data_key()).to_bytes()
MEMBERS: dict[str, Json] = {"v": 1, "commitment": to_base64(COMMITMENT), "code": to_base64(bytes(32)), "stanzas": []}
CANARY: dict[str, Json] = {"name": "greedy", "kind": "tokens", "input": [1, 2], "output": [3]}


@given(data=ANYTHING)
@settings(max_examples=examples(300), deadline=None)
def test_recipients_of_arbitrary_bytes(data: bytes) -> None:
    with pytest.raises(StrongroomError):
        Recipients.parse(data)


@given(member=st.sampled_from([*MEMBERS, "other"]), value=JSON)
@settings(max_examples=examples(300), deadline=None)
def test_recipients_with_an_arbitrary_member_are_refused_or_mean_exactly_their_bytes(member: str, value: Json) -> None:
    data = encode(MEMBERS | {"stanzas": [STANZA.to_json()]} | {member: value})
    with contextlib.suppress(StrongroomError):
        assert Recipients.parse(data).to_bytes() == data


@given(bit=st.integers(0, 8 * len(RECIPIENTS) - 1))
@settings(max_examples=examples(300), deadline=None)
def test_any_flipped_bit_of_the_recipients_is_refused(bit: int) -> None:
    changed = bytearray(RECIPIENTS)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StrongroomError):
        Recipients.parse(bytes(changed)).verify(data_key())


@given(member=st.sampled_from([*CANARY, "vector", "tolerance", "other"]), value=JSON)
@settings(max_examples=examples(300), deadline=None)
def test_a_canary_with_an_arbitrary_member(member: str, value: Json) -> None:
    with contextlib.suppress(StrongroomError), Fields(CANARY | {member: value}, "canary") as fields:
        canary = Canary.read(fields)
        canary.check_tokens(canary.output)


@given(vector=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6))
@settings(max_examples=examples(300), deadline=None)
def test_an_arbitrary_vector_matches_or_is_a_mismatch(vector: list[float]) -> None:
    canary = Canary.of_vector("v", [1], [0.5, -1.0, 2.0], tolerance=1000)
    with contextlib.suppress(StrongroomError):
        canary.check_vector(vector)
        assert len(vector) == 3


@given(data=ANYTHING, cut=st.integers(0, 200))
@settings(max_examples=examples(300), deadline=None)
def test_a_journal_ends_where_it_stops_being_ours(data: bytes, cut: int) -> None:
    journal = Journal(data_key(), b"context")
    record = Begun(name="a", object_id=b"i" * 16, size=3, changed=4)
    genuine = journal.encode(record, 0, CountedRandom())
    assert journal.decode(genuine + data) == ([record], len(genuine))
    assert journal.decode(genuine[: min(cut, len(genuine) - 1)]) == ([], 0)
    assert journal.decode(data) == ([], 0)
    assert Journal(data_key(8), b"context").decode(genuine) == ([], 0)
    assert Journal(data_key(), b"another version").decode(genuine) == ([], 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.touch(mode=0o600)
    return path


@given(data=ANYTHING | JSON.map(encode))
@settings(max_examples=examples(200), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_identity_and_keyring_files_of_arbitrary_bytes(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    with pytest.raises(StrongroomError):
        open_identity(file)
    with pytest.raises(StrongroomError):
        Keyring.load(file)


@given(text=st.text(max_size=60))
@settings(max_examples=examples(200), deadline=None)
def test_names_of_keys_and_places_are_read_or_refused(text: str) -> None:
    for read in (parse_public, split):
        with contextlib.suppress(StrongroomError):
            read(text)


def test_an_identity_that_was_changed_is_refused_or_is_the_same_key(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    public = create_identity(path, CountedRandom(), passphrase=None)
    genuine: Any = path.read_bytes()
    for at in range(0, len(genuine), 7):
        changed = bytearray(genuine)
        changed[at] ^= 1
        path.write_bytes(changed)
        # X25519 ignores five bits of a private key (RFC 7748 section 5).
        with contextlib.suppress(StrongroomError):
            assert open_identity(path).public == public
