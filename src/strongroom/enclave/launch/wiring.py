"""Launching a process enclave on this machine: measure, extend, start, relay, and carry its output."""

from __future__ import annotations

import itertools
import os
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from strongroom.attestation.adapters.measure_files import measure_file, measure_trees
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.measurement import Measurement, facts_digest
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ImageId
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.image import Image, measured
from strongroom.enclave.launch.relay import Opened, ReleasePort, relay
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import process_profile
from strongroom.tpm.adapters.transport import DescriptorTransport

AGENT: Final = "strongroom.enclave.agent.wiring"
_LOWEST_ROOM: Final = 64 << 20
_LIBRARY_FOLDERS: Final = (f"/lib/{os.uname().machine}-linux-gnu", "/lib64")
_LIBRARIES: Final = (
    "ld-linux-x86-64.so.2",
    "ld-linux-aarch64.so.1",
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "librt.so.1",
    "libpthread.so.0",
    "libutil.so.1",
    "libgcc_s.so.1",
    "libstdc++.so.6",
)


def tpm_transport(address: str) -> DescriptorTransport:
    """Connect to a TPM: ``device:/dev/tpmrm0``, ``unix:PATH`` or ``tcp:HOST:PORT`` (the last two are simulators).

    :raises UsageError: another form.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "device" and rest:
        return DescriptorTransport.device(Path(rest))
    if scheme == "unix" and rest:
        return DescriptorTransport.unix(Path(rest))
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isdecimal():
        return DescriptorTransport.tcp(host, int(port))
    raise UsageError("a TPM is named `device:/dev/tpmrm0`, `unix:PATH` or `tcp:HOST:PORT`")


def python_image(image: ImageId, command: tuple[str, ...], sealed: Path, *, room: int | None = None) -> Image:
    """Return the image of a Python script that is run beside a sealed model.

    :param command: absolute path of the script, then its arguments.
    :param room: bytes of memory for the opened weights; by default what the sealed directory takes, and a tenth more.
    :raises UsageError: no such script, or no such sealed directory.
    """
    script = Path(command[0]) if command else Path()
    if not script.is_absolute() or not script.is_file() or not sealed.is_dir():
        raise UsageError(
            "an enclave needs the absolute path of a Python script and a sealed directory",
            remedy="strongroom enclave run MODEL --sealed DIR -- /absolute/script.py",
        )
    size = sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file())
    code_roots, links = python_roots()
    profile = process_profile(
        code_roots=code_roots,
        data_roots=(str(script.parent.resolve()),),
        sealed_roots=(str(sealed.resolve()),),
        links=links,
        model_bytes=room or size + size // 10 + _LOWEST_ROOM,
    )
    resolved = (str(script.resolve()), *command[1:])
    return Image(image=image, command=resolved, profile=profile, interpreter=sys.executable, trees=_trees(script))


def _trees(script: Path) -> Mapping[str, str]:
    paths = sysconfig.get_paths()
    return {
        "standard-library": paths["stdlib"],
        "packages": paths["platlib"],
        "strongroom": str(Path(__file__).resolve().parents[2]),
        "command": str(script.parent.resolve()),
    }


def measure_image(image: Image, genesis: Genesis) -> tuple[Measurement, ...]:
    """Read and measure everything that an image consists of.

    :raises MeasureError: something can't be measured.
    """
    packages_of_base = frozenset({(Path(image.trees["standard-library"]) / "site-packages").resolve()})
    return measured(
        image,
        interpreter=_measure_interpreter(Path(image.interpreter)),
        files=measure_trees(
            {label: Path(path) for label, path in image.trees.items()},
            leaving_out=packages_of_base
            if Path(image.trees["packages"]).resolve() not in packages_of_base
            else frozenset(),
        ),
        genesis=genesis.digest,
    )


def _measure_interpreter(program: Path) -> Digest:
    """Digest the interpreter and the C libraries that it and native packages are linked with."""
    digests: dict[str, Json] = {"interpreter": str(measure_file(program))}
    for folder, name in itertools.product(_LIBRARY_FOLDERS, _LIBRARIES):
        path = Path(folder) / name
        if path.is_file():
            digests[str(path)] = str(measure_file(path))
    return facts_digest(digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One launch: the image, its order, and the TPM to measure into."""

    image: Image
    order: Order
    tpm: str


def run(
    launch: Launch,
    broker: ReleasePort,
    *,
    opened: Callable[[Opened], None],
    out: IO[bytes],
    err: IO[bytes],
    seconds: float = 3600.0,
) -> ExitStatus:
    """Measure into the TPM, start the agent, relay, and copy what the command writes to ``out`` and ``err``.

    :raises TpmError: the TPM was measured into since its reset.
    :raises SandboxError: the confinement can't be entered.
    :raises StrongroomError: the keeper refused, or the agent failed.
    """
    transport = tpm_transport(launch.tpm)
    with TpmDevice(transport) as device:
        TpmAttester(device).measure(launch.order.measurements)
        runner = ProcessRunner()
        profile = launch.image.profile
        with runner.launch(profile, module=AGENT, inherited={"tpm": transport.descriptor}) as running:
            pumps = [_pump(running.stdout, out), _pump(running.stderr, err)]
            try:
                return relay(running, launch.order, broker, opened=opened, seconds=seconds)
            finally:
                running.kill()
                for pump in pumps:
                    pump.join(10)


def _pump(source: IO[bytes], sink: IO[bytes]) -> threading.Thread:
    def copy() -> None:
        # What there is, as soon as it is there: a command's output is served while it runs.
        while part := os.read(source.fileno(), 65536):
            sink.write(part)
            sink.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread
