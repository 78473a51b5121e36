"""Starting what looks at delivered bytes behind a process enclave's walls: no network, no files but code, limits."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import Final

from strongroom.core.canonical import encode
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.supervisor import PYTHON_OPTIONS
from strongroom.enclave.sandbox import ExecRule, WritableCode, process_profile

ENTERED: Final = b"+"
"""What a walled process reports once its walls stand; whatever else comes is why they don't."""
_SCRATCH: Final = 64 << 20


def start_walled(
    inside: tuple[str, ...],
    command: tuple[str, ...] = (),
    *,
    roots: tuple[str, ...] = (),
    file: int,
    report: int,
    memory: int,
    seconds: int,
) -> subprocess.Popen[bytes]:
    """Start what puts up walls around itself, looks at ``file`` as its standard input, and reports to ``report``.

    :param inside: how the interpreter is told what to run.
    :param command: the program that it becomes behind the walls, from ``roots``; none, if it looks itself.
    :param memory: bytes of address space. :param seconds: after which it is ended.
    """
    code_roots, links = python_roots()
    program = bool(command)
    profile = process_profile(
        code_roots=(*code_roots, *roots),
        sealed_roots=(),
        links=links,
        model_bytes=4096,
        scratch_bytes=_SCRATCH,
        writable_code=WritableCode.COMPILED if program else WritableCode.NEVER,
        exec_rule=ExecRule.MEASURED if program else ExecRule.ONCE,
    )
    order = encode(
        {
            "profile": profile.to_bytes().decode(),
            "command": [*command],
            "file": file,
            "report": report,
            "memory": memory,
            "seconds": seconds,
            "gate": os.getpid(),
        }
    )
    process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of this package
        [sys.executable, *PYTHON_OPTIONS, *inside],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(file, report),
        env={},
    )
    assert process.stdin is not None  # noqa: S101 - it was asked for
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(order)
    return process
