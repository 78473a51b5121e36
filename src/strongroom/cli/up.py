"""``strongroom up``: starts log writer, keeper and broker, and stops all three when one of them ends."""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import click

from strongroom.audit.witnessing import ROUND_SECONDS
from strongroom.cli.passphrase import passphrase_pipe
from strongroom.cli.root_parts import needs_passphrase
from strongroom.core.errors import ExitCode, StrongroomError, UnavailableError
from strongroom.ipc.frames import told_error
from strongroom.release.lease import LEASE_SECONDS, LEAST_SECONDS, MOST_SECONDS

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
_PR_SET_PDEATHSIG: Final = 1


class ProcessEndedError(UnavailableError):
    """One of the three processes ended, or didn't come up; the others were stopped."""

    code = "process-ended"


class Deployment:
    """The three processes, in the order in which they start; they are stopped the other way round."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, arguments: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        """Start one process and wait for its ready line.

        :raises StrongroomError: the process said why it doesn't start.
        :raises ProcessEndedError: it ended without a word, or isn't ready in time.
        """
        command = [sys.executable, "-m", module, "--home", str(self._home), *arguments]
        log = self._home / "run" / f"{name}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=descriptors,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread
            )
        self._running[name] = process
        self._await_ready(name, process, log)

    def _await_ready(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        if process.stdout is None or not select.select([process.stdout], [], [], READY_SECONDS)[0]:
            raise ProcessEndedError(f"the {name} isn't ready after {READY_SECONDS:.0f} seconds", remedy=f"read {log}")
        line = process.stdout.readline()
        if not line:
            raise _last_words(name, log, process.wait(STOP_SECONDS))
        click.echo(f"{name} ready (pid {process.pid})", err=True)

    def watch(self) -> str:
        """Wait until one process ends or a signal asks to stop; returns the name of the one that ended, or nothing."""
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _frame: asked.append(got))
        while not asked:
            for name, process in self._running.items():
                if process.poll() is not None:
                    return name
            time.sleep(0.1)
        return ""

    def stop(self) -> None:
        """Stop whatever runs, the last one started first."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _end_with_parent() -> None:
    # Else a killed `up` would leave processes behind that nobody watches.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _last_words(name: str, log: Path, code: int) -> StrongroomError:
    # The process's own error class may be unknown here; its exit code names the family.
    family = [kind.code for kind in StrongroomError.__subclasses__() if kind.exit_code == code]
    lines = log.read_text("utf-8", errors="replace").splitlines()
    try:
        told = json.loads(lines[-1])
        return told_error(
            [str(told["title"]), *family],
            str(told["code"]),
            f"the {name} doesn't start: {told['detail']}",
            told.get("remedy", ""),
        )
    except (IndexError, KeyError, TypeError, ValueError):
        return ProcessEndedError(f"the {name} ended before it was ready", remedy=f"read {log}")


@click.command()
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the broker listens on.")
@click.option("--port", default=8443, show_default=True, help="Port that the broker listens on.")
@click.option("--identity-port", type=int, help="Port for logins and identity providers; there is none without it.")
@click.option(
    "--lease-seconds",
    type=click.IntRange(LEAST_SECONDS, MOST_SECONDS),
    default=LEASE_SECONDS,
    show_default=True,
    help="How long an enclave may go on that nobody can reach.",
)
@click.option(
    "--witness-seconds",
    type=click.IntRange(1, 3600),
    default=ROUND_SECONDS,
    show_default=True,
    help="Rhythm at which the log's witnesses are asked, if there are any.",
)
@click.option("--passphrase-fd", type=int, help="Read the passphrase from this open descriptor instead of asking.")
def up(
    home: Path,
    host: str,
    port: int,
    identity_port: int | None,
    lease_seconds: int,
    witness_seconds: int,
    passphrase_fd: int | None,
) -> None:
    """Start the deployment: log writer, keeper and broker.

    Runs in the foreground until it is interrupted. When one of the three ends, the others are stopped: nothing is
    released without its log. Each process writes what it does to HOME/run/NAME.log.
    """
    home = home.resolve()
    (home / "run").mkdir(mode=0o700, exist_ok=True)
    deployment = Deployment(home)
    try:
        with passphrase_pipe(passphrase_fd) if needs_passphrase(home) else nullcontext() as reading:
            deployment.start("log", "strongroom.audit.wiring", ["--witness-seconds", str(witness_seconds)])
            given = [] if reading is None else [reading]
            keeper = [*(f"--passphrase-fd={descriptor}" for descriptor in given), f"--lease-seconds={lease_seconds}"]
            deployment.start("keeper", "strongroom.keeper.wiring", keeper, given)
        beside = [] if identity_port is None else ["--identity-port", str(identity_port)]
        deployment.start("broker", "strongroom.broker.wiring", ["--host", host, "--port", str(port), *beside])
        told = {"ready": "deployment", "url": f"https://{host}:{port}", "pid": os.getpid()}
        if identity_port is not None:
            told["identity_url"] = f"https://{host}:{identity_port}"
        click.echo(json.dumps(told))
        ended = deployment.watch()
    finally:
        deployment.stop()
    if ended:
        raise ProcessEndedError(f"the {ended} ended; everything was stopped", remedy=f"read {home}/run/{ended}.log")
    raise SystemExit(int(ExitCode.OK))
