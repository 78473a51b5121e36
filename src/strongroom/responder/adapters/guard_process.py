"""The guard's process: started, listened to, and ended when it falls silent, so that no opener hangs for long.

An opener of a guarded file waits for the guard. A guard that stands still is killed, and the kernel then lets every
opener go on: a machine whose programs hang would be a worse harm than a decoy that is read.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Final

from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.responder.guard.messages import MAX_LINE, Beat, Gone, Opened, read_line

SILENT_SECONDS: Final = 2.0
"""The longest that an opener can be kept waiting by a guard that stands still."""
START_SECONDS: Final = 20.0
_FOREIGN: Final = "the guard said something that isn't a line of its own"


class GuardEndedError(UnavailableError):
    """The guard ended, fell silent or couldn't start: nothing is guarded until it runs again."""

    code = "guard-ended"


class GuardProcess:
    """One run of the guard."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, decoys: Sequence[str], watched: Sequence[str]) -> GuardProcess:
        """Start it; returns when every file is guarded.

        :raises GuardEndedError: it can't: says why.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "strongroom.responder.guard.wiring",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=4 * MAX_LINE,
        )
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise GuardEndedError("the guard has no pipes")
        process.stdin.write(json.dumps({"decoys": [*decoys], "watched": [*watched]}).encode() + b"\n")
        try:
            async with asyncio.timeout(START_SECONDS):
                await process.stdin.drain()
                line = await process.stdout.readline()
                said = b"" if line else await process.stderr.read(4096)
        except (TimeoutError, ConnectionError):
            line, said = b"", b""
        if not line:
            await _ended(process)
            raise GuardEndedError(
                f"the guard didn't start: {ascii(_why(said))[1:-1]}",
                remedy="guard files as root (CAP_SYS_ADMIN), on Linux with fanotify",
            )
        try:
            read_line(line)
        except MalformedError:
            await _ended(process)
            raise GuardEndedError(_FOREIGN) from None
        return cls(process)

    async def openings(self) -> AsyncIterator[Opened | Beat | Gone]:
        """Yield what the guard tells, until it ends or falls silent; it is gone then.

        :raises GuardEndedError: always, at the end.
        """
        reader = self._process.stdout
        try:
            while reader is not None:
                async with asyncio.timeout(SILENT_SECONDS):
                    line = await reader.readline()
                if not line:
                    raise GuardEndedError("the guard ended")
                yield read_line(line)
        except TimeoutError:
            raise GuardEndedError(f"the guard said nothing for {SILENT_SECONDS:.0f} seconds") from None
        except (MalformedError, ValueError):
            raise GuardEndedError(_FOREIGN) from None
        finally:
            await self.close()

    async def close(self) -> None:
        """End it, for certain: the kernel lets go of every file."""
        await _ended(self._process)


def _why(said: bytes) -> str:
    try:
        told = json.loads(said.decode("utf-8", "replace").strip().splitlines()[-1])
        return str(told["detail"])[:200]
    except (ValueError, IndexError, KeyError, TypeError):
        return "it ended without a word"


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        # Not SIGTERM: whatever stands still doesn't hear it.
        process.send_signal(signal.SIGKILL)
    await process.wait()
