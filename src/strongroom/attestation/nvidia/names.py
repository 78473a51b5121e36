"""The ids by which NVIDIA publishes reference manifests, made from what a report states."""

from __future__ import annotations

from typing import Final

from strongroom.attestation.nvidia.dice import Architecture
from strongroom.attestation.nvidia.opaque import Field, OpaqueData

_HOPPER_CHIP: Final = "GH100"
_FIRST_BLACKWELL_CHIP: Final = "GB100"
"""What Blackwell's first firmware means when it doesn't name the chip."""
_LS10_BOARD: Final = "5612_0002_890"
"""Switches don't state their board; there is one."""


def driver_manifest(architecture: Architecture, opaque: OpaqueData) -> str:
    """Return the id of the driver's manifest, ``NV_GPU_DRIVER_GH100_590.12``.

    :raises MalformedError: a text of the report can't be read.
    """
    if architecture is Architecture.BLACKWELL:
        return f"NV_GPU_CC_DRIVER_{opaque.text(Field.CHIP) or _FIRST_BLACKWELL_CHIP}_{opaque.driver_version}"
    return f"NV_GPU_DRIVER_{_HOPPER_CHIP}_{opaque.driver_version}"


def firmware_manifest(architecture: Architecture, opaque: OpaqueData) -> str:
    """Return the id of the VBIOS's or the switch BIOS's manifest, ``NV_GPU_VBIOS_1010_0200_882_96005E0001``.

    :raises MalformedError: a text of the report can't be read.
    """
    if architecture is Architecture.LS10:
        return f"NV_SWITCH_BIOS_{_LS10_BOARD}_{opaque.switch_bios_version.replace('.', '')}"
    board = "_".join(opaque.text(field) for field in (Field.PROJECT, Field.PROJECT_SKU, Field.CHIP_SKU))
    return f"NV_GPU_VBIOS_{board}_{opaque.gpu_vbios_version.replace('.', '')}"
