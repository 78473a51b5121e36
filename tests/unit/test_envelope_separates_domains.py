"""A signature counts for one type, one payload and one distinct key; fewer than the threshold is none."""

from __future__ import annotations

import json

import pytest

from strongroom.core.canonical import decode
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import MAX_PAYLOAD, MAX_SIGNATURES, Envelope, Signature, pae, payload_type, sign, verify
from strongroom.core.errors import MalformedError
from strongroom.core.signature import Ed25519Signer, SignatureError

ONE, TWO, STRANGER = (Ed25519Signer.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
KIND = payload_type("request.v1")
KEYS = (ONE.public_key, TWO.public_key)


def test_the_signed_bytes_are_those_of_dsse() -> None:
    # The example of the DSSE v1 protocol document.
    assert (
        pae("http://example.com/HelloWorld", b"hello world")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    # Lengths count bytes, so no payload can imitate the end of a type.
    assert pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_enough_distinct_keys_verify() -> None:
    envelope = sign(KIND, b"{}", ONE, TWO)
    assert verify(envelope, KIND, KEYS, threshold=2) == {ONE.public_key.key_id, TWO.public_key.key_id}
    assert envelope.digest == Digest.of(b"{}")


def test_another_type_is_refused() -> None:
    with pytest.raises(SignatureError, match="isn't of type"):
        verify(sign(KIND, b"{}", ONE), payload_type("denial.v1"), KEYS, threshold=1)


def test_a_relabelled_envelope_is_refused() -> None:
    envelope = sign(KIND, b"{}", ONE)
    relabelled = Envelope(payload_type("denial.v1"), envelope.payload, envelope.signatures)
    with pytest.raises(SignatureError, match="doesn't verify"):
        verify(relabelled, relabelled.kind, KEYS, threshold=1)


def test_another_payload_is_refused() -> None:
    envelope = sign(KIND, b"{}", ONE)
    with pytest.raises(SignatureError, match="doesn't verify"):
        verify(Envelope(KIND, b"[]", envelope.signatures), KIND, KEYS, threshold=1)


def test_too_few_signatures_are_none() -> None:
    with pytest.raises(SignatureError, match="1 of the 2"):
        verify(sign(KIND, b"{}", ONE), KIND, KEYS, threshold=2)
    with pytest.raises(SignatureError, match="0 of the 1"):
        verify(sign(KIND, b"{}"), KIND, KEYS, threshold=1)


def test_one_key_counts_once() -> None:
    signature = sign(KIND, b"{}", ONE).signatures[0]
    with pytest.raises(SignatureError, match="1 of the 2"):
        verify(Envelope(KIND, b"{}", (signature, signature)), KIND, KEYS, threshold=2)
    assert len(sign(KIND, b"{}", ONE, ONE).signatures) == 1
    with pytest.raises(SignatureError, match="1 of the 2"):
        verify(sign(KIND, b"{}", ONE), KIND, (ONE.public_key, ONE.public_key), threshold=2)


def test_a_strangers_signature_is_not_counted() -> None:
    with pytest.raises(SignatureError, match="1 of the 2"):
        verify(sign(KIND, b"{}", ONE, STRANGER), KIND, KEYS, threshold=2)
    assert verify(sign(KIND, b"{}", STRANGER, ONE), KIND, KEYS, threshold=1) == {ONE.public_key.key_id}


def test_a_bad_signature_by_a_known_key_spoils_the_rest() -> None:
    good = sign(KIND, b"{}", ONE).signatures[0]
    forged = Signature(TWO.public_key.key_id, good.value)
    with pytest.raises(SignatureError, match="doesn't verify"):
        verify(Envelope(KIND, b"{}", (good, forged)), KIND, KEYS, threshold=1)


@pytest.mark.parametrize("threshold", [0, -1])
def test_a_threshold_below_one_is_refused(threshold: int) -> None:
    with pytest.raises(MalformedError, match="below one"):
        verify(sign(KIND, b"{}"), KIND, KEYS, threshold=threshold)


def test_an_envelope_reads_what_it_wrote() -> None:
    envelope = sign(KIND, b"\x00\xff", ONE, TWO)
    assert Envelope.parse(envelope.to_bytes()) == envelope
    assert decode(envelope.to_bytes()) == envelope.to_json()


def form(**changes: object) -> bytes:
    members: dict[str, object] = {"payloadType": KIND, "payload": "e30=", "signatures": []}
    return json.dumps({name: value for name, value in {**members, **changes}.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        form(payload=...),
        form(payloadType=...),
        form(signatures=...),
        form(extra=1),
        form(payload="e30"),
        form(payload=1),
        form(payload=to_base64(bytes(MAX_PAYLOAD + 1))),
        form(signatures={}),
        form(signatures=[{"keyid": "a"}]),
        form(signatures=[{"keyid": "a", "sig": "AA==", "alg": "none"}]),
        form(signatures=[{"keyid": "a", "sig": "AA=="}] * (MAX_SIGNATURES + 1)),
    ],
)
def test_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        Envelope.parse(data)


def test_nothing_is_signed_that_no_reader_takes() -> None:
    longest = sign(KIND, bytes(MAX_PAYLOAD), ONE, TWO)
    assert Envelope.parse(longest.to_bytes()) == longest
    with pytest.raises(MalformedError):
        sign(KIND, bytes(MAX_PAYLOAD + 1), ONE)
