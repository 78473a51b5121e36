"""Completing a device's chain from certificates that came otherwise. What is found here is walked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.attestation.chain import MAX_DEPTH, Path, is_ca, signed_by
from strongroom.attestation.errors import BadSignatureError, CertificateRevokedError, ChainRefusedError
from strongroom.attestation.nvidia.spdm import Report
from strongroom.attestation.revocation import RevocationLists
from strongroom.attestation.trust_anchors import load_certificate
from strongroom.core.clock import Instant, format_instant


def completed(report: Report, own: Sequence[bytes], others: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return a device's chain: its own certificates, or the one whose key signed the report; then issuers from others.

    :raises BadSignatureError: it came without certificates, and no key in the others signed it.
    :raises ChainRefusedError: there is no certificate of an attestation key, here or there.
    :raises MalformedError: a certificate can't be read.
    """
    chain = list(own) or [_signer(report, others)]
    while len(chain) < MAX_DEPTH - 1:
        last = load_certificate(chain[-1])
        issuer = next((der for der in others if der not in chain and _issued(last, load_certificate(der))), None)
        if last.issuer == last.subject or issuer is None:
            break
        chain.append(issuer)
    return tuple(chain)


def with_lists(path: Path, lists: RevocationLists, at: Instant) -> Path:
    """Look a walked path up in revocation lists as of another instant than it was walked at.

    :raises CertificateRevokedError: a current list of its issuer names a certificate.
    """
    looked_up, until = list(path.looked_up), path.endorsed_until
    for place, (certificate, issuer) in enumerate(pairwise(path.certificates)):
        known = lists.look_up(certificate, issuer, at)
        if known is None:
            continue
        if known.revoked_at is not None:
            raise CertificateRevokedError(
                "a certificate in the chain was revoked by its issuer",
                seen=f"revoked {format_instant(known.revoked_at)}",
                wanted="a certificate that its issuer's list doesn't name",
            )
        looked_up[place], until = True, min(until, known.until)
    return replace(path, looked_up=tuple(looked_up), endorsed_until=until)


def _signer(report: Report, others: Sequence[bytes]) -> bytes:
    candidates = [(der, _key(der)) for der in others if not is_ca(load_certificate(der))]
    for der, key in candidates:
        if report.signed_by(key):
            return der
    remedy = "hand in the device's certificate chain"
    if any(isinstance(key, ec.EllipticCurvePublicKey) for _, key in candidates):
        raise BadSignatureError("no attestation key in the collateral signed the report", remedy=remedy)
    raise ChainRefusedError("the report came without certificates, and none is in the collateral", remedy=remedy)


def _key(der: bytes) -> object:
    try:
        return load_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    return issuer.subject == certificate.issuer and signed_by(certificate, issuer)
