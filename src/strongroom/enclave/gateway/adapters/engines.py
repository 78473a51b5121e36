"""Where an engine runs: the port that the gateway has to it, beside a process enclave's and a virtual machine's.

Either way the gateway gets one end of a connected socket. At the other is the engine itself, or a machine's one port,
with a meter in between that is part of what was measured.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Protocol

from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.launch.wiring import AGENT, Launch, tpm_transport
from strongroom.enclave.runner import Running
from strongroom.enclave.vm.adapters.qemu import Outputs, VmLaunch, VmRunner


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A started enclave whose output is metered. No order is sent before ``begin``."""

    running: Running
    channel: socket.socket
    """The governor's end of the metered channel."""
    begin: Callable[[int], None]
    """Called once the model is released, with the vocabulary's size: for a meter inside, where there is one."""
    vouch: Callable[[bytes], None]
    """Called with each signed entry of the odometer, before the governor takes it: for that meter too."""


class EngineHost(Protocol):
    """Something that starts an engine."""

    @property
    def order(self) -> Order:
        """What its agent is asked to open."""
        ...

    def started(self, err: IO[bytes]) -> AbstractContextManager[Engine]:
        """Measure and start it; leaving the block kills it. What the agent has to say goes to ``err``.

        :raises TpmError: the TPM was measured into since its reset. :raises SandboxError: it doesn't start.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProcessHost:
    """A process enclave on this machine."""

    launch: Launch

    @property
    def order(self) -> Order:
        """The launch's order."""
        return self.launch.order

    @contextmanager
    def started(self, err: IO[bytes]) -> Iterator[Engine]:
        """Measure into the TPM, and start the agent with the engine's end of the channel."""
        ours, theirs = socket.socketpair()
        transport = tpm_transport(self.launch.tpm)
        with ours, theirs, TpmDevice(transport) as device:
            TpmAttester(device).measure(self.order.measurements)
            inherited = {"tpm": transport.descriptor, "meter": theirs.fileno()}
            with ProcessRunner().launch(self.launch.image.profile, module=AGENT, inherited=inherited) as running:
                theirs.close()
                for pipe, sink in ((running.stdout, None), (running.stderr, err)):
                    threading.Thread(target=_drain, args=(pipe, sink), daemon=True).start()
                yield Engine(running=running, channel=ours, begin=_nobody_inside, vouch=_nobody_inside)


@dataclass(frozen=True, slots=True)
class VmHost:
    """A virtual machine. It measures itself, and meters what leaves it."""

    launch: VmLaunch
    order: Order

    @contextmanager
    def started(self, err: IO[bytes]) -> Iterator[Engine]:
        """Start the machine. Nothing that is written inside comes out, so nothing goes to ``err``."""
        del err
        ours, theirs = socket.socketpair()
        with ours, theirs, VmRunner().launch(self.launch, Outputs(meter=theirs)) as running:
            yield Engine(running=running, channel=ours, begin=running.begin_meter, vouch=running.vouch)


def _nobody_inside(_said: int | bytes) -> None:
    """A process enclave has no meter of its own: its host could take it away."""


def _drain(source: IO[bytes], sink: IO[bytes] | None) -> None:
    # The command has neither of the two; what the agent itself has to say comes before the weights are opened.
    with suppress(OSError, ValueError):
        while part := os.read(source.fileno(), 65536):
            if sink is not None:
                sink.write(part)
                sink.flush()
