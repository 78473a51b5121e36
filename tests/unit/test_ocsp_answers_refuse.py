"""An OCSP answer counts for one certificate, from its issuer or a responder that the issuer delegated, in its time."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate, ReasonFlags, ocsp

from simulators.nvidia_chain import (
    DAY,
    NOW,
    Authority,
    Shape,
    answer,
    device,
    issued,
    maker,
    responder,
    revocation_list,
)
from strongroom.attestation import ocsp as ocsp_answers
from strongroom.attestation.chain import Path, walk
from strongroom.attestation.errors import CertificateRevokedError
from strongroom.attestation.ocsp import MAX_ANSWER, MAX_ANSWERS, MAX_SINGLES, Answered, OcspAnswers, load_answer
from strongroom.attestation.revocation import RevocationLists
from strongroom.attestation.trust_anchors import Vendor
from strongroom.core.errors import MalformedError

DEVICE = device()
ISSUER = maker().provisioner
REVOKED = ocsp.OCSPCertStatus.REVOKED
UNKNOWN = ocsp.OCSPCertStatus.UNKNOWN


def looked_up(*answers: bytes, at: int = NOW) -> Answered | None:
    return OcspAnswers.load(answers).look_up(DEVICE.factory.certificate, ISSUER.certificate, at)


def told(**said: object) -> bytes:
    return answer(DEVICE.factory, ISSUER, **said)  # type: ignore[arg-type]  # names of its arguments


@pytest.mark.parametrize("hashed", [hashes.SHA1(), hashes.SHA256(), hashes.SHA384()])  # noqa: S303 - names an issuer
def test_the_issuers_own_answer_counts(hashed: hashes.HashAlgorithm) -> None:
    assert looked_up(told(hashed=hashed)) == Answered("good", NOW + DAY)


def test_a_delegated_responders_answer_counts() -> None:
    assert looked_up(told(signer=responder(ISSUER))) == Answered("good", NOW + DAY)


@pytest.mark.parametrize(
    "signer",
    [
        responder(ISSUER, purposes=False),
        responder(ISSUER, end=NOW - 1),
        responder(ISSUER, begin=NOW + 1),
        responder(maker().family),
        issued(Shape(name="OCSP responder", ca=False, signs=True)),
        issued(Shape(name="NVIDIA GH100 Provisioner ICA 1")),
    ],
    ids=["purpose", "ended", "early", "of-another-issuer", "nobody's", "of-the-same-name"],
)
def test_an_answer_by_anybody_else_does_not_count(signer: Authority) -> None:
    assert looked_up(told(signer=signer)) is None
    assert looked_up(told(signer=signer, status=REVOKED)) is None


def test_an_answer_outside_its_time_or_without_an_end_does_not_count() -> None:
    assert looked_up(told(at=NOW + 1)) is None
    assert looked_up(told(until=NOW - 1)) is None
    assert looked_up(told(until=None)) is None
    assert looked_up(told(until=NOW)) == Answered("good", NOW)


def test_an_answer_for_another_certificate_does_not_count() -> None:
    assert looked_up(answer(device(pdi=bytes(7) + b"\1").factory, ISSUER)) is None


def test_an_issuer_is_told_by_its_name_and_its_key() -> None:
    renamed = issued(Shape(name="NVIDIA GH100 Provisioner ICA 2"), key=ISSUER.key)
    # The same key and the same serial number, under another name.
    assert looked_up(answer(device(issuer=renamed).factory, renamed)) is None
    rekeyed = issued(Shape(name="NVIDIA GH100 Provisioner ICA 1"))
    assert looked_up(answer(DEVICE.factory, rekeyed)) is None


def test_an_answer_with_a_critical_extension_does_not_count() -> None:
    assert looked_up(told(critical=True)) is None


def test_an_answer_by_a_responder_that_was_revoked_does_not_count() -> None:
    signer = responder(ISSUER)
    answers, lists = OcspAnswers.load([told(signer=signer)]), RevocationLists.load([revocation_list(ISSUER, signer)])
    certificate, issuer = DEVICE.factory.certificate, ISSUER.certificate
    assert answers.look_up(certificate, issuer, NOW, lists=RevocationLists.load([revocation_list(ISSUER)])) is not None
    assert answers.look_up(certificate, issuer, NOW, lists=lists) is None


def test_what_is_not_good_counts_before_what_is() -> None:
    held = told(status=REVOKED, reason=ReasonFlags.certificate_hold)
    for bad, status in ((held, "on hold"), (told(status=REVOKED), "revoked"), (told(status=UNKNOWN), "unknown")):
        for answers in ((bad, told()), (told(), bad)):
            found = looked_up(*answers)
            assert found is not None
            assert found.status.startswith(status)
            assert not found.good


def test_a_revocation_counts_for_good_and_a_hold_while_it_is_current() -> None:
    old = {"at": NOW - 9 * DAY, "until": NOW - 8 * DAY, "status": REVOKED}
    stale = looked_up(told(**old))
    assert stale is not None
    assert not stale.good
    assert looked_up(told(**old, reason=ReasonFlags.certificate_hold)) is None


def walked() -> Path:
    made = maker()
    chain = (DEVICE.attestation, DEVICE.factory, made.provisioner, made.family)
    return walk([one.der for one in chain], made.anchors.of(Vendor.NVIDIA_DEVICE), NOW)


def test_a_path_is_looked_up_certificate_by_certificate() -> None:
    path = OcspAnswers.load([told(), answer(maker().family, maker().root, until=NOW + 60)]).of_path(walked(), NOW)
    assert path.looked_up == (False, True, False, True)
    assert path.endorsed_until == NOW + 60
    for status, reason in ((REVOKED, None), (REVOKED, ReasonFlags.certificate_hold), (UNKNOWN, None)):
        with pytest.raises(CertificateRevokedError) as caught:
            OcspAnswers.load([told(status=status, reason=reason)]).of_path(walked(), NOW)
        assert caught.value.seen


def test_what_is_no_answer_is_refused() -> None:
    for data in (b"", b"0", b"\x30\x03\x0a\x01\x00", bytes(MAX_ANSWER + 1), told()[:-1], told() + b"\0"):
        with pytest.raises(MalformedError):
            load_answer(data)
    with pytest.raises(MalformedError):
        OcspAnswers.load([told()] * (MAX_ANSWERS + 1))


def test_a_responder_that_can_not_answer_says_nothing() -> None:
    busy = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    assert looked_up(busy.public_bytes(Encoding.DER)) is None


def test_no_flipped_bit_of_an_answer_makes_it_good() -> None:
    whole = told(status=REVOKED)
    for bit in range(len(whole) * 8):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            found = looked_up(bytes(changed))
        except MalformedError:
            continue
        assert found is None or not found.good


def element(tag: int, contents: bytes) -> bytes:
    """Write one element of DER."""
    size = len(contents)
    written = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (written if size < 0x80 else bytes([0x80 | len(written)]) + written) + contents


def elements(data: bytes) -> list[bytes]:
    """Split DER into its elements."""
    found = []
    while data:
        longer = data[1] & 0x7F if data[1] & 0x80 else 0
        size = int.from_bytes(data[2 : 2 + longer], "big") if longer else data[1]
        found.append(data[: 2 + longer + size])
        data = data[2 + longer + size :]
    return found


def contents(one: bytes) -> bytes:
    """Return what an element holds."""
    return one[2 + (one[1] & 0x7F if one[1] & 0x80 else 0) :]


def naming(der: bytes, times: int) -> bytes:
    """Let an answer name its certificate several times. Its signature doesn't hold any more."""
    said = ocsp.load_der_ocsp_response(der).tbs_response_bytes
    *head, singles = elements(contents(said))
    more = element(0x30, b"".join((*head, element(0x30, contents(singles) * times))))
    rest = der[der.index(said) + len(said) :]
    basic = bytes.fromhex("06092b0601050507300101") + element(0x04, element(0x30, more + rest))
    return element(0x30, element(0x0A, b"\0") + element(0xA0, element(0x30, basic)))


@pytest.mark.parametrize("signer", [None, responder(ISSUER)], ids=["issuer", "responder"])
def test_an_answer_that_names_a_certificate_often_is_verified_once(
    monkeypatch: pytest.MonkeyPatch, signer: Authority | None
) -> None:
    # A verification takes most of a millisecond, and a bundle has room for 1,024 answers that say 64 things each.
    looked_at: list[ocsp.OCSPResponse] = []
    signed = ocsp_answers._signed

    def counted(one: ocsp.OCSPResponse, certificate: Certificate) -> bool:
        looked_at.append(one)
        return signed(one, certificate)

    monkeypatch.setattr(ocsp_answers, "_signed", counted)
    assert looked_up(naming(told(signer=signer), 1)) == looked_up(told(signer=signer)) == Answered("good", NOW + DAY)
    looked_at.clear()
    assert looked_up(*[naming(told(signer=signer), MAX_SINGLES)] * 3) is None
    assert len(looked_at) == 3
