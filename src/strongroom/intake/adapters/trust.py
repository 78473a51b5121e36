"""Whom a caller trusts to have signed a delivery, and the signature verified by that: steps 1 to 5 in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from strongroom.core.clock import Instant
from strongroom.core.errors import MalformedError, UsageError
from strongroom.intake.adapters.keyless import read_root, verify_by_identity
from strongroom.intake.signatures import SignedBy, check_files, read_signing_key, verify_by_certificate, verify_by_key
from strongroom.intake.statements import SignatureMode, read_bundle
from strongroom.intake.verdict import FileList

MAX_PEM: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Public keys and certificates in PEM, subjects of certificates; for keyless signatures a root, and who signed."""

    keys: tuple[bytes, ...] = ()
    anchors: tuple[bytes, ...] = ()
    signers: frozenset[str] = frozenset()
    trusted_root: bytes | None = None
    identity: str | None = None
    issuer: str | None = None


def check_trust(bundle: bytes, trust: Trust) -> None:
    """Check, before anything is taken in, that a bundle and what is trusted can be read, and fit each other.

    :raises IntakeRefusedError: signature-form.
    :raises MalformedError: a key, certificate or trusted root that isn't one.
    :raises UsageError: a keyless bundle, and nobody said who should have signed.
    """
    mode = read_bundle(bundle).mode
    for one in trust.keys:
        read_signing_key(one)
    for one in trust.anchors:
        _certificate(one)
    if mode is SignatureMode.SIGSTORE:
        if not (trust.trusted_root and trust.identity and trust.issuer):
            raise UsageError("a keyless signature", remedy="give --trusted-root, --identity and --issuer")
        read_root(trust.trusted_root)


def verify_signature(bundle: bytes, listed: FileList, trust: Trust, *, now: Instant) -> SignedBy:
    """Verify that somebody who is trusted signed exactly these files.

    :raises IntakeRefusedError: signature-form, signature-signer, signature-bad, missing-file, extra-file or
        digest-mismatch.
    :raises UsageError: as :func:`check_trust`.
    """
    check_trust(bundle, trust)
    read = read_bundle(bundle)
    if read.mode is SignatureMode.KEY:
        found = verify_by_key(read, [read_signing_key(one) for one in trust.keys])
    elif read.mode is SignatureMode.CERTIFICATE:
        found = verify_by_certificate(read, [_certificate(one) for one in trust.anchors], now, subjects=trust.signers)
    elif trust.trusted_root and trust.identity and trust.issuer:
        found = verify_by_identity(
            bundle, trusted_root=trust.trusted_root, identity=trust.identity, issuer=trust.issuer
        )
    check_files(found.manifest, listed.digests)
    return found


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise MalformedError("a file that isn't a certificate in PEM") from None
