"""Device trees that play the kernel: ``configfs-tsm``, the Nitro module's ``ioctl``, and NVML with its own structures.

What answers is a simulated chip of a made-up maker; each tree can be told to misbehave as a real one may.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import cbor2
import pynvml

from simulators import nvidia_chain
from simulators.nitro_chain import nitro_chain
from simulators.sev_snp_chain import Machine
from strongroom.attestation.adapters.nsm import MAX_RESPONSE, NSM_IOCTL, NsmMessage


@dataclass
class FakeReports:
    """``configfs-tsm`` with an SEV-SNP guest behind it."""

    machine: Machine = field(default_factory=Machine)
    provider: bytes = b"sev_guest\n"
    disturbed: int = 0
    """How many readings of ``outblob`` somebody else's write comes between."""
    failing: dict[str, int] = field(default_factory=dict)
    """Attributes that can't be read, and the error's number; ``make`` stands for the directory."""
    oversized: frozenset[str] = frozenset()
    folders: dict[str, bytes] = field(default_factory=dict)
    made: int = 0
    _generation: int = 0

    def make(self, name: str) -> None:
        self._fail("make")
        if name in self.folders:
            raise FileExistsError(errno.EEXIST, name)
        self.folders[name] = b""
        self.made += 1

    def write(self, name: str, attribute: str, data: bytes) -> None:
        assert attribute == "inblob"
        if len(data) != 64:
            raise OSError(errno.EINVAL, name)
        self.folders[name] = data
        self._generation += 1

    def read(self, name: str, attribute: str) -> bytes:
        self._fail(attribute)
        if attribute in self.oversized:
            return bytes(1 << 20)
        machine = replace(self.machine, report_data=self.folders[name])
        if attribute == "outblob" and self.disturbed > 0:
            self.disturbed -= 1
            self._generation += 1
        told: dict[str, Callable[[], bytes]] = {
            "generation": f"{self._generation}\n".encode,
            "provider": lambda: self.provider,
            "outblob": machine.report,
            "auxblob": machine.certificates,
        }
        return told[attribute]()

    def remove(self, name: str) -> None:
        del self.folders[name]

    def _fail(self, attribute: str) -> None:
        if attribute in self.failing:
            raise OSError(self.failing[attribute], attribute)


@dataclass
class FakeNsm:
    """The Nitro module behind its ``ioctl``: reads and writes the caller's memory as the kernel would."""

    answer: Callable[[dict[str, Any]], object] | None = None
    raw: bytes | None = None
    claims_length: int | None = None
    asked: list[object] = field(default_factory=list)

    def __call__(self, descriptor: int, number: int, message: NsmMessage) -> int:
        assert descriptor >= 0
        assert number == NSM_IOCTL
        request = cbor2.loads(ctypes.string_at(message.request.address, message.request.length))
        self.asked.append(request)
        assert message.response.length == MAX_RESPONSE
        response = self.raw if self.raw is not None else cbor2.dumps(self._respond(request))
        ctypes.memmove(message.response.address, response, len(response))
        message.response.length = self.claims_length if self.claims_length is not None else len(response)
        return 0

    def _respond(self, request: dict[str, Any]) -> object:
        if self.answer is not None:
            return self.answer(request)
        asked = request["Attestation"]
        return {"Attestation": {"document": nitro_chain().document(**asked)}}


class FakeNvml:
    """NVML with simulated GPUs: the binding's own structures and constants, other functions."""

    NVMLError = pynvml.NVMLError

    def __init__(
        self, gpus: int = 2, *, enabled: bool = True, protected_pcie: bool = False, devtools: bool = False
    ) -> None:
        self._devices = [nvidia_chain.device(pdi=bytes([number + 1]) * 8) for number in range(gpus)]
        self._state = (enabled, protected_pcie, devtools)
        self.open = 0
        self.ready = False
        self.fault: int | None = None
        self.claims_size: int | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("NVML_", "c_nvml", "nvmlSystemConfComputeSettings_")):
            return getattr(pynvml, name)
        raise AttributeError(name)

    def nvmlInit(self) -> None:  # noqa: N802 - the library's name
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetConfComputeState(self) -> Any:  # noqa: N802
        enabled, _pcie, devtools = self._state
        return pynvml.c_nvmlConfComputeSystemState_t(
            environment=pynvml.NVML_CC_SYSTEM_ENVIRONMENT_PROD, ccFeature=int(enabled), devToolsMode=int(devtools)
        )

    def nvmlSystemGetConfComputeSettings(self, pointer: Any) -> int:  # noqa: N802
        settings = pointer._obj
        if settings.version != pynvml.nvmlSystemConfComputeSettings_v1:
            return int(pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH)
        settings.multiGpuMode = int(self._state[1])
        return int(pynvml.NVML_SUCCESS)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._devices)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self._devices[index]

    def nvmlDeviceGetConfComputeGpuAttestationReport(self, device: Any, nonce: bytes) -> Any:  # noqa: N802
        if self.fault is not None:
            raise pynvml.NVMLError(self.fault)
        made = nvidia_chain.report(device, nonce=bytes(nonce))
        told = pynvml.c_nvmlConfComputeGpuAttestationReport_t()
        ctypes.memmove(told.attestationReport, made, len(made))
        told.attestationReportSize = len(made) if self.claims_size is None else self.claims_size
        return told

    def nvmlDeviceGetConfComputeGpuCertificate(self, device: Any) -> Any:  # noqa: N802
        told = pynvml.c_nvmlConfComputeGpuCertificate_t()
        ctypes.memmove(told.attestationCertChain, device.bundle, len(device.bundle))
        told.attestationCertChainSize = len(device.bundle)
        return told

    def nvmlSystemSetConfComputeGpusReadyState(self, state: int) -> None:  # noqa: N802
        self.ready = state == pynvml.NVML_CC_ACCEPTING_CLIENT_REQUESTS_TRUE
