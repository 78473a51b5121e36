"""Which Compute Engine machine a key's certificate is for: Google's extension 1.3.6.1.4.1.11129.2.1.21."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Self

from cryptography import x509
from cryptography.hazmat import asn1

from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

COMPUTE_INSTANCE: Final = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.21")
_MAX: Final = 1024
_PRODUCTION: Final = 0xA1
"""``[1] EXPLICIT BOOLEAN`` among the security properties."""
_TRUE: Final = b"\x01\x01\xff"


@asn1.sequence
class _Identifier:
    zone: str
    project_number: int
    project: str
    instance: int
    name: str
    security: Annotated[asn1.TLV, asn1.Explicit(0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeInstance:
    """A virtual machine of Compute Engine, as Google certified it."""

    project: str
    zone: str
    name: str
    instance: int
    production: bool
    """Whether the key belongs to a machine for customers, and not to one for Google's own tests."""

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self | None:
        """Read the certificate's extension; None without one.

        :raises MalformedError: it has one of another form.
        """
        data = next((e.value.public_bytes() for e in certificate.extensions if e.oid == COMPUTE_INSTANCE), None)
        if data is None:
            return None
        try:
            read = asn1.decode_der(_Identifier, data)
        except ValueError:
            raise MalformedError("the certificate names a Compute Engine instance in a form that isn't read") from None
        return cls(
            project=read.project,
            zone=read.zone,
            name=read.name,
            instance=read.instance,
            production=_production(bytes(read.security.data)),
        )

    def __str__(self) -> str:
        """Name the machine as Google's console does, without anything that a terminal would act on."""
        text = f"{self.project}/{self.zone}/{self.name} ({self.instance})"
        return "".join(character for character in text[:256] if character.isprintable())


def _production(properties: bytes) -> bool:
    reader = Reader(properties, "security properties", max_bytes=_MAX)
    found = []
    while reader.left:
        tag, value = reader.integer(1), reader.counted(1, 0x7F)
        if tag == _PRODUCTION:
            found.append(value)
    return found == [_TRUE]
