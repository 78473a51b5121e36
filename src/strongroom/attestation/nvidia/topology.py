"""Do these GPUs and switches hang together? A pure comparison of genuine statements with each other.

In Protected PCIe mode NVLink carries weights in the clear between eight GPUs through four switches. So every GPU must
name exactly these switches, and every switch exactly these GPUs. Names are the identifiers (PDI) that NVIDIA's
provisioner wrote into each device's certificate: NVIDIA's own check compares the lists only with each other, and would
take eight reports of which none is of a GPU that the switches name.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from strongroom.attestation.claims import Aspect, Claim, equal
from strongroom.attestation.nvidia.opaque import Mode
from strongroom.attestation.nvidia.statement import DeviceStatement, Proven
from strongroom.core.errors import UsageError

GPUS: Final = 8
SWITCHES: Final = 4


class Topology(StrEnum):
    """How devices must be connected."""

    NONE = "none"
    """Each device stands alone."""
    EIGHT_BY_FOUR = "8x4"
    """Eight GPUs in Protected PCIe mode, each on all of four switches."""


def topology_claims(
    gpus: Sequence[DeviceStatement], switches: Sequence[DeviceStatement], wanted: Topology
) -> tuple[Claim, ...]:
    """Compare devices with each other; no claim for :attr:`Topology.NONE`.

    :raises UsageError: a statement that wasn't proven genuine.
    """
    if wanted is Topology.NONE:
        return ()
    all_gpus, all_switches = proven_devices(gpus), proven_devices(switches)
    gpu_ids = frozenset(gpu.identity.pdi for gpu in all_gpus)
    switch_ids = frozenset(switch.identity.pdi for switch in all_switches)
    honest = all(switch.own_word == switch.identity.pdi for switch in all_switches)
    modes = sorted({gpu.mode for gpu in all_gpus})
    return (
        equal("topology.gpus", Aspect.CONFIGURATION, len(gpu_ids), GPUS),
        equal("topology.switches", Aspect.CONFIGURATION, len(switch_ids), SWITCHES),
        _counted("topology.gpu-statements", len(gpus), len(gpu_ids)),
        _counted("topology.switch-statements", len(switches), len(switch_ids)),
        _same("topology.switches-of-gpus", {gpu.neighbours for gpu in all_gpus}, switch_ids),
        _same("topology.gpus-of-switches", {switch.neighbours for switch in all_switches}, gpu_ids),
        equal("topology.switches-name-themselves", Aspect.INSTANCE_IDENTITY, seen=honest, wanted=True),
        equal("topology.mode", Aspect.CONFIGURATION, ", ".join(modes), Mode.PPCIE.value),
    )


def proven_devices(devices: Sequence[DeviceStatement]) -> list[Proven]:
    """Return what was proven of each device.

    :raises UsageError: a statement that wasn't proven genuine.
    """
    found = [device.proven for device in devices if device.proven is not None]
    if len(found) != len(devices):
        raise UsageError("devices are compared once they are genuine")
    return found


def _counted(name: str, statements: int, devices: int) -> Claim:
    """Claim that no device stands there twice."""
    return equal(name, Aspect.INSTANCE_IDENTITY, statements, devices)


def _same(name: str, named: set[frozenset[bytes]], wanted: frozenset[bytes]) -> Claim:
    seen = " / ".join(sorted(_written(one) for one in named))
    return Claim(name, Aspect.CONFIGURATION, seen or "nothing", _written(wanted), ok=named == {wanted})


def _written(pdis: frozenset[bytes]) -> str:
    return " ".join(sorted(pdi.hex() for pdi in pdis)) or "nothing"
