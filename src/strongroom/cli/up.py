"""``strongroom up``: starts log writer, keeper and broker, and stops all three when one of them ends.

Where it is told to, it starts the console as well, which releases nothing: when that ends, the three go on.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.audit.succession import SHARD_DAYS
from strongroom.audit.witnessing import ROUND_SECONDS
from strongroom.cli.grouped import grouped
from strongroom.cli.passphrase import new_passphrase_pipe, passphrase_pipe
from strongroom.cli.root_parts import needs_passphrase
from strongroom.cli.up_console import ConsoleFound
from strongroom.core.canonical import Json
from strongroom.core.errors import ExitCode, StrongroomError, UnavailableError, UsageError
from strongroom.ipc.adapters.children import end_with_parent, let_end
from strongroom.ipc.frames import told_error
from strongroom.keys.uri import KeyUri, Service
from strongroom.release.lease import LEASE_SECONDS, LEAST_SECONDS, MOST_SECONDS

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
CONSOLE: Final = "console"


class ProcessEndedError(UnavailableError):
    """One of the three processes ended, or didn't come up; the others were stopped."""

    code = "process-ended"


class Deployment:
    """The processes, in the order in which they start; they are stopped the other way round."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, arguments: Sequence[str], descriptors: Sequence[int] = ()) -> None:
        """Start one of the three processes and wait for its ready line.

        :raises StrongroomError: the process said why it doesn't start.
        :raises ProcessEndedError: it ended without a word, or isn't ready in time.
        """
        self._start(name, [module, "--home", str(self._home), *arguments], descriptors)

    def start_console(self, folder: Path, *, url: str, identity_url: str, origin: str) -> None:
        """Start the console whose folder this is, with what the deployment's folder has; raises as :meth:`start` does.

        :raises StrongroomError: what says how people log in can't be read.
        """
        found = ConsoleFound.look(self._home)
        places = [f"--folder={folder}", f"--url={url}", f"--identity-url={identity_url}", f"--origin={origin}"]
        places += found.arguments()
        for line in found.lacks():
            click.echo(line, err=True)
        self._start(CONSOLE, ["strongroom.cli.main", "console", "serve", *places], ())

    def _start(self, name: str, arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        command = [sys.executable, "-m", *arguments]
        log = self._home / "run" / f"{name}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                pass_fds=descriptors,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - this process has one thread
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
        told = json.loads(line)
        if told.get("known") is False:
            click.echo(
                f"This keeper's unlock key isn't the one that the escrow names. Read its id out to each custodian, who"
                f" gives it with --unlock-key:\n  {told['unlock_key']}",
                err=True,
            )

    def watch(self) -> str:
        """Wait until one of the three ends or a signal asks to stop; returns which one ended, or nothing."""
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _frame: asked.append(got))
        while not asked:
            for name, process in [*self._running.items()]:
                if process.poll() is None:
                    continue
                if name != CONSOLE:
                    return name
                let_end(self._running.pop(name), 0)
                click.echo(f"the console ended, and nothing else did: read {self._home}/run/{name}.log", err=True)
            time.sleep(0.1)
        return ""

    def stop(self) -> None:
        """Stop whatever runs, the last one started first."""
        for process in reversed(self._running.values()):
            if process.poll() is None:
                process.terminate()
            let_end(process, STOP_SECONDS)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listening:
    """Where the broker listens, and the console that stands before it."""

    host: str
    port: int
    identity_port: int | None
    console_folder: Path | None
    console_origin: str

    def start(self, deployment: Deployment) -> dict[str, Json]:
        """Start the broker, and the console if there is one; returns their addresses."""
        beside = [] if self.identity_port is None else ["--identity-port", str(self.identity_port)]
        places = ["--host", self.host, "--port", str(self.port), *beside]
        deployment.start("broker", "strongroom.broker.wiring", places)
        url = f"https://{self.host}:{self.port}"
        if self.identity_port is None:
            return {"url": url}
        identity_url = f"https://{self.host}:{self.identity_port}"
        if self.console_folder is None:
            return {"url": url, "identity_url": identity_url}
        deployment.start_console(
            self.console_folder.resolve(), url=url, identity_url=identity_url, origin=self.console_origin
        )
        return {"url": url, "identity_url": identity_url, "console_url": self.console_origin}


_listening_options: Final = grouped(
    _Listening,
    "listening",
    click.option("--host", default="127.0.0.1", show_default=True, help="Address that the broker listens on."),
    click.option("--port", default=8443, show_default=True, help="Port that the broker listens on."),
    click.option("--identity-port", type=int, help="Port for logins and identity providers; there is none without it."),
    click.option(
        "--console",
        "console_folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Serve the console, too, whose folder this is (`strongroom console prepare`).",
    ),
    click.option(
        "--console-origin", default="https://localhost:8445", show_default=True, help="The console's own, only address."
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Keeping:
    """How the keeper comes by its root key, and what it goes by."""

    lease_seconds: int
    shard_days: int
    unlock_by_shares: bool
    root_provider: str | None
    second_root_provider: str | None

    @property
    def moved_to(self) -> KeyUri | None:
        """The key service that the root key is put under."""
        return None if self.root_provider is None else KeyUri.parse(self.root_provider)

    def arguments(self) -> list[str]:
        """Return the keeper's arguments.

        :raises UsageError: these options don't go together.
        """
        if self.root_provider is not None and not self.unlock_by_shares:
            raise UsageError(
                "a key service is named here with --unlock-by-shares alone", remedy="strongroom root-key move"
            )
        if self.second_root_provider is not None and self.unlock_by_shares:
            raise UsageError(
                "a root key from shares is wrapped whole", remedy="name the second service at the next start"
            )
        second = None if self.second_root_provider is None else KeyUri.parse(self.second_root_provider)
        if second is not None and second.service is Service.LOCAL:
            raise UsageError("the second part can't be under a passphrase", remedy="name the passphrase as the first")
        given = [f"--lease-seconds={self.lease_seconds}", f"--shard-days={self.shard_days}"]
        given += ["--unlock-by-shares"] if self.unlock_by_shares else []
        given += [] if self.moved_to is None else [f"--root-provider={self.moved_to}"]
        given += [] if second is None else [f"--second-root-provider={second}"]
        return given

    def passphrase(self, home: Path, descriptor: int | None) -> AbstractContextManager[int | None]:
        """Have the passphrase that the keeper needs: of a key that is under one, or that is to be put under one."""
        if not self.unlock_by_shares:
            return passphrase_pipe(descriptor) if needs_passphrase(home) else nullcontext()
        typed = self.moved_to is not None and self.moved_to.service is Service.LOCAL
        return new_passphrase_pipe(descriptor) if typed else nullcontext()


_keeping_options: Final = grouped(
    _Keeping,
    "keeping",
    click.option(
        "--lease-seconds",
        type=click.IntRange(LEAST_SECONDS, MOST_SECONDS),
        default=LEASE_SECONDS,
        show_default=True,
        help="How long an enclave may go on that nobody can reach.",
    ),
    click.option(
        "--shard-days",
        type=click.IntRange(min=1),
        default=SHARD_DAYS,
        show_default=True,
        help="Days after which the log goes on in a new shard.",
    ),
    click.option("--unlock-by-shares", is_flag=True, help="Wait for custodians' shares: the key service is gone."),
    click.option("--root-provider", help="With shares: URI of the key service that holds the root key from then on."),
    click.option("--second-root-provider", help="URI of the second key service of the root key that is made next."),
)


@click.command()
@click.option(
    "--home", type=click.Path(path_type=Path, file_okay=False), required=True, help="The deployment's folder."
)
@_listening_options
@click.option(
    "--witness-seconds",
    type=click.IntRange(1, 3600),
    default=ROUND_SECONDS,
    show_default=True,
    help="Rhythm at which the log's witnesses are asked, if there are any.",
)
@_keeping_options
@click.option("--passphrase-fd", type=int, help="Read the passphrase from this open descriptor instead of asking.")
def up(
    home: Path, witness_seconds: int, passphrase_fd: int | None, *, listening: _Listening, keeping: _Keeping
) -> None:
    """Start the deployment: log writer, keeper and broker.

    Runs in the foreground until it is interrupted. When one of the three ends, the others are stopped: nothing is
    released without its log. Each process writes what it does to HOME/run/NAME.log.

    With --unlock-by-shares the keeper starts locked and serves custodians alone, until enough of them gave their shares
    (`strongroom custodian unlock`). With --root-provider as well, the root key is then put under that key service.

    With --console, people sign in at the console's own address. It shows what HOME/responder, HOME/assessments and
    HOME/quarantine have, says which of them are missing, and runs as this user: to keep it apart, run `strongroom
    console serve` yourself.

    A root key of one part gets a second one at its next rotation, under --second-root-provider.
    """
    if listening.console_folder is not None and listening.identity_port is None:
        raise UsageError(
            "people sign in to the console at the identity listener", remedy="give --identity-port as well"
        )
    arguments, home = keeping.arguments(), home.resolve()
    (home / "run").mkdir(mode=0o700, exist_ok=True)
    deployment = Deployment(home)
    try:
        with keeping.passphrase(home, passphrase_fd) as reading:
            deployment.start("log", "strongroom.audit.wiring", ["--witness-seconds", str(witness_seconds)])
            given = [] if reading is None else [reading]
            named = [f"--passphrase-fd={descriptor}" for descriptor in given]
            deployment.start("keeper", "strongroom.keeper.wiring", [*named, *arguments], given)
        told: dict[str, Json] = {"ready": "deployment", **listening.start(deployment), "pid": os.getpid()}
        click.echo(json.dumps(told | ({"locked": True} if keeping.unlock_by_shares else {})))
        ended = deployment.watch()
    finally:
        deployment.stop()
    if ended:
        raise ProcessEndedError(f"the {ended} ended; everything was stopped", remedy=f"read {home}/run/{ended}.log")
    raise SystemExit(int(ExitCode.OK))
