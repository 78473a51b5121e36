"""What is wanted of an AMD SEV-SNP report. Debug mode and migration agents are refused without a rule for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from strongroom.attestation.policies.allowed import ANYTHING, NOTHING, Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.attestation.sev_snp.products import Product, tcb_parts
from strongroom.attestation.sev_snp.report import FirmwareVersion, GuestRule, PlatformFeature, SigningKey
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

Choice = TypeVar("Choice", bound=StrEnum)

_MOST_VMPLS: Final = 4
_MOST_MITIGATIONS: Final = 64
_HEX_16: Final = re.compile(r"[0-9a-f]{32}")
_HEX_32: Final = re.compile(r"[0-9a-f]{64}")
_HEX_48: Final = re.compile(r"[0-9a-f]{96}")
_HEX_64: Final = re.compile(r"[0-9a-f]{128}")
_PROVIDER: Final = re.compile(r"[ -~]{1,64}")


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest firmware that a product may run: security version of each part, and the firmware's own version."""

    tcb: Mapping[str, int]
    """Each part that :func:`~strongroom.attestation.sev_snp.products.tcb_parts` names, 0 to 255."""
    firmware: FirmwareVersion

    @classmethod
    def read(cls, fields: Fields, product: Product) -> Floor:
        """Read ``{bootloader, tee, snp, microcode, firmware}``, with ``fmc`` for Turin."""
        return cls(
            tcb={part: fields.integer(part, most=0xFF) for part in tcb_parts(product)},
            firmware=fields.parsed("firmware", FirmwareVersion.parse),
        )

    def to_json(self) -> dict[str, Json]:
        """Return what :meth:`read` reads."""
        return {**self.tcb, "firmware": str(self.firmware)}


