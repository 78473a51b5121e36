"""OCSP answers (RFC 6960), handed in with the collateral and never fetched.

An answer counts for one certificate, and only if its issuer signed it or delegated a responder to (section 4.2.2.2),
and while it is current. What an answer says of a revoked certificate counts for good; a certificate that is on hold is
refused like a revoked one, and so is one that its issuer's responder doesn't know.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, Hash, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.attestation.chain import Path, signed_by
from strongroom.attestation.errors import CertificateRevokedError
from strongroom.attestation.revocation import NO_LISTS, RevocationLists
from strongroom.core.clock import Instant, format_instant
from strongroom.core.errors import MalformedError

_GOOD: Final = "good"
MAX_ANSWER: Final = 64 * 1024
MAX_ANSWERS: Final = 1024
MAX_SINGLES: Final = 64
"""Certificates that one answer speaks of; responders write one."""
_HASHES: Final = (SHA256, SHA384, SHA512)
_NAMING_HASHES: Final = (SHA1, SHA256, SHA384, SHA512)
"""In a certificate's identifier a hash only names the issuer; nothing is believed for it."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What the issuer's answers say of one certificate."""

    status: str
    """``good``, ``revoked`` and since when, ``on hold`` or ``unknown``."""
    until: Instant
    """The answer's ``nextUpdate``; where it has none, and the certificate isn't good, the instant that was asked."""

    @property
    def good(self) -> bool:
        """True for the one status that lets a certificate be relied on."""
        return self.status == _GOOD


@dataclass(frozen=True, slots=True)
class OcspAnswers:
    """The answers at hand."""

    answers: tuple[ocsp.OCSPResponse, ...]

    @classmethod
    def load(cls, ders: Iterable[bytes]) -> OcspAnswers:
        """Parse DER answers; those in which a responder only says that it can't answer are left out.

        :raises MalformedError: too many, too long or not an answer.
        """
        loaded = tuple(map(load_answer, ders))
        if len(loaded) > MAX_ANSWERS:
            raise MalformedError(f"at most {MAX_ANSWERS} OCSP answers are read")
        return cls(tuple(one for one in loaded if one.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL))

    def look_up(
        self, certificate: x509.Certificate, issuer: x509.Certificate, at: Instant, *, lists: RevocationLists = NO_LISTS
    ) -> Answered | None:
        """Look one certificate up; None when no answer counts.

        An answer that isn't good counts before one that is: an older answer must not hide a newer one.
        """
        found = None
        for answer in self.answers:
            said = [_told(single, at) for single in answer.responses if _names(single, certificate, issuer)]
            # One signature holds for all that an answer says: looked at once, however often it names a certificate.
            if not any(said) or not _from_issuer(answer, issuer, at, lists):
                continue
            for told in filter(None, said):
                if not told.good:
                    return told
                found = told if found is None or told.until > found.until else found
        return found

    def of_path(self, path: Path, at: Instant, *, lists: RevocationLists = NO_LISTS) -> Path:
        """Look up every certificate of a walked path; what was looked up before, in lists, stays so.

        :raises CertificateRevokedError: a certificate is revoked, on hold, or unknown to its issuer's responder.
        """
        looked_up, until = list(path.looked_up), path.endorsed_until
        for place, (certificate, issuer) in enumerate(pairwise(path.certificates)):
            told = self.look_up(certificate, issuer, at, lists=lists)
            if told is None:
                continue
            if not told.good:
                raise CertificateRevokedError(
                    "the issuer's OCSP answer doesn't say that a certificate in the chain is good",
                    seen=told.status,
                    wanted=_GOOD,
                )
            looked_up[place], until = True, min(until, told.until)
        return replace(path, looked_up=tuple(looked_up), endorsed_until=until)


def load_answer(data: bytes) -> ocsp.OCSPResponse:
    """Parse one DER answer.

    :raises MalformedError: too long, not an answer, or one of too many certificates.
    """
    if len(data) > MAX_ANSWER:
        raise MalformedError(f"an OCSP answer has {len(data)} bytes; at most {MAX_ANSWER} are read")
    try:
        loaded = ocsp.load_der_ocsp_response(data)
        if loaded.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL:
            # Parsed lazily: what is broken must fail here, not in the middle of a decision.
            _ = (loaded.extensions, loaded.certificates, loaded.signature, loaded.tbs_response_bytes)
            _ = (loaded.responder_name, loaded.responder_key_hash)
            if sum(1 for _ in _singles(loaded)) > MAX_SINGLES:
                raise MalformedError(f"an OCSP answer speaks of at most {MAX_SINGLES} certificates")
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension):
        raise MalformedError("the bytes aren't an OCSP answer in DER") from None
    return loaded


def _singles(answer: ocsp.OCSPResponse) -> Iterator[ocsp.OCSPSingleResponse]:
    for single in answer.responses:
        _ = (single.certificate_status, single.revocation_time_utc, single.revocation_reason, single.serial_number)
        _ = (single.this_update_utc, single.next_update_utc, single.hash_algorithm)
        yield single


def vouched_for(answer: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """Tell whether an answer is about an issuer's certificates, and it or its responder signed it when it was made."""
    return all(
        _of_issuer(single, issuer) and _from_issuer(answer, issuer, int(single.this_update_utc.timestamp()), NO_LISTS)
        for single in answer.responses
    )


