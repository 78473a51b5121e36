"""What a VCEK's or VLEK's certificate says: product, TCB version, chip or provider (AMD 57230, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom.attestation.sev_snp.products import Product, Tcb, product_named
from strongroom.attestation.sev_snp.report import CHIP_ID_BYTES, SigningKey
from strongroom.core.errors import MalformedError

_ARC: Final = "1.3.6.1.4.1.3704.1."
_PRODUCT_NAME: Final = "2"
_CHIP: Final = "4"
_PROVIDER: Final = "5"
# Which extension stands for which byte of the TCB version. Bytes without a part are compared too.
_LEGACY_BYTES: Final = ("3.1", "3.2", "3.4", "3.5", "3.6", "3.7", "3.3", "3.8")
_TURIN_BYTES: Final = ("3.9", "3.1", "3.2", "3.3", "3.5", "3.6", "3.7", "3.8")
_ALWAYS_THERE: Final = frozenset({"3.1", "3.2", "3.3", "3.8"})
_SHORT_CHIP_BYTES: Final = 8
_INTEGER, _OCTETS, _IA5 = 0x02, 0x04, 0x16
_SUBJECTS: Final = {"SEV-VCEK": SigningKey.VCEK, "SEV-VLEK": SigningKey.VLEK}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """The key that signs reports, as its certificate describes it. Believed once the chain is walked."""

    kind: SigningKey
    key: ec.EllipticCurvePublicKey
    product: Product
    tcb: Tcb
    chip: bytes
    """64 bytes as reports write it; Turin's 8 are filled up with zeros. Empty for a VLEK."""
    provider: str
    """The cloud provider that AMD gave a VLEK to; empty for a VCEK."""

    @classmethod
    def read(cls, certificate: x509.Certificate) -> EndorsementKey:
        """Read a VCEK's or VLEK's certificate.

        :raises MalformedError: it isn't one: another subject, another curve, an extension missing or broken.
        """
        kind = _SUBJECTS.get(common_name(certificate.subject))
        if kind is None:
            raise MalformedError("the certificate is neither a VCEK's nor a VLEK's")
        try:
            key = certificate.public_key()
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise MalformedError("the certificate's key isn't on P-384")
        told = _extensions(certificate)
        product = product_named(_text(told, _PRODUCT_NAME))
        if product is None:
            raise MalformedError("the certificate names a product that isn't known")
        if (kind is SigningKey.VCEK) != (_CHIP in told) or (kind is SigningKey.VLEK) != (_PROVIDER in told):
            raise MalformedError("a VCEK's certificate names a chip, and a VLEK's a provider, and neither both")
        order = _TURIN_BYTES if product.has_fmc else _LEGACY_BYTES
        return cls(
            kind=kind,
            key=key,
            product=product,
            tcb=Tcb(bytes(_byte(told, part) for part in order), product),
            chip=_chip(told[_CHIP], product) if _CHIP in told else b"",
            provider=_text(told, _PROVIDER) if _PROVIDER in told else "",
        )


def common_name(name: x509.Name) -> str:
    """Return the common name; empty unless there is exactly one."""
    found = [str(attribute.value) for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return found[0] if len(found) == 1 else ""


def _extensions(certificate: x509.Certificate) -> dict[str, bytes]:
    return {
        extension.oid.dotted_string.removeprefix(_ARC): extension.value.value
        for extension in certificate.extensions
        if isinstance(extension.value, x509.UnrecognizedExtension) and extension.oid.dotted_string.startswith(_ARC)
    }


def _byte(told: dict[str, bytes], part: str) -> int:
    """Read a DER INTEGER of 0 to 255; a spare byte's extension may be left out."""
    if part not in told and part not in _ALWAYS_THERE and part != "3.9":
        return 0
    value = _contents(told, part, _INTEGER)
    number = int.from_bytes(value, "big", signed=True)
    if not 0 <= number <= 0xFF or len(value) != 1 + (number > 0x7F):
        raise MalformedError(f"the certificate's extension `{_ARC}{part}` isn't a security version from 0 to 255")
    return number


def _text(told: dict[str, bytes], part: str) -> str:
    value = _contents(told, part, _IA5)
    if not value or not value.isascii() or not value.decode("ascii").isprintable():
        raise MalformedError(f"the certificate's extension `{_ARC}{part}` isn't printable text")
    return value.decode("ascii")


def _chip(value: bytes, product: Product) -> bytes:
    # AMD's key service has written the identifier bare, and wraps it in an OCTET STRING in newer certificates.
    size = _SHORT_CHIP_BYTES if product.has_fmc else CHIP_ID_BYTES
    if value[:2] == bytes((_OCTETS, len(value) - 2 & 0xFF)) and len(value) - 2 in {size, CHIP_ID_BYTES}:
        value = value[2:]
    if len(value) not in {size, CHIP_ID_BYTES}:
        raise MalformedError(f"the certificate's chip identifier has {len(value)} bytes, not {size}")
    return value.ljust(CHIP_ID_BYTES, b"\0")


def _contents(told: dict[str, bytes], part: str, tag: int) -> bytes:
    value = told.get(part, b"")
    # Short form of the length only: nothing here is longer than 127 bytes.
    if len(value) < 2 or value[0] != tag or value[1] > 0x7F or len(value) != value[1] + 2:
        raise MalformedError(f"the certificate's extension `{_ARC}{part}` is missing or broken")
    return value[2:]
