"""Running a machine under QEMU: a :class:`~strongroom.enclave.runner.Running` around it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Self

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError, UsageError
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.runner import Entered, ExitStatus
from strongroom.enclave.sandbox import SandboxError
from strongroom.enclave.vm.adapters.build import FIRMWARE, INITRAMFS, KERNEL, ROOT, VARIABLES
from strongroom.enclave.vm.adapters.sealed_disk import write_disk
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.machine import QEMU, Accelerator, Places, arguments
from strongroom.enclave.vm.messages import (
    MAX_METERED,
    Booted,
    ForAgent,
    ForMachine,
    FramesOut,
    FromAgent,
    MeterOpened,
    OrdersIn,
    Output,
    Stopped,
    Stream,
    Vouched,
    hear,
    say,
)

BOOT_SECONDS: Final = 180.0
SEND_SECONDS: Final = 60.0
"""How long the machine, or the gateway, may take to read what is for it."""
_END_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VmLaunch:
    """One start of an image.

    :raises UsageError: a TPM or a firmware where there is none, or none where there must be one.
    """

    image: VmImage
    folder: Path
    """Where the image's files lie."""
    sealed: Path
    """The sealed directory; the machine gets a copy of its files as a read-only disk."""
    accelerator: Accelerator
    tpm: Path | None = None
    """swtpm's control socket; one swtpm for one start. None on a confidential host."""
    firmware: Path | None = None
    """What a confidential machine is started with; other machines have the image's own."""
    uid: int
    """Whom QEMU runs as when the launcher is root; then the image's files and the TPM's socket must be open to it."""

    def __post_init__(self) -> None:
        if self.accelerator.confidential:
            if self.tpm is not None or self.firmware is None:
                raise UsageError("a confidential machine has firmware of its own, and no TPM")
        elif self.tpm is None or self.firmware is not None:
            raise UsageError("a machine that isn't confidential has a TPM, and the image's firmware")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where what the command writes goes. For an image whose output is metered, ``meter`` is all that there is."""

    out: IO[bytes] | None = None
    err: IO[bytes] | None = None
    meter: socket.socket | None = None
    """The engine's end of a metered channel, on this side of the machine."""