# The oldest firmware with the fixes that a report can show, as public verifiers quote AMD's bulletins; the bulletins
# themselves were out of reach, so compare before relying on them. AMD-SB-3020 (CVE-2025-0033): SNP 0x1b on Genoa, 0x04
# on Turin. AMD-SB-3027 (CVE-2025-29943): microcode 0x56 on Genoa (B1), 0x51 on Turin (C1). Genoa-X, Bergamo and Siena
# count their microcode differently: a policy for them writes its own. The other parts, and the firmware versions, have
# no published floor: these are what machines with such firmware reported.
_GENOA: Final = Floor({"bootloader": 10, "tee": 0, "snp": 0x1B, "microcode": 0x56}, FirmwareVersion(1, 55, 40))
_TURIN: Final = Floor({"fmc": 1, "bootloader": 1, "tee": 1, "snp": 0x04, "microcode": 0x51}, FirmwareVersion(1, 58, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class SevSnpPolicy:
    """Rules for reports. The launch measurement is compared with reference values, not here."""

    floors: Mapping[Product, Floor]
    """The products that are taken, and each one's floor. It is compared with the lowest of the four TCB versions: the
    reported one, which the signing key was derived for; the committed one, below which the host can roll back to
    nothing; the current one; and the one at launch, whose firmware measured the guest."""
    signing_keys: tuple[SigningKey, ...]
    """``vcek``, ``vlek``. A VLEK hides which chip it was."""
    vmpls: tuple[int, ...]
    """The privilege levels that may ask for the report, 0 to 3. Below 0, a paravisor above the guest is trusted too."""
    allow_smt: bool
    """The guest may run where simultaneous multithreading is on, beside a hostile thread (AMD-SB-3027)."""
    allow_cxl: bool
    """The guest may run with CXL memory, which an interposer reaches more easily."""
    guest_rules: tuple[GuestRule, ...]
    """What the guest's own policy must have asked for."""
    platform_features: tuple[PlatformFeature, ...]
    """What the platform must say of itself."""
    guest_svn: int
    """Floor of the security version in the guest's ID block."""
    mitigations: tuple[int, ...]
    """Bits that must be set in both mitigation vectors, 0 to 63; reports before version 5 have none."""
    host_data: Allowed
    """What the host bound at launch: 64 hex digits each."""
    family_ids: Allowed
    """From the ID block: 32 hex digits each."""
    image_ids: Allowed
    """From the ID block: 32 hex digits each."""
    id_keys: Allowed
    """SHA-384 of the key that signed the ID block: 96 hex digits each."""
    author_keys: Allowed
    """SHA-384 of the key that certified the ID key: 96 hex digits each. Only one that the report vouches for counts."""
    chips: Allowed
    """Chips in known hands: 128 hex digits each. A masked chip is on no list."""
    providers: Allowed
    """Whom AMD gave the VLEK to, by name; not asked of a VCEK."""
    revocation: RevocationRule
    """AMD's list of the product, signed by its root, names intermediates. Chips' keys end by their TCB version."""

    @classmethod
    def read(cls, fields: Fields) -> SevSnpPolicy:
        """Read the object.

        :raises MalformedError: a field is missing, of another type or out of its range.
        """
        with fields.child("floors") as told:
            floors = {}
            for name in told.names(most=len(Product)):
                product = _choice(Product, name, told.where)
                with told.child(name) as one:
                    floors[product] = Floor.read(one, product)
        return cls(
            floors=floors,
            signing_keys=_choices(fields, "signing_keys", SigningKey, without=SigningKey.NONE),
            vmpls=_numbers(fields, "vmpls", _MOST_VMPLS),
            allow_smt=fields.boolean("allow_smt"),
            allow_cxl=fields.boolean("allow_cxl"),
            guest_rules=_choices(fields, "guest_rules", GuestRule),
            platform_features=_choices(fields, "platform_features", PlatformFeature),
            guest_svn=fields.integer("guest_svn", most=2**32 - 1),
            mitigations=_numbers(fields, "mitigations", _MOST_MITIGATIONS),
            host_data=Allowed.read(fields, "host_data", _HEX_32),
            family_ids=Allowed.read(fields, "family_ids", _HEX_16),
            image_ids=Allowed.read(fields, "image_ids", _HEX_16),
            id_keys=Allowed.read(fields, "id_keys", _HEX_48),
            author_keys=Allowed.read(fields, "author_keys", _HEX_48),
            chips=Allowed.read(fields, "chips", _HEX_64),
            providers=Allowed.read(fields, "providers", _PROVIDER),
            revocation=fields.parsed("revocation", RevocationRule),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "floors": {product.value: floor.to_json() for product, floor in self.floors.items()},
            "signing_keys": [key.value for key in self.signing_keys],
            "vmpls": list(self.vmpls),
            "allow_smt": self.allow_smt,
            "allow_cxl": self.allow_cxl,
            "guest_rules": [rule.value for rule in self.guest_rules],
            "platform_features": [feature.value for feature in self.platform_features],
            "guest_svn": self.guest_svn,
            "mitigations": list(self.mitigations),
            "host_data": self.host_data.to_json(),
            "family_ids": self.family_ids.to_json(),
            "image_ids": self.image_ids.to_json(),
            "id_keys": self.id_keys.to_json(),
            "author_keys": self.author_keys.to_json(),
            "chips": self.chips.to_json(),
            "providers": self.providers.to_json(),
            "revocation": self.revocation.value,
        }

    @classmethod
    def strictest(cls) -> SevSnpPolicy:
        """Return the tightest rules: Genoa and Turin, chips listed (none is yet), no neighbour on the core.

        Milan isn't there: its keys can be extracted. Platforms don't all have TSME and AES-256-XTS, and mitigation
        bits belong to one firmware; a deployment adds those that its machines show.
        """
        return cls(
            floors={Product.GENOA: _GENOA, Product.TURIN: _TURIN},
            signing_keys=(SigningKey.VCEK,),
            vmpls=(0,),
            allow_smt=False,
            allow_cxl=False,
            guest_rules=(GuestRule.RAPL_DISABLED, GuestRule.CIPHERTEXT_HIDING, GuestRule.PAGE_SWAP_DISABLED),
            platform_features=(
                PlatformFeature.ECC,
                PlatformFeature.RAPL_DISABLED,
                PlatformFeature.CIPHERTEXT_HIDING,
                PlatformFeature.ALIAS_CHECK_COMPLETE,
            ),
            guest_svn=0,
            mitigations=(),
            host_data=ANYTHING,
            family_ids=ANYTHING,
            image_ids=ANYTHING,
            id_keys=ANYTHING,
            author_keys=ANYTHING,
            chips=NOTHING,
            providers=NOTHING,
            revocation=RevocationRule.REQUIRED,
        )


def _choice(kind: type[Choice], name: str, where: str) -> Choice:
    try:
        return kind(name)
    except ValueError:
        raise MalformedError(f"`{where}` may name {', '.join(f'`{one}`' for one in kind)}") from None


def _choices(fields: Fields, name: str, kind: type[Choice], *, without: Choice | None = None) -> tuple[Choice, ...]:
    found = tuple(_choice(kind, text, f"{fields.where}.{name}") for text in fields.texts(name, most=len(kind)))
    if len(set(found)) != len(found) or without in found:
        raise MalformedError(f"`{fields.where}.{name}` names something twice, or what can't be wanted")
    return found


def _numbers(fields: Fields, name: str, most: int) -> tuple[int, ...]:
    """Read different numbers from 0 to ``most - 1``, in order."""
    found = []
    for where, number in fields.items(name, most=most):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < most:
            raise MalformedError(f"`{where}` must be a number from 0 to {most - 1}")
        found.append(number)
    if found != sorted(set(found)):
        raise MalformedError(f"`{fields.where}.{name}` must name each number once, in order")
    return tuple(found)
