"""The processes of a scratch deployment: as they are, or with a layer turned off."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from strongroom.attacks.ending import RefusedError, SetupError
from strongroom.attacks.layers import Layer
from strongroom.ipc.adapters.children import end_with_parent, let_end

PASSPHRASE: Final = b"a scratch deployment keeps nothing"
MODULES: Final = {
    "log": "strongroom.audit.wiring",
    "keeper": "strongroom.keeper.wiring",
    "broker": "strongroom.broker.wiring",
    "responder": "strongroom.responder.wiring",
}
DEPLOYMENT: Final = ("broker", "keeper", "log")
"""What a deployment can't be without, in the order in which it is stopped."""
MOVED_CLOCK: Final = "strongroom.attacks.lab.moved_clock"
WEAKENED: Final = "strongroom.attacks.lab.weakened"
READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0


@dataclass(slots=True)
class Processes:
    """What runs, at one home. ``without``: layers that are turned off in every process started from now on."""

    home: Path
    without: frozenset[Layer] = frozenset()
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *arguments: str, clock: int | None = None) -> dict[str, object]:
        """Start a process and wait until it serves; returns what its ready line said.

        :param clock: for the keeper: by how many seconds its machine's clock was set, if it was.
        :raises RefusedError: it didn't start; the code is the one that it ended with, in its last words.
        """
        command = [sys.executable, "-m", MODULES[name], "--home", str(self.home), *arguments]
        if self.without:
            layers = ",".join(sorted(self.without))
            command = [sys.executable, "-m", WEAKENED, layers, MODULES[name], "--home", str(self.home), *arguments]
        if clock is not None:
            command = [sys.executable, "-m", MOVED_CLOCK, str(clock), "--home", str(self.home), *arguments]
        descriptors: tuple[int, ...] = ()
        if name == "keeper":
            reading, writing = os.pipe()
            os.write(writing, PASSPHRASE)
            os.close(writing)
            descriptors = (reading,)
            command += ["--passphrase-fd", str(reading)]
        with self.errors(name).open("ab") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=descriptors,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls nothing that takes a lock
            )
        for descriptor in descriptors:
            os.close(descriptor)
        return self._ready(name, process)

    def errors(self, name: str) -> Path:
        """Return the file with what a process said."""
        return self.home / f"{name}.err"

    def _ready(self, name: str, process: subprocess.Popen[bytes]) -> dict[str, object]:
        assert process.stdout is not None  # noqa: S101 - asked for above
        line = b""
        if select.select([process.stdout], [], [], READY_SECONDS)[0]:
            line = process.stdout.readline()
        if not line:
            process.kill()
            process.wait()
            process.stdout.close()
            raise RefusedError(self._last_code(name), f"the {name} didn't start")
        self.running[name] = process
        told = json.loads(line)
        if not isinstance(told, dict):
            raise SetupError(f"the {name} said something else than that it is ready")
        return told

    def _last_code(self, name: str) -> str:
        lines = self.errors(name).read_text("utf-8", "replace").splitlines()
        try:
            told = json.loads(lines[-1])
        except (IndexError, ValueError):
            return ""
        return str(told.get("code", "")) if isinstance(told, dict) else ""

    def stop(self, name: str) -> None:
        """Stop a process in order."""
        self._end(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """Kill a process, whatever it was at."""
        self._end(name, signal.SIGKILL)

    def stop_all(self, names: Sequence[str] = ("responder", *DEPLOYMENT)) -> None:
        """Stop whatever runs, the broker before what it asks."""
        for name in names:
            if name in self.running:
                self.stop(name)

    def pid(self, name: str) -> int:
        """Return the id of a running process."""
        return self.running[name].pid

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self.running.pop(name)
        process.send_signal(number)
        let_end(process, STOP_SECONDS)
