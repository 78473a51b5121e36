"""OpenSSF Model Signing v1.0, verified strictly: in key mode and in certificate mode.

1. The bundle has one form (:mod:`~strongroom.intake.statements`).
2. Who signed is whom the caller trusts: a key that the caller gives, or a certificate under one that the caller gives.
3. The signature holds over DSSE's encoding of type and payload (ECDSA; the curve says the hash).
4. The statement is a model's signature, and its subject is the digest of its files.
5. The files that were delivered are those of the statement: each with its digest, none missing, none besides.

Upstream's verifier follows the signer's list of ignored paths; this one doesn't know such a list. Keyless signatures
are verified by the `sigstore` library, over steps 2 and 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import pae
from strongroom.core.errors import MalformedError
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.statements import PAYLOAD_TYPE, Bundle, ModelManifest, SignatureMode, read_manifest

_CURVES: Final[tuple[tuple[str, hashes.HashAlgorithm], ...]] = (
    ("secp256r1", hashes.SHA256()),
    ("secp384r1", hashes.SHA384()),
    ("secp521r1", hashes.SHA512()),
)


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Who signed, by whom the caller trusts; and what was signed."""

    mode: SignatureMode
    signer: str
    """SHA-256 of the key's SubjectPublicKeyInfo, in hex; the certificate's subject; or an identity and its issuer."""
    manifest: ModelManifest


def read_signing_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    """Read a public key that models are signed with.

    :raises MalformedError: not PEM of an ECDSA key on P-256, P-384 or P-521.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError:
        raise MalformedError("the bytes aren't a public key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in dict(_CURVES):
        raise MalformedError("models are signed with ECDSA keys on P-256, P-384 or P-521")
    return key


def verify_by_key(bundle: Bundle, keys: Iterable[ec.EllipticCurvePublicKey]) -> SignedBy:
    """Do steps 2 to 4 in key mode: one of ``keys`` signed.

    :raises IntakeRefusedError: signature-signer, signature-bad or signature-form.
    """
    if bundle.mode is not SignatureMode.KEY:
        raise IntakeRefusedError(
            Rule.SIGNATURE_SIGNER, f"the bundle is signed in {bundle.mode.value} mode, not by a key"
        )
    for key in keys:
        try:
            _verify(bundle, key)
        except IntakeRefusedError:
            continue
        return SignedBy(bundle.mode, Digest.of(_spki(key)).value.hex(), read_manifest(bundle.payload))
    raise IntakeRefusedError(Rule.SIGNATURE_BAD, "none of the keys that are trusted signed this")


def verify_by_certificate(
    bundle: Bundle, anchors: Sequence[x509.Certificate], at: Instant, *, subjects: frozenset[str]
) -> SignedBy:
    """Do steps 2 to 4 in certificate mode: the signer's certificate leads to one of ``anchors``, and names one of
    ``subjects`` (RFC 4514). Every certificate must be valid at ``at``: without a timestamp nobody knows when this was
    signed.

    :raises IntakeRefusedError: signature-signer, signature-bad or signature-form.
    """
    if bundle.mode is not SignatureMode.CERTIFICATE:
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, f"the bundle is signed in {bundle.mode.value} mode")
    try:
        chain = [x509.load_der_x509_certificate(der) for der in bundle.certificates]
        subject = chain[0].subject.rfc4514_string()
        key = chain[0].public_key()
        _check_chain(chain, anchors, datetime.fromtimestamp(at, UTC))
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, "a certificate in the bundle can't be read") from None
    if subject not in subjects:
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, f"signed by {shown(subject)}, who isn't expected")
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, "the signer's certificate isn't of an ECDSA key")
    _verify(bundle, key)
    return SignedBy(bundle.mode, subject, read_manifest(bundle.payload))


def check_files(manifest: ModelManifest, files: Mapping[str, Digest]) -> None:
    """Do step 5. ``files`` are the digests of what was stored, not of what was offered.

    :raises IntakeRefusedError: missing-file, extra-file or digest-mismatch.
    """
    for name in sorted(manifest.files.keys() - files.keys()):
        raise IntakeRefusedError(Rule.MISSING_FILE, f"{shown(name)} is signed and wasn't delivered")
    for name in sorted(files.keys() - manifest.files.keys()):
        raise IntakeRefusedError(
            Rule.EXTRA_FILE, f"{shown(name)} was delivered and isn't signed", remedy="say that it is to be left out"
        )
    for name, digest in files.items():
        if not digest.matches(manifest.files[name]):
            raise IntakeRefusedError(Rule.DIGEST_MISMATCH, f"{shown(name)} isn't what was signed")


def _verify(bundle: Bundle, key: ec.EllipticCurvePublicKey) -> None:
    chosen = dict(_CURVES).get(key.curve.name)
    if chosen is None:
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, "the signer's key is on a curve that isn't read")
    try:
        key.verify(bundle.signature, pae(PAYLOAD_TYPE, bundle.payload), ec.ECDSA(chosen))
    except InvalidSignature:
        raise IntakeRefusedError(Rule.SIGNATURE_BAD, "the signature doesn't hold") from None


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _check_chain(chain: list[x509.Certificate], anchors: Sequence[x509.Certificate], at: datetime) -> None:
    """Walk from the signer to an anchor, in the order of the bundle; an anchor may stand at the end or not."""
    trusted = {one.fingerprint(hashes.SHA256()) for one in anchors}
    _check_signer(chain[0])
    for depth, one in enumerate(chain):
        if not one.not_valid_before_utc <= at <= one.not_valid_after_utc:
            raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, "a certificate that isn't valid now")
        if one.fingerprint(hashes.SHA256()) in trusted:
            return
        above = chain[depth + 1 : depth + 2] or [up for up in anchors if up.subject == one.issuer]
        if not any(_issued(one, up, below=depth) for up in above):
            break
        if depth + 1 == len(chain):
            if all(up.not_valid_before_utc <= at <= up.not_valid_after_utc for up in above):
                return
            break
    raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, "the signer's certificate doesn't lead to one that is trusted")


def _check_signer(leaf: x509.Certificate) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, "the signer's certificate doesn't say what it is for") from None
    if not usage.digital_signature or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise IntakeRefusedError(Rule.SIGNATURE_SIGNER, "the signer's certificate isn't for signing code")


def _issued(one: x509.Certificate, above: x509.Certificate, *, below: int) -> bool:
    """Tell whether ``above`` issued ``one``, and may, with ``below`` certificates between it and the signer."""
    try:
        constraints = above.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = above.extensions.get_extension_for_class(x509.KeyUsage).value
        one.verify_directly_issued_by(above)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    long_enough = constraints.path_length is None or constraints.path_length >= below
    return constraints.ca and usage.key_cert_sign and long_enough
