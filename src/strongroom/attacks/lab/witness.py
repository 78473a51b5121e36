"""A witness of the scratch deployment's log: the shipped program, in a process of its own, which may fall silent."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attacks.ending import SetupError
from strongroom.attacks.lab.processes import READY_SECONDS, STOP_SECONDS
from strongroom.audit.note import VerifierKey
from strongroom.ipc.adapters.children import end_with_parent, let_end

_COMMAND: Final = (sys.executable, "-m", "strongroom.cli.main", "audit", "witness")


@dataclass(slots=True)
class Witness:
    """One witness, at its own folder."""

    folder: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def made(cls, folder: Path, log: VerifierKey) -> Witness:
        """Make a witness that follows a log. It doesn't run yet."""
        _typed("init", str(folder), "--name", "witness.example/scratch")
        keys = folder / "log.pub"
        keys.write_text(f"{log}\n")
        _typed("follow", str(folder), "--key", str(keys))
        return cls(folder)

    @property
    def policy(self) -> str:
        """The trust policy that asks for this witness and nobody else."""
        key = (self.folder / "witness.pub").read_text().strip()
        return f"witness W {key} http://127.0.0.1:{self.port}\nquorum W\n"

    def speak(self) -> None:
        """Start it, on the port that it had before."""
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and program
            [*_COMMAND, "run", str(self.folder), "--port", str(self.port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - it calls nothing that takes a lock
        )
        self._process = process
        assert process.stdout is not None  # noqa: S101 - asked for above
        ready = select.select([process.stdout], [], [], READY_SECONDS)[0]
        line = process.stdout.readline() if ready else b""
        if not line:
            self.fall_silent()
            raise SetupError("the witness didn't start")
        self.port = int(json.loads(line)["port"])

    def fall_silent(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            let_end(self._process, STOP_SECONDS)
            self._process = None


@contextmanager
def witness_of(folder: Path, log: VerifierKey) -> Iterator[Witness]:
    """Run a witness; it ends with the block, whatever it was told before."""
    made = Witness.made(folder, log)
    try:
        made.speak()
        yield made
    finally:
        made.fall_silent()


def _typed(*words: str) -> None:
    done = subprocess.run([*_COMMAND, *words], check=False, capture_output=True)  # noqa: S603 - as above
    if done.returncode:
        raise SetupError(f"`audit witness {words[0]}` ended with {done.returncode}")
