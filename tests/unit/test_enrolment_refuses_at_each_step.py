from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from simulators.attester import (
    NOW,
    ak_public_area,
    attester,
    authority_certificate,
    ek_certificate,
    ek_public_area,
    endorsement_private,
    enrolment_request,
    tpm_root,
    vendor_root,
)
from strongroom.attestation.enrolment import ANSWER_SECONDS, EnrolmentRequest, PendingEnrolment, begin, finish
from strongroom.attestation.errors import CertificateRevokedError, ChainRefusedError, EnrolmentRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.revocation import RevocationLists
from strongroom.attestation.tpm.public_area import AK_ATTRIBUTES, EK_ATTRIBUTES, Attribute, KeyAttributesError
from strongroom.attestation.trust_anchors import Vendor
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretUseError

ROOT = tpm_root(vendor_root(), IsolationClass.MEASURED_HOST)
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
        finish(pending, bytes(pending.secret.reveal(TOKEN)), at=NOW + ANSWER_SECONDS)
    assert refused.value.reason == "enrolment-expired"


def test_a_chain_without_a_listed_root_is_refused() -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    for chain in ((ek_certificate(signer=stranger),), (ek_certificate(issuer="middle"),), (MIDDLE, LEAF_OF_MIDDLE)):
        with pytest.raises(ChainRefusedError):
            begun(enrolment_request(*chain))
    assert begun(enrolment_request(LEAF_OF_MIDDLE, MIDDLE)).facts.anchor == ROOT.digest


def test_an_endorsement_key_that_its_maker_took_back_is_refused() -> None:
    now, issuer = datetime.fromtimestamp(NOW, UTC), x509.load_der_x509_certificate(MIDDLE)
    serial = x509.load_der_x509_certificate(LEAF_OF_MIDDLE).serial_number
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(now - timedelta(days=1))
    builder = builder.next_update(now + timedelta(days=1)).add_revoked_certificate(entry)
    lists = RevocationLists.load([builder.sign(MIDDLE_KEY, SHA256()).public_bytes(Encoding.DER)])
    request = enrolment_request(LEAF_OF_MIDDLE, MIDDLE)
    with pytest.raises(CertificateRevokedError):
        begin(request, roots=[ROOT], at=NOW, random_bytes=os.urandom, lists=lists)


@pytest.mark.parametrize("vendor", [vendor for vendor in Vendor if vendor is not Vendor.TPM])
def test_only_a_tpm_makers_root_vouches_for_an_endorsement_key(vendor: Vendor) -> None:
    # Google certifies attestation keys too: evidence by certificate is another matter than enrolment.
    with pytest.raises(ChainRefusedError):
        begin(enrolment_request(), roots=[replace(ROOT, vendor=vendor)], at=NOW, random_bytes=os.urandom)


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
