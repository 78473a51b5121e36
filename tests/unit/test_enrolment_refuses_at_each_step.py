from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from simulators.attester import (
    NOW,
    ak_public_area,
    attester,
    authority_certificate,
    ek_certificate,
    ek_public_area,
    endorsement_private,
    enrolment_request,
    vendor_root,
)
from strongroom.attestation.chain import EkRoot, walk
from strongroom.attestation.enrolment import ANSWER_SECONDS, EnrolmentRequest, PendingEnrolment, begin, finish
from strongroom.attestation.errors import ChainRefusedError, EnrolmentRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.tpm.public_area import AK_ATTRIBUTES, EK_ATTRIBUTES, Attribute, KeyAttributesError
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretUseError

ROOT = EkRoot(vendor_root(), IsolationClass.MEASURED_HOST)
MIDDLE_KEY = ec.generate_private_key(ec.SECP256R1())
MIDDLE = authority_certificate("middle", "vendor root", key=MIDDLE_KEY)
LEAF_OF_MIDDLE = ek_certificate(issuer="middle", signer=MIDDLE_KEY)


def begun(request: EnrolmentRequest, at: int = NOW) -> PendingEnrolment:
    return begin(EnrolmentRequest.parse(request.to_bytes()), roots=[ROOT], at=at, random_bytes=os.urandom)


def test_the_right_answer_makes_a_record_once() -> None:
    pending = begun(enrolment_request())
    answer = bytes(pending.secret.reveal(TOKEN))
    record = finish(pending, answer, at=NOW + 1)
    assert (record.platform, record.enrolled) == (attester().record().platform, NOW + 1)
    assert record.isolation is IsolationClass.MEASURED_HOST
    with pytest.raises(SecretUseError):
        finish(pending, answer, at=NOW + 1)


def test_a_wrong_or_late_answer_is_refused_and_uses_the_credential_up() -> None:
    for wrong in (b"", bytes(32), bytes(33)):
        pending = begun(enrolment_request())
        with pytest.raises(EnrolmentRefusedError) as refused:
            finish(pending, wrong, at=NOW)
        assert refused.value.reason == "credential-not-opened"
        with pytest.raises(SecretUseError):
            finish(pending, wrong, at=NOW)
    pending = begun(enrolment_request())
    with pytest.raises(EnrolmentRefusedError) as refused:
        finish(pending, bytes(pending.secret.reveal(TOKEN)), at=NOW + ANSWER_SECONDS + 1)
    assert refused.value.reason == "enrolment-expired"


def test_a_chain_over_an_intermediate_is_walked_with_or_without_its_root() -> None:
    assert walk([LEAF_OF_MIDDLE, MIDDLE], [ROOT], NOW) == ROOT
    assert walk([LEAF_OF_MIDDLE, MIDDLE, vendor_root()], [ROOT], NOW) == ROOT


def chains() -> dict[str, list[bytes]]:
    stranger = ec.generate_private_key(ec.SECP256R1())

    def middle(**wrong: Any) -> list[bytes]:
        return [LEAF_OF_MIDDLE, authority_certificate("middle", "vendor root", key=MIDDLE_KEY, **wrong)]

    narrow = authority_certificate("narrow", "vendor root", key=stranger, path_length=0)
    below_narrow = authority_certificate("middle", "narrow", key=MIDDLE_KEY, signer=stranger)
    return {
        "empty": [],
        "too deep": [ek_certificate()] * 5,
        "missing intermediate": [LEAF_OF_MIDDLE],
        "wrong order": [MIDDLE, LEAF_OF_MIDDLE],
        "signed by a stranger": [ek_certificate(signer=stranger)],
        "self-made root of the same name": [
            ek_certificate(signer=stranger),
            authority_certificate("vendor root", "vendor root", key=stranger, signer=stranger),
        ],
        "leaf expired": [ek_certificate(days=99)],
        "issuer expired": middle(days=99),
        "issuer is no CA": middle(is_ca=False),
        "issuer may not sign": middle(can_sign=False),
        "path too long": [LEAF_OF_MIDDLE, below_narrow, narrow],
        "unknown critical extension": [ek_certificate(critical=True)],
    }


