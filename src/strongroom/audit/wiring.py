"""The log writer's process: opens key, store and folder, and serves the socket until it is told to stop.

``python -m strongroom.audit.wiring --home DIR``
"""

from __future__ import annotations

import argparse
import asyncio
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
import uvloop

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.private_files import create_seed, read_seed
from strongroom.audit.adapters.publisher import Publisher, published_checkpoint
from strongroom.audit.adapters.reserve import Reserve
from strongroom.audit.adapters.server import Admission, LogServer
from strongroom.audit.adapters.stores import DATABASE, open_store
from strongroom.audit.adapters.witness_client import WitnessRounds
from strongroom.audit.cosignature import Cosigner, cosign_note
from strongroom.audit.entries import make_entry
from strongroom.audit.errors import GenesisMismatchError, WrongKeyError
from strongroom.audit.facts import Producer
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import EntryChecks, Replay
from strongroom.audit.service import LogService
from strongroom.audit.witnessing import ROUND_SECONDS
from strongroom.audit.writer import LogWriter
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import SEED_BYTES, Ed25519Signer, PublicKey
from strongroom.ipc.adapters.process import harden, program_log, say_ready

PUBLISH_SECONDS: Final = 0.2
LEAST_ROUND_SECONDS: Final = 0.1

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
        """The log's store, where that is a file."""
        return self.home / "log" / DATABASE

    @property
    def witnesses(self) -> Path:
        """The trust policy whose witnesses are asked; there needn't be one."""
        return self.home / "log" / "witnesses.policy"

    @property
    def witness_authority(self) -> Path:
        """The authority that the witnesses' servers are believed by; without it, the usual ones are."""
        return self.home / "log" / "witnesses-ca.pem"

    @property
    def reserve(self) -> Path:
        """Space that is kept for when the disk is full."""
        return self.home / "log" / "reserve"

    @property
    def public(self) -> Path:
        """The published folder."""
        return self.home / "log" / "public"

    @property
    def socket(self) -> Path:
        """The log writer's socket."""
        return self.home / "run" / "log.sock"


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The public halves of a log's keys, for the genesis: Ed25519, and ML-DSA-44 (1,312 bytes). One seed makes both."""

    signing: PublicKey
    cosigning: bytes


def create_log_keys(home: Path, random_bytes: Callable[[int], bytes]) -> LogKeys:
    """Make the log's keys of a new deployment.

    :raises UsageError: there is a key already.
    """
    seed = random_bytes(SEED_BYTES)
    create_seed(Places(home).key, seed)
    return LogKeys(Ed25519Signer.from_seed(seed).public_key, Cosigner.of_log("log", seed).key.raw)


