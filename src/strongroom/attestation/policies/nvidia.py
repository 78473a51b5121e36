"""What is wanted of NVIDIA's GPUs and NVSwitches, and of a machine that has several."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

from strongroom.attestation.claims import Aspect, Claim, equal, one_of
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.dice import Architecture
from strongroom.attestation.nvidia.opaque import Mode
from strongroom.attestation.nvidia.statement import DeviceStatement
from strongroom.attestation.nvidia.topology import GPUS, SWITCHES, Topology, proven_devices, topology_claims
from strongroom.attestation.policies.allowed import ANYTHING, Allowed
from strongroom.attestation.policies.revocation_rule import RevocationRule
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields

T = TypeVar("T")
_MOST_DEVICES: Final = 24
_VERSION: Final = re.compile(r"[0-9A-F]{1,4}(?:\.[0-9A-F]{1,4}){1,7}")
_CHIP: Final = re.compile(r"(?:[0-9a-f]{2}){1,20}")


class Demand(StrEnum):
    """What to do without a reference manifest. One that is there is always judged."""

    REQUIRED = "required"
    WHEN_PRESENT = "when-present"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRules:
    """Rules for reference manifests and revocation, the same for every kind of device."""

    rim: Demand
    """Reference manifests must be in the collateral; those that are there must match, whatever this says."""
    rim_signer_must_be_current: bool
    """False takes manifests whose signer's two years are over: they carry no time stamp, so a signer's key that leaks
    after its end would still be believed."""
    revocation: RevocationRule
    """Lists and OCSP answers count alike; the device's own attestation certificate can't be revoked."""

    @classmethod
    def read(cls, fields: Fields) -> ManifestRules:
        """Read the three members."""
        return cls(
            rim=fields.parsed("rim", Demand),
            rim_signer_must_be_current=fields.boolean("rim_signer_must_be_current"),
            revocation=fields.parsed("revocation", RevocationRule),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the three members."""
        return {
            "rim": self.rim.value,
            "rim_signer_must_be_current": self.rim_signer_must_be_current,
            "revocation": self.revocation.value,
        }