WHY = {
    "empty": "certificates below its root, not 0",
    "too deep": "certificates below its root, not 5",
    "missing intermediate": "doesn't lead to a pinned root",
    "wrong order": "isn't signed by the next one",
    "signed by a stranger": "doesn't lead to a pinned root",
    "self-made root of the same name": "doesn't lead to a pinned root",
    "leaf expired": "isn't valid at this time",
    "issuer expired": "isn't valid at this time",
    "issuer is no CA": "isn't a CA",
    "issuer may not sign": "may not sign certificates",
    "path too long": "longer than one of its CAs allows",
    "unknown critical extension": "critical extension",
}


@pytest.mark.parametrize("fault", WHY)
def test_a_faulty_chain_is_refused_for_its_fault(fault: str) -> None:
    with pytest.raises(ChainRefusedError, match=WHY[fault]):
        walk(chains()[fault], [ROOT], NOW)


def test_a_chain_is_judged_at_the_given_time() -> None:
    for at in (NOW - 101 * 86400, NOW + 266 * 86400):
        with pytest.raises(ChainRefusedError, match="valid at this time"):
            walk([ek_certificate()], [ROOT], at)


def test_without_a_root_nothing_is_believed() -> None:
    with pytest.raises(ChainRefusedError):
        walk([ek_certificate()], [], NOW)


@pytest.mark.parametrize(
    "certificate",
    [ek_certificate(usage=None), ek_certificate(usage="1.3.6.1.5.5.7.3.2"), ek_certificate(tpm=None)],
    ids=["no usage", "a client's usage", "no TPM attributes"],
)
def test_a_certificate_for_something_else_is_refused(certificate: bytes) -> None:
    with pytest.raises(ChainRefusedError):
        begun(enrolment_request(certificate))


def test_the_certificate_must_be_for_this_endorsement_key() -> None:
    other = bytearray(ek_public_area(endorsement_private().public_key()))
    other[-1] ^= 2
    with pytest.raises(EnrolmentRefusedError) as refused:
        begun(enrolment_request(ek_public=bytes(other)))
    assert refused.value.reason == "ek-not-certified"


@pytest.mark.parametrize("missing", [1, 4, 5, 16, 18])
def test_an_attestation_key_without_an_attribute_is_refused(missing: int) -> None:
    area = ak_public_area(attester().key.public_key(), AK_ATTRIBUTES & ~(1 << missing))
    with pytest.raises(KeyAttributesError):
        begun(enrolment_request(ak_public=area))


@pytest.mark.parametrize("extra", [Attribute.DECRYPT, Attribute.X509_SIGN])
def test_an_attestation_key_that_does_more_is_refused(extra: Attribute) -> None:
    area = ak_public_area(attester().key.public_key(), AK_ATTRIBUTES | extra)
    with pytest.raises(KeyAttributesError):
        begun(enrolment_request(ak_public=area))


def test_keys_in_the_wrong_roles_are_refused() -> None:
    area = ek_public_area(endorsement_private().public_key())
    with pytest.raises(KeyAttributesError):
        begun(enrolment_request(ak_public=area))
    with pytest.raises(KeyAttributesError):
        begun(enrolment_request(ek_public=attester().public.raw))
    signing = ek_public_area(endorsement_private().public_key(), EK_ATTRIBUTES | Attribute.SIGN)
    with pytest.raises(KeyAttributesError):
        begun(enrolment_request(ek_public=signing))


def test_bytes_that_are_not_certificates_are_malformed() -> None:
    for junk in (b"", b"\x30\x00", vendor_root()[:-1], vendor_root() + b"\0", bytes(8193)):
        with pytest.raises(StrongroomError):
            walk([junk], [ROOT], NOW)
        with pytest.raises(MalformedError):
            walk([ek_certificate()], [replace(ROOT, certificate=junk)], NOW)
