"""The attestation report: 1,184 bytes that the security processor signs (AMD 56860, table ATTESTATION_REPORT).

Versions 2 to 5 are read. Version 3 added the processor's CPUID, version 5 the mitigation vectors; 4 is laid out as 3.
Reserved bytes must be zero in what is signed and in the unused part of the signature field: new firmware that says
something there has a version that isn't known here, and an attacker could write anything into the unsigned part.
Reserved *bits* of the policy and of the platform's information are kept, and the policy refuses them by name: the
report is genuine then, but what it allows isn't understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from strongroom.attestation.errors import BadSignatureError
from strongroom.attestation.sev_snp.products import TCB_BYTES, Product, Tcb, product_of_cpu
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
CHIP_ID_BYTES: Final = 64
VERSIONS: Final = range(2, 6)
_WITH_CPUID: Final = 3
_WITH_MITIGATIONS: Final = 5
_ECDSA_P384_SHA384: Final = 1
_SCALAR_BYTES: Final = 72


class SigningKey(StrEnum):
    """Which key signed a report (SIGNING_KEY)."""

    VCEK = "vcek"
    """The chip's own, derived for one TCB version."""
    VLEK = "vlek"
    """One that AMD gave a cloud provider for its chips."""
    NONE = "none"
    """No key did."""


_SIGNING_KEYS: Final = {0: SigningKey.VCEK, 1: SigningKey.VLEK, 7: SigningKey.NONE}


class GuestRule(StrEnum):
    """Bits of the guest's policy that ask for protection: the firmware starts the guest only where they hold."""

    SINGLE_SOCKET = "single-socket"
    AES_256_XTS = "aes-256-xts"
    RAPL_DISABLED = "rapl-disabled"
    CIPHERTEXT_HIDING = "ciphertext-hiding"
    PAGE_SWAP_DISABLED = "page-swap-disabled"


_SMT, _MUST_BE_ONE, _MIGRATION_AGENT, _DEBUG, _CXL = 16, 17, 18, 19, 21
_GUEST_RULES: Final = {
    GuestRule.SINGLE_SOCKET: 20,
    GuestRule.AES_256_XTS: 22,
    GuestRule.RAPL_DISABLED: 23,
    GuestRule.CIPHERTEXT_HIDING: 24,
    GuestRule.PAGE_SWAP_DISABLED: 25,
}
_GUEST_RESERVED: Final = ~((1 << 26) - 1)


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """What the guest's owner allowed and asked for at launch; the firmware holds the host to it."""

    raw: int

    @property
    def smt(self) -> bool:
        """True when the guest may share a core with its neighbours."""
        return self._bit(_SMT)

    @property
    def migration_agent(self) -> bool:
        """True when another guest may move this one, and so read it."""
        return self._bit(_MIGRATION_AGENT)

    @property
    def debug(self) -> bool:
        """True when the host may decrypt the guest's memory. It isn't part of the launch measurement."""
        return self._bit(_DEBUG)

    @property
    def cxl(self) -> bool:
        """True when CXL memory or devices may be there."""
        return self._bit(_CXL)

    def asks(self, rule: GuestRule) -> bool:
        """Tell whether the policy asks for a protection."""
        return self._bit(_GUEST_RULES[rule])

    @property
    def reserved(self) -> int:
        """The bits that aren't as the specification wants: unknown ones that are set, and bit 17 when it isn't."""
        return (self.raw & _GUEST_RESERVED) | (~self.raw & 1 << _MUST_BE_ONE)

    def _bit(self, bit: int) -> bool:
        return bool(self.raw >> bit & 1)


class PlatformFeature(StrEnum):
    """What PLATFORM_INFO can say in favour of a platform."""

    TSME = "tsme"
    ECC = "ecc"
    RAPL_DISABLED = "rapl-disabled"
    """No power readings, which leak keys."""
    CIPHERTEXT_HIDING = "ciphertext-hiding"
    """The host can't watch the guest's ciphertext change."""
    ALIAS_CHECK_COMPLETE = "alias-check-complete"
    """Memory modules don't alias addresses (AMD-SB-3015)."""
    IOMMU_WRITE_SAFE = "iommu-write-safe"
    """AMD-SB-3016."""


