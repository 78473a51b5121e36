"""The process enclave: the :class:`~strongroom.enclave.runner.Runner` that needs no special hardware."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO, Final, Self

from strongroom.core import canonical
from strongroom.core.canonical import Json
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.fields import Fields, reading
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.runner import Entered, ExitStatus
from strongroom.enclave.sandbox import SandboxError, SandboxProfile

SUPERVISOR: Final = "strongroom.enclave.adapters.supervisor"
OWN_NAMES: Final = frozenset({"channel", "profile"})
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ProcessRunning:
    """A started process enclave. Its standard output and error are pipes that somebody must read."""

    def __init__(
        self, supervisor: subprocess.Popen[bytes], *, channel: Channel, report: Channel, lifeline: int
    ) -> None:
        self._supervisor = supervisor
        self._channel = channel
        self._report = report
        self._killing = threading.Lock()
        self._lifeline: int | None = lifeline
        self._status: ExitStatus | None = None
        self.entered = Entered(0, swap_excluded=False, private_proc=False, dedicated_uid=False)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._supervisor.pid

    @property
    def stdout(self) -> IO[bytes]:
        """What agent and command write to standard output."""
        return _pipe(self._supervisor.stdout)

    @property
    def stderr(self) -> IO[bytes]:
        """What agent and command write to standard error."""
        return _pipe(self._supervisor.stderr)

    def confirm(self, *, timeout: float) -> None:
        """Wait for the supervisor's word that the agent is confined and about to start.

        :raises SandboxError: it isn't; nothing runs.
        """
        with reading(self._report.receive(timeout=timeout), "report") as f:
            if f.optional("failed"):
                failed = f.child("failed")
                message, remedy = failed.text("message", max_length=4096), failed.text("remedy", max_length=4096)
                raise SandboxError(message, remedy=remedy, reason=failed.text("reason"))
            entered = f.child("entered")
            self.entered = Entered(
                entered.integer("microseconds"),
                swap_excluded=entered.boolean("swap_excluded"),
                private_proc=entered.boolean("private_proc"),
                dedicated_uid=entered.boolean("dedicated_uid"),
            )

    def send(self, message: Json, *, timeout: float) -> None:
        """Send one message to the agent within ``timeout`` seconds.

        :raises UnavailableError: the agent is gone or doesn't read.
        """
        self._channel.send(message, timeout=timeout)

    def receive(self, *, timeout: float) -> Json:
        """Return the agent's next message, waiting at most ``timeout`` seconds. Judge it as hostile input.

        :raises UnavailableError: the agent is gone or silent.
        :raises MalformedError: what it sent isn't a message.
        """
        return self._channel.receive(timeout=timeout)

    def wait(self, *, timeout: float) -> ExitStatus:
        """Return how the agent ended, waiting at most ``timeout`` seconds.

        :raises UnavailableError: it still runs.
        """
        try:
            self._supervisor.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UnavailableError("the enclave still runs", reason="enclave.running") from None
        if self._status is None:
            self._status = self._ending()
        return self._status

    def communicate(self, *, timeout: float) -> tuple[bytes, bytes, ExitStatus]:
        """Read both outputs until the enclave ends, at most ``timeout`` seconds; kills it when that passes.

        :raises UnavailableError: it ran longer.
        """
        try:
            out, err = self._supervisor.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise UnavailableError(
                "the enclave ran longer than it may and was ended", reason="enclave.timeout"
            ) from None
        return out, err, self.wait(timeout=1)

    def last_words(self) -> str:
        """Return the last line that the ended supervisor wrote to standard error; the command never ran."""
        lines = self.stderr.read(65536).decode(errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "")

    def kill(self) -> None:
        """End everything inside at once, and its memory with it. A second call does nothing."""
        with self._killing:
            # Several threads may want it at the same moment: closed twice, the number could be another file's by then.
            if self._lifeline is not None:
                os.close(self._lifeline)
                self._lifeline = None
        try:
            self._supervisor.wait(10)
        except subprocess.TimeoutExpired:
            # The agent asked the kernel to follow its supervisor into death.
            self._supervisor.kill()
            self._supervisor.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()
        self._channel.close()
        self._report.close()
        for pipe in (self._supervisor.stdout, self._supervisor.stderr):
            if pipe is not None:
                pipe.close()

    def _ending(self) -> ExitStatus:
        try:
            with reading(self._report.receive(timeout=1), "report") as f:
                ended: Fields = f.child("ended")
                if ended.optional("signal"):
                    return ExitStatus(None, ended.integer("signal", most=64))
                return ExitStatus(ended.integer("code", most=255), None)
        except UnavailableError:
            # The supervisor was killed before it could tell; so was the agent with it.
            return ExitStatus(None, -min(self._supervisor.returncode, 0) or 9)


class ProcessRunner:
    """Starts process enclaves with this interpreter."""

    def launch(
        self,
        profile: SandboxProfile,
        *,
        module: str,
        inherited: Mapping[str, int],
        timeout: float = 30.0,
    ) -> ProcessRunning:
        """Start the agent ``python -I -m MODULE`` confined by ``profile``.

        The agent finds its descriptors with ``channel.inherited_descriptor(name)``: ``channel`` (its end of the
        message channel), ``profile`` (the profile's canonical bytes, sealed) and those in ``inherited``. The enclave
        ends when this process does, however it ends, or when the result is killed.

        :raises UsageError: a descriptor name that is taken or can't be one.
        :raises SandboxError: the confinement can't be entered; nothing confined was started.
        :raises UnavailableError: it wasn't entered within ``timeout`` seconds.
        """
        for name in inherited:
            if name in OWN_NAMES or not (name.isascii() and name.isalpha() and name.islower() and len(name) <= 32):
                raise UsageError(f"`{name[:32]}` can't name a descriptor of the agent")
        until = time.monotonic() + timeout
        running = _started(profile, module, inherited)
        try:
            running.confirm(timeout=until - time.monotonic())
        except UnavailableError as error:
            running.kill()
            said = running.last_words()
            running.__exit__()
            if isinstance(error, SandboxError) or not said:
                raise
            raise SandboxError(f"the enclave ended before it was confined: {said}") from None
        except BaseException:
            running.__exit__()
            raise
        return running


def _started(profile: SandboxProfile, module: str, inherited: Mapping[str, int]) -> ProcessRunning:
    """Start the supervisor, which confines itself and then becomes the agent."""
    ours, theirs = socket.socketpair()
    report_ours, report_theirs = socket.socketpair()
    lifeline_theirs, lifeline_ours = os.pipe2(os.O_CLOEXEC)
    written = _sealed(profile.to_bytes())
    passed = {"channel": theirs.fileno(), "profile": written, **inherited}
    order = canonical.encode(
        {
            "module": module,
            "report": report_theirs.fileno(),
            "lifeline": lifeline_theirs,
            "passed": dict(passed),
            "names": list(passed),
        }
    ).decode()
    try:
        supervisor = subprocess.Popen(  # noqa: S603 - our own module under our own interpreter, no shell
            [sys.executable, "-I", "-m", SUPERVISOR, order],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"LANG": "C.UTF-8"},
            pass_fds=(report_theirs.fileno(), lifeline_theirs, *passed.values()),
        )
    except OSError as error:
        os.close(lifeline_ours)
        ours.close()
        report_ours.close()
        raise SandboxError(f"the enclave's supervisor can't be started: {error.strerror}") from None
    finally:
        theirs.close()
        report_theirs.close()
        os.close(lifeline_theirs)
        os.close(written)
    return ProcessRunning(supervisor, channel=Channel(ours), report=Channel(report_ours), lifeline=lifeline_ours)


def _sealed(data: bytes) -> int:
    """Return a descriptor of memory that holds ``data`` and that nobody can change any more."""
    descriptor = os.memfd_create("profile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, data)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise UnavailableError("the enclave's output wasn't captured")
    return pipe
