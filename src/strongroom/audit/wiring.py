"""The log writer's process: opens key, store and folder, and serves the socket until it is told to stop.

``python -m strongroom.audit.wiring --home DIR``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.publisher import Publisher, published_checkpoint
from strongroom.audit.adapters.server import Admission, LogServer
from strongroom.audit.adapters.store import Store
from strongroom.audit.entries import make_entry
from strongroom.audit.errors import GenesisMismatchError, WrongKeyError
from strongroom.audit.facts import Producer
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import Replay
from strongroom.audit.service import LogService
from strongroom.audit.writer import LogWriter
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Ed25519Signer, PublicKey
from strongroom.ipc.adapters.process import harden, program_log, say_ready

PUBLISH_SECONDS: Final = 0.2
_SEED: Final = 32

_log = structlog.get_logger("strongroom.audit")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the log writer's things lie under a deployment's home."""

    home: Path

    @property
    def genesis(self) -> Path:
        """The deployment's genesis."""
        return self.home / "genesis.json"

    @property
    def key(self) -> Path:
        """The log key's seed: 32 bytes, mode 0600."""
        return self.home / "log" / "log.key"

    @property
    def store(self) -> Path:
        """The log's store."""
        return self.home / "log" / "log.db"

    @property
    def public(self) -> Path:
        """The published folder."""
        return self.home / "log" / "public"

    @property
    def socket(self) -> Path:
        """The log writer's socket."""
        return self.home / "run" / "log.sock"


def create_log_key(home: Path, random_bytes: Callable[[int], bytes]) -> PublicKey:
    """Make the log's signing key of a new deployment and return its public half, for the genesis.

    :raises UsageError: there is a key already.
    """
    path = Places(home).key
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    seed = random_bytes(_SEED)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError("this deployment has a log key already") from None
    with os.fdopen(handle, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    return Ed25519Signer.from_seed(seed).public_key


def open_log_key(path: Path) -> Ed25519Signer:
    """Read the log key's seed.

    :raises UsageError: missing, not 32 bytes, not this user's, or readable by anybody else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        raise UsageError("the log key can't be opened") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise UsageError("the log key must belong to this user alone", remedy=f"chmod 600 {path.name}")
        seed = file.read(_SEED + 1)
    if len(seed) != _SEED:
        raise UsageError("the log key isn't 32 bytes long")
    return Ed25519Signer.from_seed(seed)


class LogProcess:
    """Everything the log writer holds open, checked against the genesis before the first request is taken."""

    def __init__(self, places: Places, signer: Ed25519Signer, genesis: Genesis) -> None:
        key = VerifierKey(genesis.log_origin, signer.public_key)
        if genesis.log_key != signer.public_key:
            raise WrongKeyError("the log key isn't the one that the genesis names")
        places.public.mkdir(parents=True, exist_ok=True)
        places.socket.parent.mkdir(parents=True, exist_ok=True)
        published = published_checkpoint(places.public, key)
        self._publisher = Publisher(places.public, already=published.size if published else 0)
        replay = Replay(keeper_key=None, genesis=genesis.digest)
        self._replay = replay

        def visit(index: int, data: bytes, leaf: bytes) -> None:
            replay.feed(data, leaf)
            self._publisher.restore(index, data, leaf)

        self._store = Store.open(places.store, key, visit=visit, expected=published)
        self._publisher.resume(self._store.checkpoint)
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._publishing = ThreadPoolExecutor(1, thread_name_prefix="publish")
        writer = LogWriter(
            self._store,
            replay.counters,
            origin=genesis.log_origin,
            sign=lambda checkpoint: checkpoint.sign(signer),
            executor=self._commits,
            committed=self._publisher.add,
            lag=lambda: self._publisher.lag,
        )
        self.service = LogService(
            writer=writer,
            store=self._store,
            store_executor=self._commits,
            publication=self._publisher,
            published=FolderSource(places.public),
            publish_executor=self._publishing,
        )
        self._genesis = genesis

    async def open_shard(self, clock: Clock) -> None:
        """Write the first entry of a new log."""
        if self._store.frontier.size == 0:
            opened = make_entry(
                EventName.LOG_OPENED,
                at=clock.now(),
                by=Producer.LOG,
                seq=self.service.writer.next_seq(Producer.LOG),
                facts={"genesis": self._genesis.digest},
                signer=None,
            )
            await self.service.writer.append((opened,), by=Producer.LOG)

    async def publish_always(self) -> None:
        """Publish on a clock. A failure is reported and tried again; appends stop once the folder lags too far."""
        while True:
            await asyncio.sleep(PUBLISH_SECONDS)
            await self._publish()

    async def _publish(self) -> None:
        try:
            await self.service.flush()
        except OSError as error:
            _log.error("publishing failed", error=type(error).__name__, errno=error.errno)
        except StrongroomError as error:
            _log.error("publishing failed", reason=error.reason, detail=error.message)

    async def close(self) -> None:
        """Let what is queued become durable, publish, and close."""
        await self.service.writer.drain()
        await self._publish()
        self._commits.shutdown()
        self._publishing.shutdown()
        self._store.close()


async def _serve(places: Places, admission: Admission, process: LogProcess, clock: Clock) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await process.open_shard(clock)
    await process.service.flush()
    server = LogServer(process.service, admission)
    await server.start(places.socket)
    publishing = asyncio.create_task(process.publish_always(), name="publish")
    head = process.service.head()
    say_ready("log-writer", socket=str(places.socket), size=head.size)
    await stop.wait()
    await server.stop()
    publishing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await publishing
    await process.close()
    places.socket.unlink(missing_ok=True)
    _log.info("stopped", size=process.service.head().size)


def run_log_writer(
    home: Path,
    *,
    appenders: Collection[int] | None = None,
    readers: Collection[int] = (),
    clock: Clock | None = None,
) -> None:
    """Run the log writer of the deployment at ``home`` until SIGTERM; writes one JSON line to stdout when ready.

    ``appenders`` and ``readers`` are user ids; without them only this process's own user may connect.

    :raises UsageError: a key that others can read. :raises TamperedError: the store isn't what was signed.
    """
    harden()
    program_log()
    places = Places(home)
    try:
        genesis = Genesis.parse(places.genesis.read_bytes())
    except OSError:
        raise GenesisMismatchError("the deployment's genesis can't be read") from None
    admission = Admission.of(appenders if appenders is not None else (os.geteuid(),), readers)
    process = LogProcess(places, open_log_key(places.key), genesis)
    asyncio.run(_serve(places, admission, process, clock or SystemClock()))


def main() -> None:
    """Run as a program; exits with the code of :class:`strongroom.core.errors.ExitCode`."""
    parser = argparse.ArgumentParser(description="Strongroom's log writer")
    parser.add_argument("--home", type=Path, required=True, help="the deployment's folder")
    parser.add_argument("--appender", type=int, action="append", help="user id that may append (default: this user)")
    parser.add_argument("--reader", type=int, action="append", default=[], help="user id that may read")
    given = parser.parse_args()
    try:
        run_log_writer(given.home, appenders=given.appender, readers=given.reader)
    except StrongroomError as error:
        sys.stderr.write(json.dumps({"level": "error", "event": "log writer refused", **error.problem()}) + "\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
