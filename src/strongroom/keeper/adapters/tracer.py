"""Whether a debugger is attached to this process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from strongroom.keeper.tamper import TamperCause

_TASKS: Final = Path("/proc/self/task")
_NOBODY: Final = b"0"


class TracerSign:
    """Reads each thread's tracer (proc_pid_status(5), ``TracerPid``).

    A debugger stops the process before this can look: it is seen once it lets the process run on.
    """

    def look(self) -> TamperCause | None:
        """Return the sign, if any thread is traced.

        :raises OSError: the kernel doesn't tell.
        :raises ValueError: it tells something else.
        """
        for task in _TASKS.iterdir():
            try:
                lines = (task / "status").read_bytes().splitlines()
            except (FileNotFoundError, ProcessLookupError):
                continue  # the thread ended meanwhile
            (tracer,) = (line.split(b":")[1].strip() for line in lines if line.startswith(b"TracerPid:"))
            if tracer != _NOBODY:
                return TamperCause.DEBUGGER
        return None
