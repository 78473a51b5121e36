"""Roots that makers of chips sign with, pinned by SHA-256, and the class that each can vouch for at most.

The makers' roots ship as files in ``anchors``; their digests stand here, so a changed file is refused at load. Roots
made for tests never stand here: a deployment that wants simulated evidence lists such a root in its signed reference
values, and there its class is ``vm-simulated`` whatever it signs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from importlib.resources import files
from typing import Final
from warnings import catch_warnings, simplefilter

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from strongroom.attestation.isolation import IsolationClass
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, TamperedError

MAX_CERTIFICATE: Final = 8192
_KEPT: Final = 256


class Vendor(StrEnum):
    """Whose statements a root vouches for."""

    AMD_SEV = "amd-sev"
    INTEL_SGX = "intel-sgx"
    AWS_NITRO = "aws-nitro"
    NVIDIA_DEVICE = "nvidia-device"
    NVIDIA_RIM = "nvidia-rim"
    TPM = "tpm"
    """A TPM maker's: endorsement keys, for enrolment. None ships; a deployment lists those that it believes."""
    GOOGLE_VTPM = "google-vtpm"
    """Google's, for the attestation keys of Compute Engine's virtual TPMs."""


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A pinned root: DER certificate, whose it is, and the strongest class of what it vouches for."""

    vendor: Vendor
    certificate: bytes
    isolation: IsolationClass

    @property
    def digest(self) -> Digest:
        """SHA-256 of the certificate: how the root is pinned."""
        return Digest.of(self.certificate)

    @property
    def simulated(self) -> bool:
        """True for a root made for tests."""
        return self.isolation is IsolationClass.VM_SIMULATED

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo: one key in two certificates is one root.

        :raises MalformedError: not a certificate.
        """
        return public_key_bytes(load_certificate(self.certificate))


@dataclass(frozen=True, slots=True)
class TrustAnchors:
    """A set of pinned roots."""

    anchors: tuple[TrustAnchor, ...]

    def of(self, *vendors: Vendor) -> tuple[TrustAnchor, ...]:
        """Return the roots of these vendors."""
        return tuple(anchor for anchor in self.anchors if anchor.vendor in vendors)

    def joined(self, more: Iterable[TrustAnchor]) -> TrustAnchors:
        """Return these roots and more."""
        return TrustAnchors((*self.anchors, *more))


@dataclass(frozen=True, slots=True)
class _Pinned:
    file: str
    vendor: Vendor
    sha256: str
    isolation: IsolationClass


# What a maker's root can vouch for at most; the verifier may find less (a TCB that is out of date, an unlisted chip).
# Google's hypervisor plays the TPM, so all of it rests on whoever runs the host, and memory lies open to him. That is
# what `measured-host` says; that no bus lies between the chip and the processor doesn't lift it.
_PINNED: Final[tuple[_Pinned, ...]] = (
    _Pinned(
        "google-vtpm-root.pem",
        Vendor.GOOGLE_VTPM,
        "594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2",
        IsolationClass.MEASURED_HOST,
    ),
    _Pinned(
        "google-vtpm-root-2018.pem",
        Vendor.GOOGLE_VTPM,
        "9bd5285f8fb18502a7947e621ffd470266f49fcd3b73e19a190f690ad32a7caf",
        IsolationClass.MEASURED_HOST,
    ),
    _Pinned(
        "amd-ark-milan.pem",
        Vendor.AMD_SEV,
        "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
        # A software-only attack extracts the seed of Milan's keys: whoever runs such a machine can forge its reports,
        # for any firmware version (arXiv 2605.12990).
        IsolationClass.CVM_WEAK,
    ),
    _Pinned(
        "amd-ark-genoa.pem",
        Vendor.AMD_SEV,
        "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
        IsolationClass.CVM,
    ),
    _Pinned(
        "amd-ark-turin.pem",
        Vendor.AMD_SEV,
        "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
        IsolationClass.CVM,
    ),
    _Pinned(
        "aws-nitro-root-g1.pem",
        Vendor.AWS_NITRO,
        "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b",
        IsolationClass.CVM,
    ),
    _Pinned(
        "intel-sgx-root-ca.pem",
        Vendor.INTEL_SGX,
        "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
        IsolationClass.CVM,
    ),
    _Pinned(
        "nvidia-device-identity-ca.pem",
        Vendor.NVIDIA_DEVICE,
        "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
        IsolationClass.CVM_GPU,
    ),
    _Pinned(
        "nvidia-rim-root.pem",
        Vendor.NVIDIA_RIM,
        "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1",
        IsolationClass.CVM_GPU,
    ),
)


@cache
def vendor_anchors() -> TrustAnchors:
    """Return the makers' roots that ship with the package.

    :raises TamperedError: a shipped file isn't the pinned certificate.
    """
    found = []
    for pinned in _PINNED:
        pem = files(__package__ or "strongroom.attestation").joinpath("anchors", pinned.file).read_bytes()
        certificate = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
        if Digest.of(certificate).value.hex() != pinned.sha256:
            raise TamperedError(
                f"the root certificate `{pinned.file}` isn't the pinned one", remedy="reinstall Strongroom"
            )
        found.append(TrustAnchor(pinned.vendor, certificate, pinned.isolation))
    return TrustAnchors(tuple(found))


@lru_cache(maxsize=_KEPT)
def load_certificate(data: bytes) -> x509.Certificate:
    """Parse one DER certificate. What parsed is kept: one verdict asks for the same few again and again.

    :raises MalformedError: too long or not a certificate.
    """
    if len(data) > MAX_CERTIFICATE:
        raise MalformedError(f"a certificate has {len(data)} bytes; at most {MAX_CERTIFICATE} are read")
    try:
        with catch_warnings():
            # Every VCEK has serial number 0, which the library warns of; its issuer revokes by TCB version instead.
            simplefilter("ignore", CryptographyDeprecationWarning)
            # TPM makers put a whole sentence into a name; the library warns once, and keeps the name that it read.
            simplefilter("ignore", UserWarning)
            certificate = x509.load_der_x509_certificate(data)
            _ = (certificate.subject, certificate.issuer)
        # Parsed lazily: what is broken must fail here, not in the middle of a decision.
        _ = certificate.extensions, certificate.subject, certificate.issuer
        _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # TypeError: a name whose text is a bit string.
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.InvalidVersion):
        raise MalformedError("the bytes aren't an X.509 certificate in DER") from None
    return certificate


def public_key_bytes(certificate: x509.Certificate) -> bytes:
    """Return the certificate's key as DER SubjectPublicKeyInfo.

    :raises MalformedError: a kind of key that isn't read.
    """
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        raise MalformedError("the certificate's key is of a kind that isn't read") from None
