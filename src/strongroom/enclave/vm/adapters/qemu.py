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
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.runner import Entered, ExitStatus
from strongroom.enclave.sandbox import SandboxError
from strongroom.enclave.vm.adapters.build import FIRMWARE, INITRAMFS, KERNEL, ROOT, VARIABLES
from strongroom.enclave.vm.adapters.sealed_disk import write_disk
from strongroom.enclave.vm.definition import VmImage
from strongroom.enclave.vm.machine import QEMU, Accelerator, Places, arguments
from strongroom.enclave.vm.messages import Booted, FromAgent, Output, Stopped, Stream, hear

BOOT_SECONDS: Final = 180.0
_END_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class VmLaunch:
    """One start of an image."""

    image: VmImage
    folder: Path
    """Where the image's files lie."""
    sealed: Path
    """The sealed directory; the machine gets a copy of its files as a read-only disk."""
    tpm: Path
    """swtpm's control socket; one swtpm for one start."""
    accelerator: Accelerator
    uid: int
    """Whom QEMU runs as when the launcher is root; then the image's files and the TPM's socket must be open to it."""


class VmRunning:
    """A started machine. What its command writes goes to ``out`` and ``err`` as messages are received."""

    def __init__(
        self, qemu: subprocess.Popen[bytes], channel: Channel, work: Path, *, out: IO[bytes], err: IO[bytes]
    ) -> None:
        self._qemu = qemu
        self._channel = channel
        self._work = work
        self._sinks = {Stream.OUT: out, Stream.ERR: err}
        self._receiving = threading.Lock()
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
        """Send one message within ``timeout`` seconds.

        :raises UnavailableError: the machine is gone or doesn't read.
        """
        self._channel.send(message, timeout=timeout)

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
                        self._sinks[stream].write(data)
                        self._sinks[stream].flush()
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        self._channel.close()
        if self._qemu.stderr is not None:
            self._qemu.stderr.close()
        shutil.rmtree(self._work, ignore_errors=True)

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

    def launch(self, launch: VmLaunch, *, out: IO[bytes], err: IO[bytes], timeout: float = BOOT_SECONDS) -> VmRunning:
        """Start a machine and wait for its first word.

        :raises UnavailableError: QEMU isn't on this host.
        :raises SandboxError: the machine doesn't start; nothing runs.
        """
        program = shutil.which(QEMU)
        if program is None:
            raise UnavailableError(f"`{QEMU}` isn't on this host", remedy="apt-get install qemu-system-x86 ovmf")
        work = Path(tempfile.mkdtemp(prefix="strongroom-vm-"))
        try:
            running = _start(launch, program, work, out=out, err=err)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        try:
            running.confirm(timeout=timeout)
        except BaseException:
            running.__exit__()
            raise
        return running


def _start(launch: VmLaunch, program: str, work: Path, *, out: IO[bytes], err: IO[bytes]) -> VmRunning:
    variables, sealed = work / VARIABLES, work / "sealed.disk"
    shutil.copyfile(launch.folder / VARIABLES, variables)
    write_disk(launch.sealed, sealed)
    ours, theirs = socket.socketpair()
    places = Places(
        firmware=launch.folder / FIRMWARE,
        variables=variables,
        kernel=launch.folder / KERNEL,
        initramfs=launch.folder / INITRAMFS,
        root=launch.folder / ROOT,
        sealed=sealed,
        tpm=launch.tpm,
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
    return VmRunning(qemu, Channel(ours), work, out=out, err=err)