_FEATURES: Final = {
    PlatformFeature.TSME: 1,
    PlatformFeature.ECC: 2,
    PlatformFeature.RAPL_DISABLED: 3,
    PlatformFeature.CIPHERTEXT_HIDING: 4,
    PlatformFeature.ALIAS_CHECK_COMPLETE: 5,
    PlatformFeature.IOMMU_WRITE_SAFE: 6,
}
_PLATFORM_RESERVED: Final = ~0xFF


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """How the platform is configured."""

    raw: int

    @property
    def smt(self) -> bool:
        """True when simultaneous multithreading is on."""
        return bool(self.raw & 1)

    def has(self, feature: PlatformFeature) -> bool:
        """Tell whether the platform says so of itself."""
        return bool(self.raw >> _FEATURES[feature] & 1)

    @property
    def reserved(self) -> int:
        """Unknown bits that are set."""
        return self.raw & _PLATFORM_RESERVED


@dataclass(frozen=True, slots=True, order=True)
class FirmwareVersion:
    """Version of the SEV firmware, and with it of its ABI."""

    major: int
    minor: int
    build: int

    @classmethod
    def parse(cls, text: str) -> FirmwareVersion:
        """Read ``1.55.40``.

        :raises MalformedError: not three numbers of one byte.
        """
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and str(int(part)) == part for part in parts):
            raise MalformedError("a firmware version is written as `1.55.40`")
        major, minor, build = map(int, parts)
        if max(major, minor, build) > 0xFF:
            raise MalformedError("a firmware version's numbers are at most 255")
        return cls(major, minor, build)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A parsed report. Nothing in it is believed until its signature is checked."""

    raw: bytes
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    """0 to 3; 0xffffffff where the host asked for the report."""
    platform: PlatformInfo
    author_key_enabled: bool
    mask_chip_key: bool
    signing_key: SigningKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    cpu: tuple[int, int, int] | None
    """CPUID family, model and stepping; None before version 3."""
    chip_id: bytes
    """64 bytes; zero where the host masks it and under a VLEK."""
    reported_tcb: bytes
    """The version that the signing key was derived for."""
    committed_tcb: bytes
    """The version below which the firmware can't be rolled back."""
    current_tcb: bytes
    launch_tcb: bytes
    """The current version when the guest was launched."""
    current_firmware: FirmwareVersion
    committed_firmware: FirmwareVersion
    launch_mitigations: int | None
    """Bits of verified mitigations at launch; None before version 5."""
    current_mitigations: int | None

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Read a report.

        :raises MalformedError: not 1,184 bytes, another version or signature algorithm, or reserved bytes in use.
        """
        reader = Reader(data, "SEV-SNP report", max_bytes=REPORT_BYTES, order="little")
        version = _version(reader)
        guest_svn, policy = reader.integer(4), GuestPolicy(reader.integer(8))
        family_id, image_id, vmpl = reader.take(16), reader.take(16), reader.integer(4)
        _require_algorithm(reader)
        current_tcb, platform = reader.take(TCB_BYTES), PlatformInfo(reader.integer(8))
        keys = _keys(reader)
        _zero(reader, 4)
        report_data, measurement, host_data = reader.take(64), reader.take(48), reader.take(32)
        id_key_digest, author_key_digest = reader.take(48), reader.take(48)
        reader.take(64)  # the identifiers of this guest and of its migration agent, new at each launch
        reported_tcb = reader.take(TCB_BYTES)
        cpu = (reader.integer(1), reader.integer(1), reader.integer(1)) if version >= _WITH_CPUID else None
        _zero(reader, 0x1A0 - reader.at)
        chip_id, committed_tcb = reader.take(CHIP_ID_BYTES), reader.take(TCB_BYTES)
        current_firmware, committed_firmware = _firmware(reader), _firmware(reader)
        launch_tcb = reader.take(TCB_BYTES)
        mitigations = (reader.integer(8), reader.integer(8)) if version >= _WITH_MITIGATIONS else (None, None)
        _zero(reader, SIGNED_BYTES - reader.at)
        reader.take(2 * _SCALAR_BYTES)
        _zero(reader, REPORT_BYTES - reader.at)
        return cls(
            raw=data,
            version=version,
            guest_svn=guest_svn,
            policy=policy,
            family_id=family_id,
            image_id=image_id,
            vmpl=vmpl,
            platform=platform,
            author_key_enabled=bool(keys & 1),
            mask_chip_key=bool(keys & 2),
            signing_key=_SIGNING_KEYS[keys >> 2],
            report_data=report_data,
            measurement=measurement,
            host_data=host_data,
            id_key_digest=id_key_digest,
            author_key_digest=author_key_digest,
            cpu=cpu,
            chip_id=chip_id,
            reported_tcb=reported_tcb,
            committed_tcb=committed_tcb,
            current_tcb=current_tcb,
            launch_tcb=launch_tcb,
            current_firmware=current_firmware,
            committed_firmware=committed_firmware,
            launch_mitigations=mitigations[0],
            current_mitigations=mitigations[1],
        )

    @property
    def chip_is_masked(self) -> bool:
        """True when the report doesn't say on which chip it was made."""
        return not any(self.chip_id)

    @property
    def cpu_product(self) -> Product | None:
        """The product line that the CPUID says; None when it isn't known or not said."""
        return product_of_cpu(*self.cpu[:2]) if self.cpu else None

    def tcbs(self, product: Product) -> dict[str, Tcb]:
        """Return the four TCB versions in a product's layout: ``reported``, ``committed``, ``current``, ``launch``."""
        return {
            "reported": Tcb(self.reported_tcb, product),
            "committed": Tcb(self.committed_tcb, product),
            "current": Tcb(self.current_tcb, product),
            "launch": Tcb(self.launch_tcb, product),
        }

    def signed_by(self, key: ec.EllipticCurvePublicKey) -> bool:
        """Tell whether ``key`` signed the first 672 bytes (r and s are little-endian, 72 bytes each)."""
        r, s = (
            int.from_bytes(self.raw[at : at + _SCALAR_BYTES], "little")
            for at in (SIGNED_BYTES, SIGNED_BYTES + _SCALAR_BYTES)
        )
        if not isinstance(key.curve, ec.SECP384R1):
            return False
        try:
            key.verify(encode_dss_signature(r, s), self.raw[:SIGNED_BYTES], ec.ECDSA(SHA384()))
        except InvalidSignature:
            return False
        return True

    def require_signed(self) -> None:
        """Refuse a report that says of itself that no key signed it.

        :raises BadSignatureError: SIGNING_KEY is none, or the signature is all zero, as with MASK_CHIP_KEY.
        """
        if self.signing_key is SigningKey.NONE or not any(self.raw[SIGNED_BYTES:]):
            raise BadSignatureError(
                "the report isn't signed",
                seen="no signature",
                wanted="a signature by the chip's VCEK or the provider's VLEK",
                remedy="ask for a signed report; a host that masks its chip key (MASK_CHIP_KEY) can't give one",
            )


