"""Hostile changes of real TPM evidence: flipped, cut and inflated."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

import pytest

from strongroom.attestation.bindings import RecordedBinding
from strongroom.attestation.containers.tpm import read
from strongroom.attestation.endorsements import Endorsements
from strongroom.attestation.errors import BadSignatureError
from strongroom.attestation.tpm.statement import TpmStatement
from strongroom.attestation.trust_anchors import vendor_anchors
from strongroom.attestation.verifier import Genuine
from strongroom.attestation.verifiers.tpm2 import Tpm2Verifier, TpmEvidence
from strongroom.core.errors import StrongroomError
from support.hostile import flips
from support.vectors import vectors_folder

AT = 1_795_000_000
FILES = ("gce-cos-85-nonce9009.pb", "tpm-rsa-quote.json")
VERIFIER = Tpm2Verifier()
ENDORSEMENTS = Endorsements(anchors=vendor_anchors())


def whole(name: str) -> bytes:
    return (vectors_folder("attestation/tpm") / name).read_bytes()


def statement(name: str) -> TpmStatement:
    contained = read(whole(name))
    assert contained is not None
    return TpmStatement.parse(contained.items[0].body)


def judged(one: TpmStatement) -> Genuine[TpmEvidence]:
    return VERIFIER.genuine(TpmEvidence(one), RecordedBinding(), ENDORSEMENTS, AT)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_the_quote_is_a_bad_signature(name: str) -> None:
    honest = statement(name)
    for changed in flips(honest.quote):
        with pytest.raises(BadSignatureError):
            judged(replace(honest, quote=changed))


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_signature_and_values_is_refused(name: str) -> None:
    honest = statement(name)
    for changed in flips(honest.signature):
        with pytest.raises(StrongroomError):
            judged(replace(honest, signature=changed))
    for number, value in honest.pcrs.items():
        for changed in flips(value, 11):
            with pytest.raises(StrongroomError):
                judged(replace(honest, pcrs={**honest.pcrs, number: changed}))


def test_every_flipped_bit_of_a_bare_key_is_refused() -> None:
    honest = statement(FILES[1])
    for changed in flips(honest.ak_public):
        with pytest.raises(StrongroomError):
            judged(replace(honest, ak_public=changed))


def test_a_changed_key_beside_its_certificate_is_refused_or_changes_nothing() -> None:
    honest = statement(FILES[0])
    proven = judged(honest)
    for changed in flips(honest.ak_public, 3):
        with suppress(StrongroomError):
            # An attribute that nobody asks for: the certificate vouches for the key, and for nothing beside it.
            other = judged(replace(honest, ak_public=changed))
            assert (other.hardware_id, other.isolation) == (proven.hardware_id, proven.isolation)


def test_every_flipped_bit_of_the_certificate_is_refused() -> None:
    honest = statement(FILES[0])
    certificate = honest.ak_certificates[0]
    for changed in flips(certificate, 11):
        with pytest.raises(StrongroomError):
            judged(replace(honest, ak_certificates=(changed,)))


def test_a_changed_log_is_refused_or_says_nothing_else_of_what_counts() -> None:
    honest = statement(FILES[0])
    proven = judged(honest)
    refused = 0
    for changed in flips(honest.event_log, 499):
        try:
            other = judged(replace(honest, event_log=changed))
        except StrongroomError:
            refused += 1
            continue
        # Types and data aren't extended: what they say may be lost, and never becomes another thing that is believed.
        assert other.measurements == proven.measurements
        assert other.details["secure boot"] in {"enabled", "unknown"}
        texts, known = (one.statement.found.booted.texts for one in (other, proven) if one.statement.found)
        assert set(texts) <= set(known)
    assert refused > 20


@pytest.mark.parametrize("name", FILES)
def test_a_cut_file_is_refused_or_proves_less(name: str) -> None:
    data = whole(name)
    proven = judged(statement(name))
    for size in range(0, len(data), 13):
        with suppress(StrongroomError):
            contained = read(data[:size])
            if contained is None:
                continue
            # A protocol buffer may end after any field, the last of which vouch for the key.
            other = VERIFIER.genuine(VERIFIER.parse(contained.items[0].body), RecordedBinding(), ENDORSEMENTS, AT)
            assert not other.isolation.at_least(proven.isolation) or name == FILES[1]
            assert size > len(data) - 1500


@pytest.mark.parametrize("name", FILES)
def test_inflated_lengths_are_refused_in_no_time(name: str) -> None:
    data = whole(name)
    nonce = judged(statement(name)).bound.seen
    begun = time.perf_counter()
    for place in range(0, len(data), 499):
        for filler in (b"\xff" * 4, b"\x7f" + b"\xff" * 3, b"\xff" * 10):
            changed = data[:place] + filler + data[place + len(filler) :]
            with suppress(StrongroomError):
                contained = read(changed)
                if contained is not None:
                    parsed = VERIFIER.parse(contained.items[0].body)
                    assert VERIFIER.genuine(parsed, RecordedBinding(), ENDORSEMENTS, AT).bound.seen == nonce
    assert time.perf_counter() - begun < 20
