"""Quotes that real TPMs made: a virtual TPM of Google Compute Engine, and an RSA one from Confidential Containers."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from strongroom.attestation.errors import BadQuoteSignatureError
from strongroom.attestation.tpm import wire
from strongroom.attestation.tpm.public_area import PublicArea
from strongroom.attestation.tpm.quote import Quote, pcr_digest, sha256_only
from strongroom.attestation.tpm.signature import TpmSignature
from strongroom.core.errors import StrongroomError
from support.vectors import vectors_folder


def test_the_rsa_quote_is_genuine_and_its_pcrs_match() -> None:
    whole = json.loads((vectors_folder("attestation/tpm") / "tpm-rsa-quote.json").read_bytes())
    key = load_der_public_key(base64.b64decode(whole["ak_public"], validate=True))
    assert isinstance(key, rsa.RSAPublicKey)
    message = base64.b64decode(whole["tpm_quote"]["message"], validate=True)
    signature = TpmSignature.parse(base64.b64decode(whole["tpm_quote"]["signature"], validate=True))
    signature.verify(key, message)
    quote = Quote.parse(message)
    values = tuple(bytes.fromhex(text) for text in whole["tpm_quote"]["pcrs"])
    assert sha256_only(quote)
    assert quote.selections[0].pcrs == tuple(range(24))
    assert quote.pcr_digest == pcr_digest(values)
    for bit in range(len(message) * 8):
        flipped = bytearray(message)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadQuoteSignatureError):
            signature.verify(key, bytes(flipped))
    for size in range(len(message)):
        with pytest.raises(StrongroomError):
            Quote.parse(message[:size])


def members(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Walk one level of a protocol buffer: enough to take this file apart."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            assert tag & 7 == 2
            size = varint()
            yield tag >> 3, data[at : at + size]
            at += size


def nested(data: bytes, number: int) -> list[bytes]:
    return [value for field, value in members(data) if field == number and isinstance(value, bytes)]


def test_the_compute_engine_quote_is_genuine_for_its_nonce_in_the_sha256_bank() -> None:
    whole = (vectors_folder("attestation/tpm") / "gce-cos-85-nonce9009.pb").read_bytes()
    public = PublicArea.parse(nested(whole, 1)[0])
    public.require_attestation_key()
    banks = []
    for entry in nested(whole, 2):
        message, raw_signature, pcrs = (nested(entry, field)[0] for field in (1, 2, 3))
        TpmSignature.parse(raw_signature).verify(public.key, message)
        quote = Quote.parse(message)
        assert quote.qualifying_data == bytes.fromhex("9009")
        banks.append(quote.selections[0].bank)
        if sha256_only(quote):
            held = {}
            for pair in nested(pcrs, 2):
                # A protocol buffer leaves zero out: PCR 0 has no number.
                named = dict(members(pair))
                held[int(named.get(1, 0))] = named[2]
            values = tuple(value for _, value in sorted(held.items()) if isinstance(value, bytes))
            assert quote.selections[0].pcrs == tuple(sorted(held))
            assert quote.pcr_digest == pcr_digest(values)
    assert wire.ALG_SHA256 in banks
    assert len(banks) == 3