class VmRunning:
    """A started machine. What its command says goes to ``outputs`` as messages are received."""

    def __init__(self, qemu: subprocess.Popen[bytes], channel: Channel, work: Path, outputs: Outputs) -> None:
        self._qemu = qemu
        self._channel = channel
        self._work = work
        self._sinks = {Stream.OUT: outputs.out, Stream.ERR: outputs.err}
        self._meter = outputs.meter
        self._receiving, self._sending = threading.Lock(), threading.Lock()
        self._stopped = False
        self.entered = Entered(0, swap_excluded=True, private_proc=True, dedicated_uid=True)
        self.booted: Booted | None = None
        """What the machine says of its start; None before :meth:`confirm`."""

    def confirm(self, *, timeout: float) -> Booted:
        """Wait for the machine's first word.

        :raises SandboxError: it ended without one, or none came in time.
        """
        try:
            message = self._channel.receive(timeout=timeout)
        except UnavailableError as error:
            raise self._not_booted(error) from None
        match hear(message):
            case Booted() as booted:
                self.booted = booted
                self.entered = Entered(
                    booted.milliseconds * 1000, swap_excluded=True, private_proc=True, dedicated_uid=True
                )
                return booted
            case _:
                raise SandboxError("the virtual machine didn't begin with its boot", reason="vm.not-booted")

    def send(self, message: Json, *, timeout: float) -> None:
        """Send one message to the agent within ``timeout`` seconds.

        :raises UnavailableError: the machine is gone or doesn't read.
        """
        self._say(ForAgent(message), timeout)

    def begin_meter(self, vocabulary: int) -> None:
        """Tell the meter inside of how many tokens the vocabulary is, and carry orders to the engine from now on.

        :raises UnavailableError: the machine is gone or doesn't read.
        """
        self._say(MeterOpened(vocabulary), SEND_SECONDS)
        threading.Thread(target=self._carry_orders, daemon=True).start()

    def vouch(self, entry: bytes) -> None:
        """Hand in a signed entry of the log: an order that it vouches for may be sent once this returns.

        :raises UnavailableError: the machine is gone or doesn't read.
        """
        self._say(Vouched(entry), SEND_SECONDS)

    def receive(self, *, timeout: float) -> Json:
        """Return the agent's next message, waiting at most ``timeout`` seconds. Judge it as hostile input.

        :raises UnavailableError: the machine is gone or silent. :raises MalformedError: it sent something else.
        """
        until = time.monotonic() + timeout
        with self._receiving:
            while not self._stopped:
                match hear(self._channel.receive(timeout=max(until - time.monotonic(), 0.001))):
                    case FromAgent(message=message):
                        return message
                    case Output(stream=stream, data=data):
                        self._write(self._sinks[stream], data)
                    case FramesOut(data=data):
                        self._pass_on(data)
                    case Stopped():
                        self._stopped = True
                    case Booted():
                        raise UnavailableError("the machine started a second time", reason="vm.restarted")
        raise UnavailableError("the machine turned itself off", reason="channel.closed")

    def drain(self, *, timeout: float) -> None:
        """Pass on what the command wrote last, until the machine has turned itself off or ``timeout`` seconds passed.

        The agent's last message can overtake it; and a thread of the relay's may still be waiting for more messages.
        """
        until = time.monotonic() + timeout
        with suppress(StrongroomError):
            while not self._stopped and time.monotonic() < until:
                self.receive(timeout=max(until - time.monotonic(), 0.001))

    def wait(self, *, timeout: float) -> ExitStatus:
        """Return how QEMU ended, waiting at most ``timeout`` seconds.

        :raises UnavailableError: the machine still runs.
        """
        try:
            code = self._qemu.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UnavailableError("the machine still runs", reason="enclave.running") from None
        return ExitStatus(code, None) if code >= 0 else ExitStatus(None, -code)

    def kill(self) -> None:
        """End the machine at once, and its memory with it. A second call does nothing."""
        self._qemu.kill()
        self._qemu.wait(_END_SECONDS)
        if self._meter is not None:
            # As when a process enclave ends: whoever reads its frames finds the channel closed.
            with suppress(OSError):
                self._meter.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        self._channel.close()
        if self._qemu.stderr is not None:
            self._qemu.stderr.close()
        shutil.rmtree(self._work, ignore_errors=True)

    def _say(self, said: ForMachine, timeout: float) -> None:
        # The relay, the gateway's orders and the log's entries come from threads of their own.
        with self._sending:
            self._channel.send(say(said), timeout=timeout)

    def _carry_orders(self) -> None:
        if self._meter is None:
            return
        with suppress(OSError, StrongroomError):
            while part := self._meter.recv(MAX_METERED):
                self._say(OrdersIn(part), SEND_SECONDS)
        # No order reaches the engine any more: the gateway finds its channel closed, and doesn't wait for answers.
        with suppress(OSError):
            self._meter.shutdown(socket.SHUT_RDWR)

    def _write(self, sink: IO[bytes] | None, data: bytes) -> None:
        if sink is None:
            raise MalformedError("the machine sends what its command writes, and its output is metered")
        sink.write(data)
        sink.flush()

    def _pass_on(self, frames: bytes) -> None:
        if self._meter is None:
            raise MalformedError("the machine sends frames, and its output isn't metered")
        try:
            self._meter.sendall(frames)
        except OSError as error:
            raise UnavailableError(f"nobody takes the engine's frames: {error.strerror}", reason="vm.frames") from None

    def _not_booted(self, error: UnavailableError) -> SandboxError:
        silent = error.reason == "channel.timeout"
        if not silent:
            # It is ending by itself: let it say why.
            with suppress(subprocess.TimeoutExpired):
                self._qemu.wait(_END_SECONDS)
        self.kill()
        if silent:
            return SandboxError(
                "the virtual machine didn't start in time",
                reason="vm.boot-timeout",
                remedy="where KVM doesn't work, `--accelerator tcg` starts it slowly",
            )
        return SandboxError(
            "the virtual machine ended before it said anything",
            reason="vm.not-booted",
            remedy=self._last_words() or "is its root disk whole? `strongroom enclave image predict` checks it",
        )

    def _last_words(self) -> str:
        said = self._qemu.stderr.read(4096).decode(errors="replace") if self._qemu.stderr else ""
        return said.strip().rpartition("\n")[2][:200]


class VmRunner:
    """Starts machines."""

    def launch(self, launch: VmLaunch, outputs: Outputs, *, timeout: float = BOOT_SECONDS) -> VmRunning:
        """Start a machine and wait for its first word.

        :raises UnavailableError: QEMU isn't on this host.
        :raises SandboxError: the machine doesn't start; nothing runs.
        """
        program = shutil.which(QEMU)
        if program is None:
            raise UnavailableError(f"`{QEMU}` isn't on this host", remedy="apt-get install qemu-system-x86 ovmf")
        work = Path(tempfile.mkdtemp(prefix="strongroom-vm-"))
        try:
            running = _start(launch, program, work, outputs)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        try:
            running.confirm(timeout=timeout)
        except BaseException:
            running.__exit__()
            raise
        return running


def _start(launch: VmLaunch, program: str, work: Path, outputs: Outputs) -> VmRunning:
    variables, sealed = work / VARIABLES, work / "sealed.disk"
    shutil.copyfile(launch.folder / VARIABLES, variables)
    write_disk(launch.sealed, sealed)
    ours, theirs = socket.socketpair()
    places = Places(
        firmware=launch.firmware or launch.folder / FIRMWARE,
        variables=variables,
        kernel=launch.folder / KERNEL,
        initramfs=launch.folder / INITRAMFS,
        root=launch.folder / ROOT,
        sealed=sealed,
        tpm=launch.tpm or work / "none",
        port=theirs.fileno(),
    )
    as_whom: dict[str, object] = {}
    if os.geteuid() == 0:
        for path in (work, variables, sealed):
            os.chown(path, launch.uid, launch.uid)
        as_whom = {"user": launch.uid, "group": launch.uid, "extra_groups": []}
    with theirs:
        qemu = subprocess.Popen(  # noqa: S603 - a program of the host's and words of our own, no shell
            [program, *arguments(launch.image, places, launch.accelerator)[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            cwd=work,
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(work)},
            **as_whom,  # type: ignore[call-overload]
        )
    return VmRunning(qemu, Channel(ours), work, outputs)
