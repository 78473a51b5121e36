"""Showing a delivered file to a scanner: a program of others', behind walls, that may say one word by its exit code.

Each file is shown in a process of its own: the file alone, in memory, read-only, as standard input; no network, no
other file but the scanner's own folders, output to nowhere, limits on memory and time. Exit code 0 is "clean"; all else
(a finding, a crash, a signal, no answer in time) refuses the delivery.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.enclave.sandbox import SandboxError
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Source, pieces
from strongroom.quarantine.adapters.walled import ENTERED, start_walled
from strongroom.quarantine.terms import Scanner

INSIDE: Final = "strongroom.quarantine.adapters.scan_inside"
_PIECE: Final = 4 << 20
_STARTING: Final = 60
"""Seconds that starting may take, besides the scanner's own."""
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def scan(scanner: Scanner, name: str, source: Source) -> None:
    """Show ``source`` to a scanner.

    :raises IntakeRefusedError: scanner: it didn't say "clean", or the file is larger than what it may use.
    :raises TamperedError: its program isn't the one that the terms name.
    :raises SandboxError: the walls can't be put up here; nothing was started.
    """
    _require_program(scanner)
    if source.size > scanner.memory:
        raise _refused(scanner, name, f"it has {source.size} bytes, more than the scanner may use")
    with _in_memory(source) as file:
        _refuse_unless_clean(scanner, name, file)


def _require_program(scanner: Scanner) -> None:
    with Path(scanner.program).open("rb") as file:
        found = Digest.of_file(file)
    if not found.matches(scanner.digest):
        raise TamperedError(
            f"the program of scanner `{scanner.name}` isn't the one that the delivery's terms name",
            remedy="put the program back; or take the delivery in again under other terms",
            reason="intake-scanner-changed",
        )


@contextmanager
def _in_memory(source: Source) -> Iterator[int]:
    fd = os.memfd_create("strongroom-delivered", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for piece in pieces(source, _PIECE):
            left = memoryview(piece)
            while left:
                left = left[os.write(fd, left) :]
        os.lseek(fd, 0, os.SEEK_SET)
        # Sealed: what one scanner saw is what the next one sees, whatever the first one does.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        yield fd
    finally:
        os.close(fd)


def _refuse_unless_clean(scanner: Scanner, name: str, file: int) -> None:
    report, end = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(report, False)
        code = _ended(scanner, name, file, end)
        said = os.read(report, 4096)
    except BlockingIOError:
        said = b""
    finally:
        os.close(report)
        os.close(end)
    if not said.startswith(ENTERED):
        raise SandboxError(said.decode(errors="replace") or "the scanner's process ended before its walls stood")
    if said != ENTERED:
        raise _refused(scanner, name, "it couldn't be started")
    if code != 0:
        raise _refused(scanner, name, f"it ended with {code}")


def _ended(scanner: Scanner, name: str, file: int, report: int) -> int:
    process = start_walled(
        ("-m", INSIDE),
        (scanner.program, *scanner.arguments),
        roots=scanner.roots,
        file=file,
        report=report,
        memory=scanner.memory,
        seconds=scanner.seconds,
    )
    try:
        return process.wait(scanner.seconds + _STARTING)
    except subprocess.TimeoutExpired:
        raise _refused(scanner, name, f"no answer within {scanner.seconds} seconds") from None
    finally:
        # With it die the scanner's first process, and with that one all that the scanner started.
        process.kill()
        process.wait()


def _refused(scanner: Scanner, name: str, why: str) -> IntakeRefusedError:
    return IntakeRefusedError(Rule.SCANNER, f"scanner `{scanner.name}` doesn't let {shown(name)} in: {why}")