STRICTEST_MANIFESTS: Final = ManifestRules(
    rim=Demand.REQUIRED, rim_signer_must_be_current=True, revocation=RevocationRule.REQUIRED
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaGpuPolicy:
    """Rules for GPUs.

    A floor holds for its own branch, the part of the version before the first dot, because fixes are made in each: a
    version passes if it is at or above a floor of its branch, and a branch without a floor is refused.
    """

    architectures: tuple[Architecture, ...]
    driver_floors: tuple[str, ...] | None
    """None takes any version."""
    vbios_floors: tuple[str, ...] | None
    """None takes any version."""
    modes: tuple[Mode, ...]
    """``spt`` and ``mpt`` are taken together or not at all."""
    manifests: ManifestRules
    chips: Allowed
    """Serial numbers of device certificates, in hex: one byte for the family, then the PDI."""

    @classmethod
    def read(cls, fields: Fields) -> NvidiaGpuPolicy:
        """Read the object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        return cls(
            architectures=_architectures(fields, EvidenceKind.NVIDIA_GPU),
            driver_floors=_floors(fields, "driver_floors"),
            vbios_floors=_floors(fields, "vbios_floors"),
            modes=_several(fields, "modes", Mode),
            manifests=ManifestRules.read(fields),
            chips=Allowed.read(fields, "chips", _CHIP),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "architectures": [one.value for one in self.architectures],
            "driver_floors": Allowed(self.driver_floors).to_json(),
            "vbios_floors": Allowed(self.vbios_floors).to_json(),
            "modes": [one.value for one in self.modes],
            **self.manifests.to_json(),
            "chips": self.chips.to_json(),
        }

    @classmethod
    def strictest(cls) -> NvidiaGpuPolicy:
        """Return the tightest rules that are known to be met: floors are of firmware whose reports were seen.

        A Blackwell board needs a VBIOS floor of its own branch besides.
        """
        return cls(
            architectures=(Architecture.HOPPER, Architecture.BLACKWELL),
            driver_floors=("580.95.05", "590.12"),
            vbios_floors=("96.00.A5.00.01",),
            modes=(Mode.SPT, Mode.MPT, Mode.PPCIE),
            manifests=STRICTEST_MANIFESTS,
            chips=ANYTHING,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaSwitchPolicy:
    """Rules for NVSwitches. Floors as for GPUs."""

    architectures: tuple[Architecture, ...]
    bios_floors: tuple[str, ...] | None
    """None takes any version."""
    must_be_locked: bool
    """The switch's routing can't be changed until it is reset."""
    manifests: ManifestRules
    chips: Allowed
    """Serial numbers of device certificates, in hex."""

    @classmethod
    def read(cls, fields: Fields) -> NvidiaSwitchPolicy:
        """Read the object.

        :raises MalformedError: a field is missing, unknown or out of its range.
        """
        return cls(
            architectures=_architectures(fields, EvidenceKind.NVIDIA_SWITCH),
            bios_floors=_floors(fields, "bios_floors"),
            must_be_locked=fields.boolean("must_be_locked"),
            manifests=ManifestRules.read(fields),
            chips=Allowed.read(fields, "chips", _CHIP),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {
            "architectures": [one.value for one in self.architectures],
            "bios_floors": Allowed(self.bios_floors).to_json(),
            "must_be_locked": self.must_be_locked,
            **self.manifests.to_json(),
            "chips": self.chips.to_json(),
        }

    @classmethod
    def strictest(cls) -> NvidiaSwitchPolicy:
        """Return the tightest rules that are known to be met."""
        return cls(
            architectures=(Architecture.LS10,),
            bios_floors=("96.10.73.00.01",),
            must_be_locked=True,
            manifests=STRICTEST_MANIFESTS,
            chips=ANYTHING,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NvidiaDevicesPolicy:
    """Rules for a machine's devices together: how many of each, and how connected."""

    gpus: tuple[int, ...]
    """Counts that are taken, ``(1, 8)`` say."""
    switches: tuple[int, ...]
    topology: Topology

    @classmethod
    def read(cls, fields: Fields) -> NvidiaDevicesPolicy:
        """Read ``{gpus, switches, topology}``.

        :raises MalformedError: a field is missing, a count is out of its range, or the counts can't have the topology.
        """
        found = cls(
            gpus=_counts(fields, "gpus"),
            switches=_counts(fields, "switches"),
            topology=fields.parsed("topology", Topology),
        )
        if found.topology is Topology.EIGHT_BY_FOUR and (found.gpus, found.switches) != ((GPUS,), (SWITCHES,)):
            raise MalformedError(f"`{fields.where}`: the topology `8x4` has 8 GPUs and 4 switches")
        return found

    def to_json(self) -> dict[str, Json]:
        """Return the object."""
        return {"gpus": [*self.gpus], "switches": [*self.switches], "topology": self.topology.value}

    def claims(self, gpus: Sequence[DeviceStatement], switches: Sequence[DeviceStatement]) -> tuple[Claim, ...]:
        """Compare a machine's genuine devices with these rules; none may stand there twice.

        :raises UsageError: a statement that wasn't proven genuine.
        """
        chips = {one.identity.serial for one in proven_devices((*gpus, *switches))}
        return (
            one_of("devices.gpus", Aspect.CONFIGURATION, len(gpus), self.gpus),
            one_of("devices.switches", Aspect.CONFIGURATION, len(switches), self.switches),
            equal("devices.distinct", Aspect.INSTANCE_IDENTITY, len(chips), len(gpus) + len(switches)),
            _one_mode(sorted({one.mode for one in proven_devices(gpus)}), self.topology),
            *topology_claims(gpus, switches, self.topology),
        )

    @classmethod
    def strictest(cls) -> NvidiaDevicesPolicy:
        """Return the rules for a whole machine, all of whose links are accounted for."""
        return cls(gpus=(GPUS,), switches=(SWITCHES,), topology=Topology.EIGHT_BY_FOUR)


def _one_mode(modes: Sequence[Mode], topology: Topology) -> Claim:
    # GPUs of one machine share their mode. In Protected PCIe weights cross NVLink in the clear, and where no topology
    # is asked for nobody looks at what is at the other end.
    alone = topology is Topology.NONE
    wanted = "one mode, and `ppcie` only with a topology" if alone else "one mode"
    ok = len(modes) <= 1 and not (alone and Mode.PPCIE in modes)
    return Claim("devices.mode", Aspect.CONFIGURATION, ", ".join(modes) or "nothing", wanted, ok=ok)


def at_or_above(version: str, floors: Iterable[str]) -> bool:
    """Tell whether a version is at or above a floor of its own branch; parts are compared as hexadecimal numbers.

    Drivers count in decimal, where the order of numbers written in decimal digits is the same.
    """
    if not _VERSION.fullmatch(version):
        return False
    parts = _parts(version)
    return any(parts[0] == _parts(floor)[0] and parts >= _parts(floor) for floor in floors)


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part, 16) for part in version.split("."))


def _several(fields: Fields, name: str, parse: Callable[[str], T]) -> tuple[T, ...]:
    try:
        found = tuple(parse(text) for text in fields.texts(name, most=16))
    except ValueError:
        raise MalformedError(f"`{fields.where}.{name}` must list allowed values") from None
    if not found or len(set(found)) != len(found):
        raise MalformedError(f"`{fields.where}.{name}` must list at least one value, and none twice")
    return found


def _architectures(fields: Fields, kind: EvidenceKind) -> tuple[Architecture, ...]:
    found = _several(fields, "architectures", Architecture)
    if any(one.kind is not kind for one in found):
        raise MalformedError(f"`{fields.where}.architectures` must list architectures of `{kind}`")
    return found


def _floors(fields: Fields, name: str) -> tuple[str, ...] | None:
    return Allowed.read(fields, name, _VERSION).values


def _counts(fields: Fields, name: str) -> tuple[int, ...]:
    found: list[int] = []
    for where, item in fields.items(name, most=_MOST_DEVICES + 1):
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item <= _MOST_DEVICES or item in found:
            raise MalformedError(f"`{where}` must be a count from 0 to {_MOST_DEVICES} that isn't listed yet")
        found.append(item)
    if not found:
        raise MalformedError(f"`{fields.where}.{name}` must list a count")
    return tuple(found)
