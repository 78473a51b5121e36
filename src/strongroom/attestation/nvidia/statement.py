"""The body of an evidence item, and what is known of a device once its report is believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.nvidia.dice import DeviceIdentity
from strongroom.attestation.nvidia.manifest import ManifestMatch
from strongroom.attestation.nvidia.opaque import Mode, OpaqueData
from strongroom.attestation.nvidia.spdm import MAX_REPORT, Report
from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

MAX_CERTIFICATES: Final = 32 * 1024
MOST_CERTIFICATES: Final = 8
MAX_STATEMENT: Final = 96 * 1024
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a genuine report says, in values that a policy is compared with."""

    identity: DeviceIdentity
    firmware_version: str
    """Of the VBIOS, or of a switch's BIOS."""
    driver_version: str
    """Empty for a switch, which has none."""
    mode: Mode
    locked: bool
    """A switch's routing can't be changed until it is reset; False for a GPU."""
    neighbours: frozenset[bytes]
    """The devices of the other kind that it says it is connected to, by their PDI."""
    own_word: bytes
    """What a switch says that its own PDI is; empty for a GPU, which doesn't say."""
    manifests: tuple[ManifestMatch, ...]
    """The driver's, then the VBIOS's; of a switch its BIOS's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatement:
    """A device's report and the certificates that came along; ``proven`` is None until the report is believed."""

    report: Report
    opaque: OpaqueData
    certificates: tuple[bytes, ...]
    """DER, attestation key first. May be empty: then the collateral must hold the chain."""
    proven: Proven | None = None

    @classmethod
    def parse(cls, body: bytes) -> DeviceStatement:
        """Read ``{"v":1,"report":base64,"certificates":base64 of a PEM bundle}``.

        :raises MalformedError: another form, or a report or bundle that can't be read.
        """
        with Fields(decode(body, max_bytes=MAX_STATEMENT), "device") as fields:
            fields.constant("v", 1)
            report = Report.parse(fields.binary("report", max_length=MAX_REPORT))
            bundle = fields.binary("certificates", max_length=MAX_CERTIFICATES)
        return cls(report=report, opaque=OpaqueData.parse(report.opaque), certificates=read_bundle(bundle))


def to_body(report: bytes, bundle: bytes) -> bytes:
    """Write the body of an evidence item from a report and its PEM bundle (which may be empty)."""
    return encode({"v": 1, "report": to_base64(report), "certificates": to_base64(bundle)})


def read_bundle(bundle: bytes) -> tuple[bytes, ...]:
    """Return the DER certificates of a PEM bundle, in its order; none for an empty one.

    :raises MalformedError: too long, too many, or not certificates.
    """
    if not bundle.strip():
        return ()
    if len(bundle) > MAX_CERTIFICATES or not 1 <= bundle.count(_BEGIN) <= MOST_CERTIFICATES:
        raise MalformedError(f"a device's bundle has 1 to {MOST_CERTIFICATES} certificates in PEM")
    try:
        return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(bundle))
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise MalformedError("a device's bundle isn't certificates in PEM") from None
