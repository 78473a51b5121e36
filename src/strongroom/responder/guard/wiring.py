"""The guard's program: reads which files to guard from its input, answers the kernel, tells each opening on its output.

It ends when its input ends: it doesn't outlive the responder. If it stands still, the responder ends it after
:data:`strongroom.responder.adapters.guard_process.SILENT_SECONDS`, and the kernel lets go of everything it marked.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from strongroom.core.buckets import Buckets, Rate
from strongroom.core.errors import StrongroomError
from strongroom.detection.adapters.fanotify import FileGuard, Opening
from strongroom.ipc.adapters.process import harden
from strongroom.responder.guard.messages import Beat, Gone, Opened, read_paths

BEAT_SECONDS: Final = 0.5
TOLD: Final = Rate(per_second=50.0, burst=200)
"""Of one user. Every opening is answered; of a flood, so many are told."""


class Teller:
    """Writes lines without ever waiting for whoever reads them."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._buckets = Buckets(TOLD)
        self._rest = b""
        self._gone: list[Path] = []
        self.untold = 0

    def opening(self, opening: Opening) -> None:
        """Tell an opening that was answered."""
        ticks = time.monotonic_ns()
        if self._rest or self._buckets.wait(str(opening.uid), ticks / 1e9):
            self.untold += 1
            return
        self._write(
            Opened(
                path=opening.path,
                pid=opening.pid,
                exe=opening.exe,
                uid=opening.uid,
                denied=opening.denied,
                ticks=ticks,
            ).to_line()
        )

    def gone(self, paths: Iterable[Path]) -> None:
        """Tell decoys that are gone. None is left out: what the reader has no room for now is told later."""
        self._gone += paths
        while self._gone and not self._rest:
            self._write(Gone(path=str(self._gone.pop(0))).to_line())

    def beat(self, lost: int) -> None:
        """Tell that we live."""
        if not self._rest:
            self._write(Beat(untold=self.untold, lost=lost).to_line())
        else:
            self._write(b"")

    def _write(self, line: bytes) -> None:
        # A line that was begun is finished before another one: the reader cuts at newlines.
        data = self._rest + line
        try:
            self._rest = data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            self._rest = data


def _before_others() -> None:
    # Whoever burns all processors must not keep the kernel's questions waiting. Each answer is short, and the opener
    # has to run before there is another question: nothing else starves by it.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))


def guard(decoys: tuple[str, ...], watched: tuple[str, ...]) -> None:
    """Guard until the input ends.

    :raises GuardUnavailableError: the kernel or the rights don't allow it, or a file isn't there.
    """
    teller = Teller(sys.stdout.fileno())
    with FileGuard(map(Path, decoys), map(Path, watched)) as files, selectors.DefaultSelector() as waiting:
        waiting.register(files, selectors.EVENT_READ)
        waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
        # What was made at the start stays; a collection in the middle of an answer would keep an opener waiting.
        gc.collect()
        gc.freeze()
        gc.disable()
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                teller.beat(files.lost)
                files.look_again()
                teller.gone(files.gone())
                due = now + BEAT_SECONDS
            ready = waiting.select(max(0.0, due - now))
            if any(key.fileobj is files for key, _mask in ready):
                files.answer(teller.opening)
            elif ready:
                return


def main() -> None:
    """Run as a program."""
    harden()
    _before_others()
    first = sys.stdin.buffer.readline()
    try:
        with contextlib.suppress(BrokenPipeError):
            guard(*read_paths(first))
    except StrongroomError as error:
        sys.stderr.write(json.dumps({"level": "error", "event": "guard refused to start", **error.problem()}) + "\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
