"""Which models of security key people may enrol: each by its AAGUID, with the roots that vouch for such devices.

The list stands in the root-signed roster. A key whose maker isn't pinned here proves nothing: a program can claim any
AAGUID, and only the chain to one of that AAGUID's roots tells hardware from a program.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from strongroom.core.canonical import Json
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_AUTHENTICATORS: Final = 64
MAX_ROOTS: Final = 8
MAX_ROOT_BYTES: Final = 4096
MAX_NAME: Final = 64
_AAGUID: Final = re.compile(r"[0-9a-f]{32}")
_NO_AAGUID: Final = "0" * 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticator:
    """One allowed model: its AAGUID (WebAuthn L3, section 6.5.1), what people call it, and its attestation roots.

    :raises MalformedError: an AAGUID of another form or all zeros, no name, no root, a root twice, or one that isn't
        a certificate.
    """

    aaguid: str
    """16 bytes in lower-case hex."""
    name: str
    roots: tuple[bytes, ...]
    """DER certificates that end the chains of such devices."""

    def __post_init__(self) -> None:
        # All zeros is what devices and programs say that don't tell their model.
        if not _AAGUID.fullmatch(self.aaguid) or self.aaguid == _NO_AAGUID:
            raise MalformedError("an authenticator's AAGUID is 32 characters of lower-case hex, not all zeros")
        if not 1 <= len(self.name) <= MAX_NAME:
            raise MalformedError(f"an authenticator's name is 1 to {MAX_NAME} characters")
        if not 1 <= len(self.roots) <= MAX_ROOTS or len(set(self.roots)) != len(self.roots):
            raise MalformedError(f"the authenticator `{self.aaguid}` needs 1 to {MAX_ROOTS} roots, each once")
        for root in self.roots:
            load_certificate(root)

    @classmethod
    def read(cls, fields: Fields) -> Authenticator:
        """Read one authenticator of a roster.

        :raises MalformedError: a member is missing, extra or out of bounds.
        """
        return cls(
            aaguid=fields.text("aaguid", max_length=32),
            name=fields.text("name", max_length=MAX_NAME),
            roots=tuple(
                from_base64(text)
                for text in fields.texts("roots", most=MAX_ROOTS, max_length=(MAX_ROOT_BYTES + 2) // 3 * 4)
            ),
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"aaguid": self.aaguid, "name": self.name, "roots": [to_base64(root) for root in self.roots]}


def load_certificate(data: bytes) -> x509.Certificate:
    """Parse one DER certificate, its extensions too.

    :raises MalformedError: too long, or not a certificate that is read without doubts.
    """
    if len(data) > MAX_ROOT_BYTES:
        raise MalformedError(f"a certificate has {len(data)} bytes; at most {MAX_ROOT_BYTES} are read")
    try:
        with warnings.catch_warnings():
            # What the parser would take with a warning (a negative serial number, odd encodings) is refused.
            warnings.simplefilter("error")
            certificate = x509.load_der_x509_certificate(data)
            _ = certificate.extensions, certificate.subject, certificate.issuer  # lazily parsed: fail here
    except (ValueError, TypeError, Warning, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion):
        raise MalformedError("the bytes aren't an X.509 certificate in DER") from None
    return certificate
