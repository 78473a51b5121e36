"""Starting Strongroom's own processes without reading its modules from disk each time.

``python -m strongroom.keeper.wiring`` spends a second of a core on its imports before its first instruction. Here a
server that has done those imports forks, and the child runs the module's program as ``-m`` would: a process of its own
with the arguments, environment and descriptors that it is given. What a test says about how a process is started, or
finds by its command line, it says of one started by :mod:`subprocess`; ``strongroom up`` starts all of its so, too.
"""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, Protocol

_SERVER: Final = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "strongroom.audit.wiring",
        "strongroom.broker.people.scim_app",
        "strongroom.broker.wiring",
        "strongroom.cli.main",
        "strongroom.cli.session",
        "strongroom.console.wiring",
        "strongroom.keeper.wiring",
        "strongroom.responder.wiring",
    ]
)
_ABOVE: Final = 200
"""Where descriptors are kept until each has its own number: no program here opens so many."""


class Process(Protocol):
    """What tests use of a running process; :class:`subprocess.Popen` has it."""

    pid: int
    stdout: IO[bytes] | None

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal, once somebody waited."""

    def poll(self) -> int | None:
        """Return the exit code of a process that ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends."""

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it ended."""

    def terminate(self) -> None:
        """Send SIGTERM."""

    def kill(self) -> None:
        """Send SIGKILL."""


class Forked:
    """A module's program in a forked process; its standard output is a pipe."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        *,
        stderr: int,
        pass_fds: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        environment = dict(os.environ if env is None else env)
        assert "LD_PRELOAD" not in environment, "the loader has done its part long ago: start this one anew"
        reading, writing = os.pipe()
        try:
            given = {1: writing, 2: stderr, **{number: number for number in pass_fds}}
            # A daemon, in the word's meaning here: it doesn't outlive the tests.
            self._process = _SERVER.Process(
                target=_become,
                args=(module, tuple(arguments), environment, _Descriptors(given)),
                daemon=True,
            )
            self._process.start()
        finally:
            os.close(writing)
        self.stdout: IO[bytes] | None = os.fdopen(reading, "rb")
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code of a process that ended."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it ends.

        :raises subprocess.TimeoutExpired: it runs on.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ended just now, and the server is about to say so
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def first_said(process: Process, errors: Path) -> dict[str, Any]:
    """Return what a program says once it serves; fail with the end of its errors where it ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, errors.read_text()[-4000:]
    told: dict[str, Any] = json.loads(line)
    return told


def reap(process: Process) -> int:
    """Wait for the end of a process that was told to end, and let go of its output; returns its exit code."""
    code = process.wait(60)
    assert process.stdout is not None
    process.stdout.close()
    return code


def completed(
    module: str,
    *arguments: str,
    pass_fds: Sequence[int] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a module's program to its end, as :func:`subprocess.run` would with its output captured."""
    with TemporaryFile() as errors:
        process = Forked(module, arguments, stderr=errors.fileno(), pass_fds=pass_fds, env=env)
        assert process.stdout is not None
        with process.stdout as out:
            said = out.read()
        code = process.wait(timeout)
        errors.seek(0)
        return subprocess.CompletedProcess([module, *arguments], code, said.decode(), errors.read().decode())


class _Descriptors:
    """Descriptors by the number that each is to have in the child."""

    def __init__(self, given: Mapping[int, int]) -> None:
        self._given = given

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled while the child is being made: only then may descriptors be sent along.
        return _arrived, (list(self._given), [DupFd(number) for number in self._given.values()])


def _arrived(numbers: list[int], held: list[Any]) -> dict[int, int]:
    return dict(zip(numbers, (one.detach() for one in held), strict=True))


def _become(module: str, arguments: tuple[str, ...], environment: dict[str, str], descriptors: dict[int, int]) -> None:
    aside = {number: fcntl.fcntl(came, fcntl.F_DUPFD, _ABOVE) for number, came in descriptors.items()}
    for came in descriptors.values():
        os.close(came)
    for number, kept in aside.items():
        os.dup2(kept, number, inheritable=True)
        os.close(kept)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    sys.modules.pop(module, None)  # `-m` loads it under another name, too
    runpy.run_module(module, run_name="__main__", alter_sys=True)
