"""Starting the command from inside the agent, and waiting for it."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final, Self

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.enclave.adapters import confine
from strongroom.enclave.adapters.supervisor import INSIDE, PYTHON_OPTIONS
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import ExecRule, SandboxError, SandboxProfile

_PYTHONS: Final = frozenset({"python", "python3"})
_FIRST_FREE: Final = 3


def command_line(profile: SandboxProfile, command: tuple[str, ...]) -> list[str]:
    """Return the program and arguments that start ``command`` under ``profile``.

    Where programs are started only once the command is a Python script, ``python SCRIPT ...`` or ``SCRIPT ...`` or
    ``python -m MODULE ...``: the interpreter closes that door itself before the script's first line.

    :raises UsageError: empty, not a Python script, or not an absolute path where one is needed.
    """
    if not command:
        raise UsageError("no command was given to run beside the weights")
    if profile.exec_rule is ExecRule.MEASURED:
        if not command[0].startswith("/"):
            raise UsageError("the command must be an absolute path: there is no search path inside")
        return list(command)
    rest = command[1:] if PurePosixPath(command[0]).name in _PYTHONS or command[0] == sys.executable else command
    if not rest or (rest[0] == "-m" and len(rest) < 2) or (rest[0].startswith("-") and rest[0] != "-m"):
        raise UsageError("the command must be `python SCRIPT ...` or `python -m MODULE ...`, without other options")
    if rest[0] != "-m" and not (rest[0].startswith("/") and rest[0].endswith(".py")):
        raise UsageError(
            "the command must be the absolute path of a Python script (`.py`)",
            remedy="other programs need the profile's `measured` rule for starting programs",
        )
    return [sys.executable, *PYTHON_OPTIONS, "-m", INSIDE, "command", *rest]


class Command:
    """A running command. It dies with the agent."""

    __slots__ = ("_handle", "_status", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._status: ExitStatus | None = None

    def poll(self, *, timeout: float) -> ExitStatus | None:
        """Return how the command ended, or None when it still runs after ``timeout`` seconds."""
        if self._status is None:
            wait = select.poll()
            wait.register(self._handle, select.POLLIN)
            if not wait.poll(timeout * 1000):
                return None
            code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self._status = ExitStatus(code, None) if code >= 0 else ExitStatus(None, -code)
            os.close(self._handle)
        return self._status

    def kill(self) -> ExitStatus:
        """End the command at once and return how it ended."""
        if self._status is None:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        status = None
        while status is None:
            status = self.poll(timeout=60)
        return status

    def fileno(self) -> int:
        """Return the descriptor that is readable once the command has ended."""
        return self._handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill()


def end_everything() -> None:
    """End every process inside but the agent: the command, and whatever programs it started in sessions of their own.

    Only for the first process of a pid namespace, which the agent is; anywhere else it does nothing.
    """
    if os.getpid() == 1:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)


def start_command(profile: SandboxProfile, command: tuple[str, ...], *, meter: int | None = None) -> Command:
    """Start ``command`` confined. The agent has closed the weights' folder (:func:`confine.close_weights`) before.

    It gets /dev/null as input, the agent's standard output and error, the profile's environment, and no other
    descriptor. With ``meter`` it gets that as descriptor 0, and /dev/null as output and error: it can say nothing else.

    :raises UsageError: see :func:`command_line`.
    :raises SandboxError: the confinement can't be entered or the program can't be started.
    """
    program = command_line(profile, command)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _become(profile, program, writer, meter)
    os.close(writer)
    failure = b""
    while part := os.read(reader, 4096):
        failure += part
    os.close(reader)
    started = Command(pid)
    if failure:
        started.kill()
        raise SandboxError(failure.decode(errors="replace"))
    return started


def _become(profile: SandboxProfile, program: list[str], writer: int, meter: int | None) -> None:
    try:
        empty = os.open("/dev/null", (os.O_RDONLY if meter is None else os.O_RDWR) | os.O_CLOEXEC)
        os.dup2(empty if meter is None else meter, 0)
        for output in () if meter is None else (1, 2):
            os.dup2(empty, output)
        os.closerange(_FIRST_FREE, writer)
        os.closerange(writer + 1, 65536)
        confine.enter_command(profile)
        os.execve(program[0], program, dict(profile.environment))  # noqa: S606 - no shell
    except StrongroomError as error:
        os.write(writer, error.message.encode())
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "an error")
        os.write(writer, f"the command can't be started: {name}".encode())
    finally:
        os._exit(127)
