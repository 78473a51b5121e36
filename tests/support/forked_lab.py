"""Scratch deployments of the attack suite, with their processes forked from one that has read our modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import IO, Any

import pytest

from strongroom.attacks.lab import processes
from support.forked import Forked, Process


def _started(
    command: Sequence[str], *, stdout: int, stderr: IO[bytes], pass_fds: Sequence[int], preexec_fn: Callable[[], None]
) -> Process:
    python, run, module, *arguments = command
    assert (python, run, stdout) == (sys.executable, "-m", subprocess.PIPE)
    if module in processes.MODULES.values():
        return Forked(module, arguments, stderr=stderr.fileno(), pass_fds=pass_fds)
    # What turns layers off replaces names before other modules have read them: it starts from nothing.
    whole: dict[str, Any] = {"stdout": stdout, "stderr": stderr, "pass_fds": pass_fds, "preexec_fn": preexec_fn}
    return subprocess.Popen(command, **whole)


@contextmanager
def forked_processes() -> Iterator[None]:
    """Have the labs of this block fork the log, the keeper, the broker and the responder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "subprocess", SimpleNamespace(Popen=_started, PIPE=subprocess.PIPE))
        yield
