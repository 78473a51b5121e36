"""The first process inside: tells of the boot, measures the launch, starts the agent in the sandbox, carries messages.

Where a chip keeps the machine's memory, it has measured the launch, and there is no TPM; this process asks it for the
agent, which has no way to the kernel's interface.

``python -I -B -m strongroom.enclave.vm.guest.wiring``, started by the initial file system's script. It lies in the
measured root. Nothing that the launcher says is believed: the order's genesis is measured, so that another one shows;
command, sandbox and root hash are those of the measured root, whatever the order says.

Where the image's output is metered, nothing that the command writes leaves; its frames do, as far as the meter here
lets them pass (:mod:`strongroom.enclave.taximeter`).
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

from strongroom.attestation.adapters.measure_files import measure_file
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.attestation.attester import StatementSource
from strongroom.attestation.measurement import Measurement, command_digest, launch_measurements
from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import DeniedError, MalformedError, StrongroomError, UnavailableError
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.adapters.process_runner import ProcessRunner, ProcessRunning
from strongroom.enclave.agent.adapters.platform_voice import CHIP, answer_for
from strongroom.enclave.agent.messages import Order, failed
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.enclave.taximeter import Taximeter
from strongroom.enclave.vm import layout
from strongroom.enclave.vm.adapters import machine_state
from strongroom.enclave.vm.adapters.metering import Metering
from strongroom.enclave.vm.adapters.port import Port
from strongroom.enclave.vm.adapters.sealed_disk import read_disk
from strongroom.enclave.vm.messages import MAX_OUTPUT, ForAgent, FromAgent, Output, Stopped, Stream, listen, tell
from strongroom.tpm.adapters.transport import DescriptorTransport

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
    with ExitStack() as stack:
        chip = machine_state.chip()
        transport = None if chip else DescriptorTransport.device()
        device = stack.enter_context(TpmDevice(transport)) if transport else None
        port.send(tell(machine_state.booted(device)))
        order = _order(port)
        _check_deployment(order, machine_state.pinned_genesis(), chip)
        command = _command()
        measurements = _measured(profile, command, order.genesis.digest)
        if device is not None:
            # First what is run, then what it is run on: the disk is the launcher's.
            TpmAttester(device).measure(measurements)
        read_disk(_SEALED_DISK, Path(layout.SEALED), most=profile.model_bytes)
        own = replace(order, sealed=layout.SEALED, command=command, measurements=measurements)
        inherited = {"tpm": transport.descriptor} if transport else {CHIP: _answering(stack, chip)}
        metering = None
        if OUTPUT in profile.environment:
            taximeter = Taximeter(genesis=order.genesis, request=order.request, model=order.model)
            metering = stack.enter_context(Metering(taximeter, port))
            inherited["meter"] = metering.theirs.fileno()
        running = stack.enter_context(
            ProcessRunner().launch(profile, module=layout.AGENT, inherited=inherited, timeout=ENTER_SECONDS)
        )
        running.send(own.to_json(), timeout=ENTER_SECONDS)
        _carry(port, running, metering)


def _answering(stack: ExitStack, chip: StatementSource | None) -> int:
    """Answer for the chip in a thread; returns the agent's end of the channel to it."""
    ours, theirs = socket.socketpair()
    stack.enter_context(theirs)
    stack.callback(ours.close)
    if chip is not None:
        _begin(lambda: answer_for(Channel(ours), chip))
    return theirs.fileno()


def _check_deployment(order: Order, pinned: bytes | None, chip: StatementSource | None) -> None:
    if pinned is None and chip is not None:
        # A chip measures what was started, and no order. Another deployment's keeper would release to this image too.
        raise DeniedError(
            "the image names no deployment, and a chip's evidence doesn't either",
            reason="vm.not-pinned",
            remedy="build it with --deployment",
        )
    if pinned is not None and pinned != order.genesis.digest.value:
        raise DeniedError("the image takes orders of another deployment", reason="vm.another-deployment")


def _order(port: Port) -> Order:
    match listen(port.receive(timeout=ORDER_SECONDS)):
        case ForAgent(message=message):
            return Order.read(message)
        case _:
            raise MalformedError("the launcher didn't begin with an order")


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


def _carry(port: Port, running: ProcessRunning, metering: Metering | None) -> None:
    sink = port if metering is None else None
    pumps = [
        _begin(lambda: _pump(running.stdout, Stream.OUT, sink)),
        _begin(lambda: _pump(running.stderr, Stream.ERR, sink)),
    ]
    if metering is not None:
        metering.start(end=running.kill)
    _begin(lambda: _inwards(port, running, metering))
    try:
        while True:
            message = running.receive(timeout=AGENT_SECONDS)
            _note(message, metering)
            port.send(tell(FromAgent(message)))
    except UnavailableError as error:
        # The agent is gone; it said before how it ended, or it couldn't, or the meter ended it.
        if error.reason != "channel.closed":
            raise
    finally:
        running.kill()
        for pump in pumps:
            pump.join(10)
        if metering is not None and metering.error is not None:
            raise metering.error


def _note(message: Json, metering: Metering | None) -> None:
    """Tell the meter which release this is, before anybody outside knows that the model is open."""
    match message:
        case {"opened": _, "use": int(use)} if metering is not None:
            metering.released(use)


def _inwards(port: Port, running: ProcessRunning, metering: Metering | None) -> None:
    # A launcher that breaks the channel gets no lease renewed: the agent ends by itself.
    with suppress(StrongroomError):
        while True:
            match listen(port.receive(timeout=AGENT_SECONDS)):
                case ForAgent(message=message):
                    running.send(message, timeout=ENTER_SECONDS)
                case said if metering is not None:
                    metering.hear(said)
                case _:
                    raise MalformedError("this image's output isn't metered")


def _pump(source: IO[bytes], stream: Stream, port: Port | None) -> None:
    """Carry what agent and command write; read it and drop it where there is no ``port`` for it."""
    with suppress(StrongroomError):
        while part := os.read(source.fileno(), MAX_OUTPUT):
            if port is not None:
                port.send(tell(Output(stream, part)))


def _begin(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


if __name__ == "__main__":
    main()
