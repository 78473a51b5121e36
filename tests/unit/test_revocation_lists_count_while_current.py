from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from simulators.tpm_chain import Authority
from strongroom.attestation.chain import walk
from strongroom.attestation.errors import CertificateRevokedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.revocation import MAX_LIST, NO_LISTS, RevocationLists, load_list
from strongroom.attestation.trust_anchors import TrustAnchor, Vendor
from strongroom.core.errors import MalformedError
from support.certificates import usage

NOW = 1_795_000_000
DAY = 86400
DELTA = x509.DeltaCRLIndicator(1)
PART = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=True,
    only_contains_ca_certs=False,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)


@cache
def root() -> Authority:
    return Authority.make("root")


@cache
def middle() -> Authority:
    return Authority.make("middle", root())


@cache
def leaf() -> bytes:
    return middle().certify(ec.generate_private_key(ec.SECP256R1()))


def listed(
    issuer: Authority,
    *ders: bytes,
    days: tuple[float, float] = (-1, 1),
    name: str = "",
    signer: Any = None,
    extension: x509.ExtensionType | None = None,
    critical: bool = True,
) -> bytes:
    """Make a list, right or wrong."""
    now = datetime.fromtimestamp(NOW, UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else issuer.certificate.subject
    builder = x509.CertificateRevocationListBuilder().issuer_name(subject)
    builder = builder.last_update(now + timedelta(days=days[0])).next_update(now + timedelta(days=days[1]))
    for der in ders:
        serial = x509.load_der_x509_certificate(der).serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - timedelta(days=2)).build())
    if extension is not None:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer or issuer.key, SHA256()).public_bytes(Encoding.DER)


def walked(*lists: bytes, at: int = NOW) -> tuple[tuple[bool, ...], int]:
    anchor = TrustAnchor(Vendor.TPM, root().der, IsolationClass.MEASURED_HOST)
    path = walk([leaf(), middle().der], [anchor], at, lists=RevocationLists.load(lists))
    return path.looked_up, path.endorsed_until


def test_a_current_list_of_the_issuer_is_a_look_up_and_an_end() -> None:
    assert walked()[0] == (False, False)
    assert walked(listed(middle()), listed(root(), days=(-1, 3))) == ((True, True), NOW + DAY)
    assert walked(listed(root(), days=(-1, 3))) == ((False, True), NOW + 3 * DAY)
    assert walked(listed(middle(), extension=x509.CRLNumber(7), critical=False))[0] == (True, False)
    assert NO_LISTS.look_up(middle().certificate, root().certificate, NOW) is None


def test_whatever_is_listed_is_refused() -> None:
    for lists in (
        (listed(middle(), leaf()),),
        (listed(root(), middle().der),),
        (listed(root()), listed(middle()), listed(middle(), leaf())),
        (listed(middle(), leaf()), listed(middle(), days=(-0.1, 9))),
    ):
        with pytest.raises(CertificateRevokedError) as refused:
            walked(*lists)
        assert refused.value.reason == "certificate-revoked"
        assert refused.value.seen == "revoked 2026-11-16T11:06:40Z"


@pytest.mark.parametrize(
    "other",
    [
        listed(middle(), leaf(), days=(-9, -1)),
        listed(middle(), leaf(), days=(1, 9)),
        listed(middle(), leaf(), name="another CA"),
        listed(middle(), leaf(), signer=root().key),
        listed(root(), leaf(), name="middle"),
        listed(root(), leaf()),
        listed(middle(), leaf(), extension=DELTA),
        listed(middle(), leaf(), extension=PART),
    ],
    ids=["ended", "not yet", "other name", "other signer", "stranger's", "parent's", "delta", "partial"],
)
def test_a_list_that_is_not_the_issuers_current_whole_one_says_nothing(other: bytes) -> None:
    assert walked(other)[0][0] is False
    assert walked(other, listed(middle()))[0][0] is True


def test_a_list_counts_from_its_first_second_to_its_last() -> None:
    names = listed(middle(), leaf())
    for at in (NOW - DAY, NOW, NOW + DAY):
        with pytest.raises(CertificateRevokedError):
            walked(names, at=at)
    for at in (NOW - DAY - 1, NOW + DAY + 1):
        assert walked(names, at=at)[0] == (False, False)


def test_the_newest_of_two_clean_lists_says_how_long() -> None:
    assert walked(listed(middle(), days=(-1, 1)), listed(middle(), days=(-1, 5)))[1] == NOW + 5 * DAY


def test_a_ca_that_may_not_sign_lists_signs_none() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "no lists")])
    now = datetime.fromtimestamp(NOW, UTC)
    for key_usage in (usage(sign=False, certificates=True, lists=False), None):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(7).not_valid_before(now).not_valid_after(now + timedelta(days=1))
        builder = builder.add_extension(key_usage, critical=True) if key_usage else builder
        issuer = Authority(builder.sign(key, SHA256()), key)
        lists = RevocationLists.load([listed(issuer, issuer.der)])
        assert lists.look_up(issuer.certificate, issuer.certificate, NOW) is None


def test_every_flipped_bit_of_a_list_takes_its_word_or_is_malformed() -> None:
    der = listed(middle(), leaf())
    # How many of the signature's last bits are unused is said outside of what is signed, and changes nothing signed.
    unused = len(der) - len(load_list(der).signature) - 1
    for bit in (bit for bit in range(len(der) * 8) if bit // 8 != unused):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            lists = RevocationLists.load([bytes(changed)])
        except MalformedError:
            continue
        assert lists.look_up(x509.load_der_x509_certificate(leaf()), middle().certificate, NOW) is None


def test_bytes_that_are_not_lists_are_malformed() -> None:
    der = listed(root())
    for junk in (b"", b"\x30\x00", der[:-1], der + b"\0", root().der, bytes(MAX_LIST + 1)):
        with pytest.raises(MalformedError):
            load_list(junk)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_a_list_or_our_error(data: bytes) -> None:
    with pytest.raises(MalformedError):
        load_list(data)
