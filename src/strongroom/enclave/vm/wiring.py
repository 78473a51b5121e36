"""Building, predicting and starting machines: what the command line calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from strongroom.core.digest import Digest
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.launch.relay import Opened, ReleasePort, relay
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.vm.adapters.build import Recipe, build, read_artefacts, read_image
from strongroom.enclave.vm.adapters.qemu import Outputs, VmLaunch, VmRunner
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.prediction import Prediction, predict, predict_snp

LAST_WORDS_SECONDS: Final = 20.0

__all__ = ["Recipe", "VmLaunch", "build", "predict_image", "predict_snp_image", "read_image", "run"]


def predict_image(folder: Path, genesis: Digest) -> tuple[VmImage, Prediction]:
    """Read a built image, check its files, and return what a machine that runs it measures.

    :raises UsageError: no image there. :raises ArtefactMismatchError: a file isn't the image's.
    """
    image = read_image(folder)
    return image, predict(image, read_artefacts(folder), genesis)


def predict_snp_image(folder: Path, firmware: bytes) -> dict[str, str]:
    """Read a built image, check its files, and return what a SEV-SNP machine that runs it is measured as.

    :raises UsageError: no image there. :raises MalformedError: the firmware measures no kernel.
    """
    return predict_snp(read_image(folder), read_artefacts(folder), firmware)


def run(
    launch: VmLaunch,
    order: Order,
    broker: ReleasePort,
    *,
    opened: Callable[[Opened], None],
    out: IO[bytes],
    err: IO[bytes],
    seconds: float = 3600.0,
) -> ExitStatus:
    """Start the machine, relay between its agent and the broker, and pass on what the command writes.

    :raises SandboxError: the machine doesn't start.
    :raises StrongroomError: the keeper refused, or the agent failed.
    """
    with VmRunner().launch(launch, Outputs(out, err)) as running:
        status = relay(running, order, broker, opened=opened, seconds=seconds)
        running.drain(timeout=LAST_WORDS_SECONDS)
        return status
