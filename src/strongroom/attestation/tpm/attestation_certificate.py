"""A certificate of an attestation key: which certificates are one, and what Google's say of a virtual machine."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.chain import is_ca
from strongroom.attestation.errors import ChainRefusedError
from strongroom.attestation.tpm.compute_instance import ComputeInstance
from strongroom.attestation.tpm.endorsement_certificate import described_tpm

_AK_USAGE: Final = x509.ObjectIdentifier("2.23.133.8.3")
"""``tcg-kp-AIKCertificate`` (TCG Credential Profiles)."""


def require_attestation_certificate(certificate: x509.Certificate) -> None:
    """Check that a certificate is for a key that signs quotes.

    :raises ChainRefusedError: a CA's, not for signatures, or for a key of another purpose.
    :raises MalformedError: Google's extension has another form.
    """
    if is_ca(certificate):
        raise ChainRefusedError("a CA's certificate can't stand for an attestation key")
    extensions = certificate.extensions
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise ChainRefusedError("the attestation key's certificate has no key usage") from None
    # The same CAs certify endorsement keys, which decrypt: one that also signed would sign anything.
    if not usage.digital_signature or usage.key_encipherment or usage.data_encipherment or usage.key_agreement:
        raise ChainRefusedError("the certificate is for a key that does something else than sign")
    if not _of_attestation_key(certificate):
        raise ChainRefusedError(
            "the certificate isn't for an attestation key",
            wanted="extended key usage 2.23.133.8.3, or a certificate for a Compute Engine instance in production",
        )


def says_simulated(certificate: x509.Certificate) -> bool:
    """Tell whether the certificate itself says that a program for tests plays the TPM."""
    try:
        return described_tpm(certificate).simulated
    except ChainRefusedError:
        return False  # it doesn't describe its TPM: the root alone says what it is


@cache
def shipped_intermediates() -> tuple[bytes, ...]:
    """Return Google's intermediate CAs for virtual TPMs (DER), so that evidence without them can be judged offline.

    They aren't trusted: each counts only once the pinned root's signature on it is checked, and no list revokes it.
    """
    pem = files("strongroom.attestation").joinpath("anchors", "google-vtpm-intermediates.pem").read_bytes()
    return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem))


def _of_attestation_key(certificate: x509.Certificate) -> bool:
    try:
        if _AK_USAGE in certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
            return True
    except x509.ExtensionNotFound:
        pass
    # Google's own name no purpose, or an endorsement key's; what they name is the machine that holds the key.
    machine = ComputeInstance.of(certificate)
    return machine is not None and machine.production
