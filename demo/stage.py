"""Running the real commands and saying what comes of them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STRONGROOM = Path(sys.executable).with_name("strongroom")
PASSPHRASE = b"only this demonstration uses these words\n"
LONGEST_HOME = 80


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> dict[str, Any]:
        """The JSON object that the command printed."""
        loaded = json.loads(self.out)
        return dict(loaded)


class UnexpectedError(Exception):
    """A command did something else than the demonstration is about."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stage:
    """The scratch folder, the running deployment, and the table that is printed at the end."""

    scratch: Path
    port: int
    program: Path = STRONGROOM
    up: subprocess.Popen[bytes] | None = None
    table: list[tuple[str, str, str]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @staticmethod
    def place(checkout: Path) -> Path:
        """Return the scratch folder: in the checkout, or in /tmp where its path would be too long for a socket."""
        scratch = checkout / "build" / "demo"
        if len(str(scratch)) > LONGEST_HOME:
            scratch = Path("/tmp") / f"strongroom-demo-{os.getuid()}"  # noqa: S108 - made anew each time
        return scratch

    @classmethod
    def make(cls, checkout: Path) -> Stage:
        """Make the scratch folder anew."""
        scratch = cls.place(checkout)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o755, parents=True)
        return cls(scratch, port=free_port())

    @property
    def home(self) -> Path:
        """The deployment's folder."""
        return self.scratch / "home"

    def wallet(self, name: str) -> Path:
        """Somebody's wallet."""
        return self.scratch / "wallets" / name

    def say(self, text: str) -> None:
        """Print a heading with the time since the start."""
        print(f"\n[{time.monotonic() - self.began:5.1f} s] {text}", flush=True)

    def run(self, *arguments: str | Path, who: str = "", secret: bytes = b"", quiet: bool = False) -> Outcome:
        """Run ``strongroom ...`` and return what it did; ``secret`` goes through descriptor 3 or higher."""
        words = [str(argument) for argument in arguments]
        descriptors: tuple[int, ...] = ()
        if secret:
            reading, writing = os.pipe()
            os.write(writing, secret)
            os.close(writing)
            descriptors = (reading,)
            words += ["--passphrase-fd", str(reading)]
        environment = dict(os.environ)
        if who:
            environment["STRONGROOM_WALLET"] = str(self.wallet(who))
        outcome = self.ended(words, environment, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        if not quiet:
            shown = " ".join(self._short(argument) for argument in arguments)
            print(f"  {who + ' ' if who else ''}$ strongroom {shown}", flush=True)
        return outcome

    def ended(self, words: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> Outcome:
        """Run the program with these words to its end."""
        done = subprocess.run(
            [str(self.program), *words], check=False, capture_output=True, env=environment, pass_fds=descriptors
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ok(self, *arguments: str | Path, who: str = "", secret: bytes = b"", quiet: bool = False) -> Outcome:
        """Run a command that must succeed."""
        outcome = self.run(*arguments, who=who, secret=secret, quiet=quiet)
        if outcome.code != 0:
            raise UnexpectedError(f"`strongroom {arguments[0]}` ended with {outcome.code}:\n{outcome.out}{outcome.err}")
        return outcome

    def refused(self, what: str, outcome: Outcome, code: int, reason: str) -> None:
        """Note a refusal: the exit code and the reason code must be the right ones."""
        text = outcome.err + outcome.out
        if outcome.code != code or f"[{reason}]" not in text:
            raise UnexpectedError(f"{what}: exit code {outcome.code}, wanted {code} [{reason}]\n{text[-3000:]}")
        self.note(what, reason, code)

    def note(self, what: str, reason: str, code: int) -> None:
        """Add a row to the final table."""
        self.table.append((what, reason, str(code)))
        print(f"    refused: {what} [{reason}], exit code {code}", flush=True)

    def start(self) -> None:
        """Start log writer, keeper and broker by the one command."""
        self.up = self._up()
        line = self.up.stdout.readline() if self.up.stdout else b""
        if not line:
            raise UnexpectedError(f"the deployment didn't start:\n{self._errors()}")
        print(f"  $ strongroom up --home {self._short(self.home)} --port {self.port}", flush=True)

    def start_refused(self) -> Outcome:
        """Start the deployment when it must not come up."""
        process = self._up()
        out, _ = process.communicate(timeout=60)
        return Outcome(process.returncode, out.decode(), self._errors())

    def _up(self) -> subprocess.Popen[bytes]:
        reading, writing = os.pipe()
        os.write(writing, PASSPHRASE)
        os.close(writing)
        command: Sequence[str] = [
            str(self.program),
            "up",
            "--home",
            str(self.home),
            "--port",
            str(self.port),
            "--passphrase-fd",
            str(reading),
        ]
        with (self.scratch / "up.err").open("wb") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, pass_fds=(reading,))
        os.close(reading)
        return process

    def _errors(self) -> str:
        return (self.scratch / "up.err").read_text("utf-8")

    def stop(self) -> None:
        """Stop the deployment."""
        if self.up is not None:
            self.up.terminate()
            self.up.wait(60)
            if self.up.stdout is not None:
                self.up.stdout.close()
            self.up = None

    def _short(self, argument: str | Path) -> str:
        text = str(argument)
        for folder in (self.scratch, Path.cwd()):
            text = text.replace(f"{folder}/", "")
        return f"{text[:19]}..." if text.startswith("sha256:") else text