def _version(reader: Reader) -> int:
    version = reader.integer(4)
    if version not in VERSIONS:
        raise MalformedError(
            f"an SEV-SNP report of version {version} isn't known; versions {VERSIONS[0]} to {VERSIONS[-1]} are read"
        )
    return version


def _require_algorithm(reader: Reader) -> None:
    if (algorithm := reader.integer(4)) != _ECDSA_P384_SHA384:
        raise MalformedError(f"the report's signature algorithm {algorithm} isn't ECDSA P-384 with SHA-384 (1)")


def _keys(reader: Reader) -> int:
    """Take the key information: whether there is an author's key, whether the chip's is masked, and which key signs."""
    keys = reader.integer(4)
    if keys >> 5 or keys >> 2 not in _SIGNING_KEYS:
        raise MalformedError(f"the report's key information 0x{keys:x} has values that are reserved")
    return keys


def _firmware(reader: Reader) -> FirmwareVersion:
    build, minor, major = reader.integer(1), reader.integer(1), reader.integer(1)
    _zero(reader, 1)
    return FirmwareVersion(major, minor, build)


def _zero(reader: Reader, size: int) -> None:
    at = reader.at
    if any(reader.take(size)):
        raise MalformedError(f"`{reader.where}` uses reserved bytes from offset 0x{at:x}")
