"""A host as it is read: its files, its processes, the programs that are asked. Nothing of it is changed.

``root`` is the file system's root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

Run = Callable[[Sequence[str]], str | None]
ROOT: Final = 0
_SECONDS: Final = 20.0
_MOST: Final = 32 << 20
"""Bytes of a file that are read: the list of packages is the largest."""


def run_program(command: Sequence[str]) -> str | None:
    """Run a program of the system and return what it prints; None where it isn't there, fails or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands of this module, no shell
            command,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            text=True,
            errors="replace",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One host.

    :ivar home: the deployment's folder, or the one that holds weights; its disk and files are looked at.
    :ivar device: ``major:minor`` of the device that it lies on.
    :ivar clock: whether the kernel calls its clock synchronised; None where it doesn't say.
    """

    name: str
    root: Path
    home: Path
    device: str
    owner: int
    run: Run
    clock: Callable[[], bool | None]

    @classmethod
    def this(cls, home: Path, clock: Callable[[], bool | None]) -> Host:
        """Return the host that this runs on."""
        found = home.stat()
        return cls(
            name=os.uname().nodename,
            root=Path("/"),
            home=home,
            device=f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}",
            owner=found.st_uid,
            run=run_program,
            clock=clock,
        )

    def text(self, path: str) -> str | None:
        """Return a file's text, or None."""
        try:
            # Not to be kept waiting by a pipe that somebody put there.
            opened = os.open(self.root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(opened, "rb") as file:
                return (file.read(_MOST) or b"").decode(errors="replace")
        except OSError:
            return None

    def processes(self) -> Iterator[tuple[str, int]]:
        """Yield each process's program and user id.

        :raises OSError: the kernel doesn't show this user the processes of others (`hidepid`).
        """
        (self.root / "proc/1/comm").stat()
        for folder in (self.root / "proc").glob("[0-9]*"):
            try:
                uid = folder.stat().st_uid
                yield self._program(folder, uid), uid
            except OSError:
                continue

    def _program(self, folder: Path, uid: int) -> str:
        # Every process names itself; what it was started from is the kernel's word. Root has no need to lie.
        if uid == ROOT:
            return (folder / "comm").read_text(errors="replace").strip()
        try:
            return (folder / "exe").readlink().name
        except OSError:
            return ""
