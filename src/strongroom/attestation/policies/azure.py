"""What is wanted of an Azure confidential virtual machine: rules for its hardware, and rules for its virtual TPM.

The virtual TPM is Microsoft's paravisor, which runs above the guest with the guest's keys. Which paravisor it is says
the launch measurement, an image's reference value; under SEV-SNP also the key that signed its ID block, and a policy
must list those keys: "any" would take a paravisor by anybody.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from strongroom.attestation.policies.allowed import ANYTHING, NOTHING, Allowed
from strongroom.attestation.policies.sev_snp import SevSnpPolicy
from strongroom.attestation.policies.tdx import TdxPolicy
from strongroom.attestation.sev_snp.report import PlatformFeature
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

_LAST_PCR: Final = 23
_MAX_NAMES: Final = 32
_MACHINE: Final = re.compile(r"[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}")
_USER_DATA: Final = re.compile(r"([0-9a-f]{2}){1,64}")
# SHA-384 of the keys that Microsoft's paravisors are signed with, as their machines report them: the first since 2022,
# in Microsoft's documentation of Azure Attestation, the second in machines of 2025.
_PARAVISOR_KEYS: Final = (
    "0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3",
    "942fd93ebde6ea7a96efadeafc60f1c6b3d10e703b1dafd7555b92f7f3d32d0e006767648cba5b102af3d65756af4177",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmRules:
    """Rules for the virtual TPM and the machine around it. PCR values are compared with reference values."""

    configuration: Mapping[str, bool]
    """Switches of the machine by the paravisor's names (``secure-boot``, ``tpm-enabled``, ``console-enabled``, ...),
    and what each must be. One that the paravisor doesn't state is refused."""
    measured_pcrs: tuple[int, ...]
    """PCRs that something must have been measured into, 0 to 23, each once, in order."""
    clock_must_be_safe: bool
    """The TPM's clock must not have gone back since its last orderly shutdown."""
    machines: Allowed
    """Azure's ids of virtual machines (``vmUniqueId``): upper-case UUIDs."""
    user_data: Allowed
    """What the guest had bound into the hardware's report: up to 128 hex digits, with the zeros that fill it up."""

    @classmethod
    def read(cls, fields: Fields) -> VtpmRules:
        """Read the object.

        :raises MalformedError: a field is missing, of another type or out of its range.
        """
        with fields.child("configuration") as told:
            configuration = {name: told.boolean(name) for name in told.names(most=_MAX_NAMES)}
        return cls(
            configuration=configuration,
            measured_pcrs=_numbers(fields, "measured_pcrs"),
            clock_must_be_safe=fields.boolean("clock_must_be_safe"),
            machines=Allowed.read(fields, "machines", _MACHINE),
            user_data=Allowed.read(fields, "user_data", _USER_DATA),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "configuration": dict(self.configuration),
            "measured_pcrs": list(self.measured_pcrs),
            "clock_must_be_safe": self.clock_must_be_safe,
            "machines": self.machines.to_json(),
            "user_data": self.user_data.to_json(),
        }

    @classmethod
    def strictest(cls) -> VtpmRules:
        """Return the tightest rules that today's machines meet; machines must be listed, and none is yet.

        Azure's machines all state ``console-enabled``, so it isn't asked to be off.
        """
        return cls(
            configuration={"secure-boot": True, "tpm-enabled": True},
            measured_pcrs=(0, 4, 7),
            clock_must_be_safe=True,
            machines=NOTHING,
            user_data=ANYTHING,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSnpPolicy:
    """Rules for machines on SEV-SNP.

    :raises MalformedError: the hardware's rules take a paravisor by anybody.
    """

    hardware: SevSnpPolicy
    vtpm: VtpmRules

    def __post_init__(self) -> None:
        if self.hardware.id_keys.values is None:
            raise MalformedError(
                "`hardware.id_keys` must list the keys that Azure's paravisors may be signed with",
                remedy="list Microsoft's keys; the strictest policy holds those that are known",
            )

    @classmethod
    def read(cls, fields: Fields) -> AzureSnpPolicy:
        """Read ``{hardware, vtpm}``.

        :raises MalformedError: see both.
        """
        with fields.child("hardware") as told:
            hardware = SevSnpPolicy.read(told)
        with fields.child("vtpm") as told:
            return cls(hardware=hardware, vtpm=VtpmRules.read(told))

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {"hardware": self.hardware.to_json(), "vtpm": self.vtpm.to_json()}

    @classmethod
    def strictest(cls) -> AzureSnpPolicy:
        """Return the tightest rules that Azure's machines can meet, with Microsoft's keys for the paravisor.

        Azure launches guests with simultaneous multithreading, and asks its platforms for no more than this.
        """
        hardware = replace(
            SevSnpPolicy.strictest(),
            allow_smt=True,
            guest_rules=(),
            platform_features=(PlatformFeature.ECC, PlatformFeature.ALIAS_CHECK_COMPLETE),
            id_keys=Allowed(_PARAVISOR_KEYS),
        )
        return cls(hardware=hardware, vtpm=VtpmRules.strictest())


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureTdxPolicy:
    """Rules for machines on TDX."""

    hardware: TdxPolicy
    vtpm: VtpmRules

    @classmethod
    def read(cls, fields: Fields) -> AzureTdxPolicy:
        """Read ``{hardware, vtpm}``.

        :raises MalformedError: see both.
        """
        with fields.child("hardware") as told:
            hardware = TdxPolicy.read(told)
        with fields.child("vtpm") as told:
            return cls(hardware=hardware, vtpm=VtpmRules.read(told))

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {"hardware": self.hardware.to_json(), "vtpm": self.vtpm.to_json()}

    @classmethod
    def strictest(cls) -> AzureTdxPolicy:
        """Return the tightest rules of both."""
        return cls(hardware=TdxPolicy.strictest(), vtpm=VtpmRules.strictest())


def _numbers(fields: Fields, name: str) -> tuple[int, ...]:
    found = []
    for where, number in fields.items(name, most=_LAST_PCR + 1):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= _LAST_PCR:
            raise MalformedError(f"`{where}` must be a PCR's number, 0 to {_LAST_PCR}")
        found.append(number)
    if found != sorted(set(found)):
        raise MalformedError(f"`{fields.where}.{name}` must name each PCR once, in order")
    return tuple(found)