class LogProcess:
    """Everything the log writer holds open, checked against the genesis before the first request is taken."""

    def __init__(
        self, places: Places, seed: bytes, genesis: Genesis, clock: Clock, *, witness_seconds: float = ROUND_SECONDS
    ) -> None:
        signer, cosigner = Ed25519Signer.from_seed(seed), Cosigner.of_log(genesis.log_origin, seed)
        key = VerifierKey(genesis.log_origin, signer.public_key)
        if genesis.log_key != signer.public_key or genesis.log_cosigner != cosigner.key.raw:
            raise WrongKeyError("the log key isn't the one that the genesis names")
        places.public.mkdir(parents=True, exist_ok=True)
        places.socket.parent.mkdir(parents=True, exist_ok=True)
        published = published_checkpoint(places.public, key)
        self._publisher = Publisher(
            places.public,
            already=published.size if published else 0,
            # At the rhythm of publication, not of commits: ML-DSA-44 takes a dozen times as long as Ed25519.
            cosign=lambda note: cosign_note(note, cosigner, clock.now()),
        )
        replay = Replay(EntryChecks(keeper_key=None, genesis=genesis.digest))
        self._replay = replay

        def visit(index: int, data: bytes, leaf: bytes) -> None:
            replay.feed(data, leaf)
            self._publisher.restore(index, data, leaf)

        reserve = Reserve(places.reserve)
        # On a full disk the store needs some of the reserve to open at all.
        reserve.space()
        self._store = open_store(places.store.parent, key, visit=visit, expected=published)
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
            space=reserve.space,
        )
        self.service = LogService(
            writer=writer,
            store=self._store,
            store_executor=self._commits,
            publication=self._publisher,
            published=FolderSource(places.public),
            publish_executor=self._publishing,
        )
        self.witnesses = WitnessRounds(
            key=key,
            policy_file=places.witnesses,
            authority=places.witness_authority,
            log=self.service,
            notes=self._publisher,
            executor=self._publishing,
            clock=clock,
            seconds=witness_seconds,
        )
        self.service.cosigned = lambda: self.witnesses.cosigned
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
    # Before anything is appended: a log that was rolled back while it was down is told so by its witnesses.
    await process.witnesses.round()
    server = LogServer(process.service, admission)
    await server.start(places.socket)
    publishing = asyncio.create_task(process.publish_always(), name="publish")
    witnessing = asyncio.create_task(process.witnesses.run(), name="witnesses")
    # It only ends on proof that this log was rolled back or forked: then nothing more is appended.
    witnessing.add_done_callback(lambda _ended: stop.set())
    head = process.service.head()
    say_ready("log-writer", socket=str(places.socket), size=head.size)
    await stop.wait()
    await server.stop()
    for task in (publishing, witnessing):
        task.cancel()
    ended = await asyncio.gather(publishing, witnessing, return_exceptions=True)
    await process.close()
    places.socket.unlink(missing_ok=True)
    _log.info("stopped", size=process.service.head().size)
    if isinstance(ended[1], Exception):
        raise ended[1]


def run_log_writer(
    home: Path,
    *,
    appenders: Collection[int] | None = None,
    readers: Collection[int] = (),
    clock: Clock | None = None,
    witness_seconds: float = ROUND_SECONDS,
) -> None:
    """Run the log writer of the deployment at ``home`` until SIGTERM; writes one JSON line to stdout when ready.

    ``appenders`` and ``readers`` are user ids; without them only this process's own user may connect. Witnesses are
    asked every ``witness_seconds``.

    :raises UsageError: a key that others can read. :raises TamperedError: the store isn't what was signed,
        or a witness holds proof that it is behind.
    """
    if not LEAST_ROUND_SECONDS <= witness_seconds <= 3600:
        raise UsageError(f"witnesses are asked every {LEAST_ROUND_SECONDS} to 3600 seconds")
    harden()
    program_log()
    places = Places(home)
    try:
        genesis = Genesis.parse(places.genesis.read_bytes())
    except OSError:
        raise GenesisMismatchError("the deployment's genesis can't be read") from None
    admission = Admission.of(appenders if appenders is not None else (os.geteuid(),), readers)
    clock = clock or SystemClock()
    process = LogProcess(places, read_seed(places.key), genesis, clock, witness_seconds=witness_seconds)
    uvloop.run(_serve(places, admission, process, clock))


def main() -> None:
    """Run as a program; exits with the code of :class:`strongroom.core.errors.ExitCode`."""
    parser = argparse.ArgumentParser(description="Strongroom's log writer")
    parser.add_argument("--home", type=Path, required=True, help="the deployment's folder")
    parser.add_argument("--appender", type=int, action="append", help="user id that may append (default: this user)")
    parser.add_argument("--reader", type=int, action="append", default=[], help="user id that may read")
    parser.add_argument("--witness-seconds", type=float, default=ROUND_SECONDS, help="rhythm of asking witnesses")
    given = parser.parse_args()
    try:
        run_log_writer(
            given.home, appenders=given.appender, readers=given.reader, witness_seconds=given.witness_seconds
        )
    except StrongroomError as error:
        sys.stderr.write(json.dumps({"level": "error", "event": "log writer refused", **error.problem()}) + "\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
