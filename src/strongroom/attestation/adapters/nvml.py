"""Statements of NVIDIA GPUs in confidential-computing mode through NVML (package ``nvidia-ml-py``)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from strongroom.attestation.errors import CollectionError
from strongroom.attestation.evidence import MAX_DEVICES, EvidenceItem
from strongroom.attestation.kinds import EvidenceKind
from strongroom.attestation.nvidia.statement import to_body
from strongroom.core.errors import UsageError
from strongroom.core.extras import need

NONCE_BYTES: Final = 32


class NvmlDevices:
    """The GPUs that the driver shows to this machine, in its own order.

    ``library`` is the NVML binding; None imports it when it is first used.
    """

    def __init__(self, library: Any | None = None) -> None:
        self._given = library

    def statements(self, nonce: bytes) -> tuple[EvidenceItem, ...]:
        """Have every GPU sign ``nonce``.

        :raises CollectionError: no driver, a GPU that isn't in confidential-computing mode, or one that refused.
        :raises UsageError: a nonce that isn't 32 bytes. :raises MissingExtraError: the binding isn't installed.
        """
        if len(nonce) != NONCE_BYTES:
            raise UsageError(f"a GPU signs a nonce of {NONCE_BYTES} bytes, not {len(nonce)}")
        with self._opened() as nvml:
            _require_mode(nvml)
            count = nvml.nvmlDeviceGetCount()
            if not 1 <= count <= MAX_DEVICES:
                raise CollectionError(f"NVML: {count} GPUs; 1 to {MAX_DEVICES} can be attested")
            return tuple(_statement(nvml, nvml.nvmlDeviceGetHandleByIndex(index), nonce) for index in range(count))

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        nvml = self._given or need("pynvml", extra="nvml")
        try:
            nvml.nvmlInit()
            try:
                yield nvml
            finally:
                nvml.nvmlShutdown()
        except nvml.NVMLError as error:
            raise CollectionError(
                f"NVML: {error}", remedy="install NVIDIA's driver, on a GPU that can attest (Hopper or later)"
            ) from None


def _require_mode(nvml: Any) -> None:
    state = nvml.nvmlSystemGetConfComputeState()
    if state.devToolsMode != nvml.NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF:
        raise CollectionError("NVML: the GPUs are in developer-tools mode", remedy="switch it off and reset the GPUs")
    if state.ccFeature == nvml.NVML_CC_SYSTEM_FEATURE_ENABLED:
        return
    # Eight GPUs behind switches are protected on PCIe alone, with the single-GPU feature off.
    settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
    settings.version = nvml.nvmlSystemConfComputeSettings_v1
    answered = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
    if answered != nvml.NVML_SUCCESS or settings.multiGpuMode != nvml.NVML_CC_SYSTEM_MULTIGPU_PROTECTED_PCIE:
        raise CollectionError(
            "NVML: the GPUs aren't in confidential-computing mode",
            remedy="switch confidential computing or protected PCIe on, and reset the GPUs",
        )


def _statement(nvml: Any, device: Any, nonce: bytes) -> EvidenceItem:
    report = nvml.nvmlDeviceGetConfComputeGpuAttestationReport(device, nonce)
    chain = nvml.nvmlDeviceGetConfComputeGpuCertificate(device)
    return EvidenceItem(
        EvidenceKind.NVIDIA_GPU,
        to_body(
            _cut(report.attestationReport, report.attestationReportSize, "report"),
            _cut(chain.attestationCertChain, chain.attestationCertChainSize, "certificate chain"),
        ),
    )


def _cut(room: Any, size: int, what: str) -> bytes:
    data = bytes(room)
    if not 1 <= size <= len(data):
        raise CollectionError(f"NVML: a {what} of {size} bytes, in room for {len(data)}")
    return data[:size]
