"""What an endorsement certificate says of its TPM (TCG EK Credential Profile, 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509

from strongroom.attestation.chain import is_ca
from strongroom.attestation.errors import ChainRefusedError

EK_USAGE: Final = x509.ObjectIdentifier("2.23.133.8.1")
_MANUFACTURER: Final = x509.ObjectIdentifier("2.23.133.2.1")
_MODEL: Final = x509.ObjectIdentifier("2.23.133.2.2")
_VERSION: Final = x509.ObjectIdentifier("2.23.133.2.3")
# What swtpm writes into the certificates that it makes: a PCI vendor number where hardware has a TCG vendor id.
_SIMULATED_MANUFACTURER: Final = "id:00001014"
_SIMULATED_MODEL: Final = "swtpm"


@dataclass(frozen=True, slots=True, kw_only=True)
class TpmIdentity:
    """What the endorsement certificate's subject alternative name says (TCG EK Credential Profile, 3.2.9)."""

    manufacturer: str
    model: str
    version: str

    @property
    def simulated(self) -> bool:
        """True when the certificate itself says that a program plays the TPM."""
        return self.manufacturer.casefold() == _SIMULATED_MANUFACTURER or _SIMULATED_MODEL in self.model.casefold()


def tpm_identity(certificate: x509.Certificate) -> TpmIdentity:
    """Read the TPM's attributes from an endorsement certificate, which must say that it is one.

    :raises ChainRefusedError: not for an endorsement key (EKU 2.23.133.8.1), a CA, or without TPM attributes.
    """
    identity = described_tpm(certificate)
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise ChainRefusedError("the certificate doesn't describe a TPM's endorsement key") from None
    if EK_USAGE not in usage:
        # A CA that also certifies ordinary keys would otherwise vouch for a key that lies in a file.
        raise ChainRefusedError("the certificate isn't for an endorsement key (extended key usage 2.23.133.8.1)")
    if is_ca(certificate):
        raise ChainRefusedError("a CA certificate can't stand for an endorsement key")
    return identity


def described_tpm(certificate: x509.Certificate) -> TpmIdentity:
    """Read the TPM's attributes from a certificate of any of its keys: an attestation key's has them too.

    :raises ChainRefusedError: it has none.
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        attributes = {a.oid: a.value for name in names.get_values_for_type(x509.DirectoryName) for a in name}
        found = [attributes[oid] for oid in (_MANUFACTURER, _MODEL, _VERSION)]
    except (x509.ExtensionNotFound, KeyError, ValueError):
        raise ChainRefusedError("the certificate doesn't describe a TPM's endorsement key") from None
    manufacturer, model, version = (str(value) for value in found)
    return TpmIdentity(manufacturer=manufacturer, model=model, version=version)