def _names(single: ocsp.OCSPSingleResponse, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return single.serial_number == certificate.serial_number and _of_issuer(single, issuer)


def _of_issuer(single: ocsp.OCSPSingleResponse, issuer: x509.Certificate) -> bool:
    if not isinstance(single.hash_algorithm, _NAMING_HASHES):
        return False
    name, key = issuer.subject.public_bytes(), _key_bits(issuer)
    return hmac.compare_digest(single.issuer_name_hash, _hashed(name, single.hash_algorithm)) and hmac.compare_digest(
        single.issuer_key_hash, _hashed(key, single.hash_algorithm)
    )


def _told(single: ocsp.OCSPSingleResponse, at: Instant) -> Answered | None:
    now = datetime.fromtimestamp(at, UTC)
    if single.this_update_utc > now:
        return None
    current = single.next_update_utc is not None and now <= single.next_update_utc
    until = int(single.next_update_utc.timestamp()) if single.next_update_utc is not None else at
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        held = single.revocation_reason is x509.ReasonFlags.certificate_hold
        # Nobody takes a revocation back, so a stale answer still tells the truth; a hold can be lifted.
        if held:
            return Answered("on hold", until) if current else None
        when = single.revocation_time_utc
        since = f" since {format_instant(int(when.timestamp()))}" if when is not None else ""
        return Answered(f"revoked{since}", until)
    if not current:
        return None
    return Answered(_GOOD if single.certificate_status is ocsp.OCSPCertStatus.GOOD else "unknown", until)


def _from_issuer(answer: ocsp.OCSPResponse, issuer: x509.Certificate, at: Instant, lists: RevocationLists) -> bool:
    """Tell whether the issuer itself, or a responder that it delegated, signed the answer."""
    if any(extension.critical for extension in answer.extensions):
        return False  # it may change what the answer means
    candidates = [issuer, *(one for one in answer.certificates[:4] if _delegated(one, issuer, at, lists))]
    return any(_is_responder(answer, one) and _signed(answer, one) for one in candidates)


def _delegated(responder: x509.Certificate, issuer: x509.Certificate, at: Instant, lists: RevocationLists) -> bool:
    now = datetime.fromtimestamp(at, UTC)
    if not responder.not_valid_before_utc <= now <= responder.not_valid_after_utc or not signed_by(responder, issuer):
        return False
    try:
        # Directly by this issuer and for this purpose: any other certificate of the family would do otherwise.
        if (
            ExtendedKeyUsageOID.OCSP_SIGNING
            not in responder.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        ):
            return False
    except (x509.ExtensionNotFound, ValueError, x509.DuplicateExtension):
        return False
    known = lists.look_up(responder, issuer, at)
    return known is None or known.revoked_at is None


def _is_responder(answer: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    if answer.responder_name is not None:
        return answer.responder_name == certificate.subject
    return answer.responder_key_hash == _hashed(_key_bits(certificate), SHA1())  # noqa: S303 - a name (RFC 6960, 4.2.1)


def _signed(answer: ocsp.OCSPResponse, certificate: x509.Certificate) -> bool:
    try:
        algorithm, key = answer.signature_hash_algorithm, certificate.public_key()
        if not isinstance(algorithm, _HASHES):
            return False
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(answer.signature, answer.tbs_response_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(answer.signature, answer.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def _key_bits(certificate: x509.Certificate) -> bytes:
    """Return what is hashed to name a key: its BIT STRING without tag, length and unused bits (RFC 6960, 4.1.1)."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return b""


def _hashed(data: bytes, algorithm: HashAlgorithm) -> bytes:
    hashed = Hash(algorithm)
    hashed.update(data)
    return hashed.finalize()
