"""The first process inside: tells of the boot, measures the launch, starts the agent in the sandbox, carries messages.

``python -I -B -m strongroom.enclave.vm.guest.wiring``, started by the initial file system's script. It lies in the
measured root. Nothing that the launcher says is believed: the order's genesis is measured, so that another one shows;
command, sandbox and root hash are those of the measured root, whatever the order says.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from strongroom.attestation.adapters.measure_files import measure_file
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.adapters.tpm_transport import DescriptorTransport
from strongroom.attestation.measurement import Measurement, command_digest, launch_measurements
from strongroom.core import canonical
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.enclave.adapters.process_runner import ProcessRunner, ProcessRunning
from strongroom.enclave.agent.messages import Order, failed
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.enclave.vm import layout
from strongroom.enclave.vm.adapters import machine_state
from strongroom.enclave.vm.adapters.port import Port
from strongroom.enclave.vm.adapters.sealed_disk import read_disk
from strongroom.enclave.vm.messages import MAX_OUTPUT, FromAgent, Output, Stopped, Stream, tell

ORDER_SECONDS: Final = 600.0
AGENT_SECONDS: Final = 86400.0 * 365
ENTER_SECONDS: Final = 300.0
LINGER_SECONDS: Final = 5.0
_REMEDY: Final = "build the image with more --memory: it holds the sealed files and the opened weights"
_SEALED_DISK: Final = Path("/dev/vdb")


def main() -> None:
    """Run as the machine's first process; turns the machine off at the end, however that comes."""
    try:
        machine_state.mount_own()
        port = Port.named(layout.PORT_NAME)
        try:
            _serve(port)
        except StrongroomError as error:
            port.send(tell(FromAgent(failed(error))))
        except OSError as error:
            said = f"the machine can't go on: {os.strerror(error.errno or 0).lower()}"
            port.send(tell(FromAgent(failed(UnavailableError(said, reason="vm.system", remedy=_REMEDY)))))
        port.send(tell(Stopped()))
        # What is on its way is lost with the machine. The launcher ends it as soon as it has read this.
        time.sleep(LINGER_SECONDS)
    finally:
        machine_state.power_off()


def _serve(port: Port) -> None:
    profile = SandboxProfile.from_bytes(Path(layout.PROFILE).read_bytes())
    transport = DescriptorTransport.device()
    with TpmDevice(transport) as device:
        port.send(tell(machine_state.booted(device)))
        order = Order.read(port.receive(timeout=ORDER_SECONDS))
        command = _command()
        measurements = _measured(profile, command, order.genesis.digest)
        # First what is run, then what it is run on: the disk is the launcher's.
        TpmAttester(device).measure(measurements)
        read_disk(_SEALED_DISK, Path(layout.SEALED), most=profile.model_bytes)
        own = replace(order, sealed=layout.SEALED, command=command, measurements=measurements)
        with ProcessRunner().launch(
            profile, module=layout.AGENT, inherited={"tpm": transport.descriptor}, timeout=ENTER_SECONDS
        ) as running:
            running.send(own.to_json(), timeout=ENTER_SECONDS)
            _carry(port, running)


def _measured(profile: SandboxProfile, command: tuple[str, ...], genesis: Digest) -> tuple[Measurement, ...]:
    return launch_measurements(
        interpreter=measure_file(Path(sys.executable)),
        files=Digest(DigestAlgorithm.SHA256, machine_state.root_hash()),
        command=command_digest(command, dict(profile.environment)),
        sandbox=profile.digest,
        genesis=genesis,
    )


def _command() -> tuple[str, ...]:
    match canonical.decode(Path(layout.COMMAND).read_bytes()):
        case [str(), *_] as words if all(isinstance(word, str) for word in words):
            return tuple(str(word) for word in words)
        case _:
            raise MalformedError("the image's command isn't a list of words")


def _carry(port: Port, running: ProcessRunning) -> None:
    pumps = [
        _begin(lambda: _pump(running.stdout, Stream.OUT, port)),
        _begin(lambda: _pump(running.stderr, Stream.ERR, port)),
    ]
    _begin(lambda: _towards_agent(port, running))
    try:
        while True:
            port.send(tell(FromAgent(running.receive(timeout=AGENT_SECONDS))))
    except UnavailableError as error:
        # The agent is gone; it said before how it ended, or it couldn't.
        if error.reason != "channel.closed":
            raise
    finally:
        running.kill()
        for pump in pumps:
            pump.join(10)


def _towards_agent(port: Port, running: ProcessRunning) -> None:
    # A launcher that breaks the channel gets no lease renewed: the agent ends by itself.
    with suppress(StrongroomError):
        while True:
            running.send(port.receive(timeout=AGENT_SECONDS), timeout=ENTER_SECONDS)


def _pump(source: IO[bytes], stream: Stream, port: Port) -> None:
    with suppress(StrongroomError):
        while part := os.read(source.fileno(), MAX_OUTPUT):
            port.send(tell(Output(stream, part)))


def _begin(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


if __name__ == "__main__":
    main()
