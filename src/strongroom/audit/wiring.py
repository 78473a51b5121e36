"""The log writer's process: opens key, store and folder, and serves the socket until it is told to stop.

``python -m strongroom.audit.wiring --home DIR``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog
import uvloop

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.private_files import create_seed, destroy_seed, read_seed
from strongroom.audit.adapters.publisher import Publisher, prune_bundles, published_checkpoint
from strongroom.audit.adapters.reserve import Reserve
from strongroom.audit.adapters.server import Admission, LogServer
from strongroom.audit.adapters.stores import DATABASE, open_store
from strongroom.audit.adapters.witness_client import WitnessRounds
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosigner, cosign_note
from strongroom.audit.entries import Entry, make_entry, read_entry
from strongroom.audit.errors import GenesisMismatchError, OutOfSequenceError, TileError, WrongKeyError
from strongroom.audit.facts import Producer
from strongroom.audit.note import Note
from strongroom.audit.replay import EntryChecks, Replay
from strongroom.audit.sequencer import Batch, Counters
from strongroom.audit.service import LogService, ServedShard
from strongroom.audit.succession import Prepared, Shard, Succession, folder_of
from strongroom.audit.witnessing import ROUND_SECONDS
from strongroom.audit.writer import LogWriter, Tree
from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.encoding import to_base64
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import SEED_BYTES, Ed25519Signer, PublicKey
from strongroom.ipc.adapters.process import harden, program_log, say_ready
from strongroom.ipc.adapters.signals import when_told_to_end

PUBLISH_SECONDS: Final = 0.2
LEAST_ROUND_SECONDS: Final = 0.1

_PRUNED: Final = f'"event":"{EventName.SHARD_PRUNED}"'.encode()

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
        """The seed of the first shard's keys."""
        return self.key_of(1)

    def key_of(self, shard: int) -> Path:
        """Return where the seed of a shard's keys lies (counted from 1): 32 bytes, mode 0600."""
        return self.home / "log" / folder_of(shard) / "log.key"

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


class ShardKeys:
    """The private keys of one shard in this process, until it is closed and they are destroyed."""

    def __init__(self, shard: Shard, seed: bytes) -> None:
        self.signer = Ed25519Signer.from_seed(seed)
        self.cosigner = Cosigner.of_log(shard.origin, seed)
        if shard.key != self.signer.public_key or shard.cosigner != self.cosigner.key.raw:
            where = "the genesis" if shard.number == 1 else f"the end of shard {shard.number - 1}"
            raise WrongKeyError(f"the log key isn't the one that {where} names")


@dataclass(frozen=True, slots=True)
class Published:
    """The published copy of a shard that was closed and whose keys are destroyed: nothing is written there again."""

    size: int
    lag: int = 0

    def publish(self) -> int:
        """Return the size."""
        return self.size


@dataclass(slots=True)
class OpenShard:
    """One shard as the log writer holds it open. ``keys`` is None once they are destroyed."""

    served: ServedShard
    publisher: Publisher
    keys: ShardKeys | None
    witnesses: WitnessRounds

    @property
    def final_cosigned(self) -> bool:
        """Whether a quorum of witnesses cosigned all of the shard, or none is asked."""
        note = self.witnesses.cosigned
        if note is None:
            return not self.witnesses.policy_file.exists()
        return Checkpoint.parse_text(Note.parse(note).text).size == self.served.store.frontier.size


class LogProcess:
    """Everything the log writer holds open, checked against the genesis before the first request is taken."""

    def __init__(
        self, places: Places, genesis: Genesis, clock: Clock, *, witness_seconds: float = ROUND_SECONDS
    ) -> None:
        self._places = places
        self._genesis = genesis
        self._clock = clock
        self._witness_seconds = witness_seconds
        places.public.mkdir(parents=True, exist_ok=True)
        places.socket.parent.mkdir(parents=True, exist_ok=True)
        self._commits = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._publishing = ThreadPoolExecutor(1, thread_name_prefix="publish")
        reserve = Reserve(places.reserve)
        # On a full disk the store needs some of the reserve to open at all.
        reserve.space()
        self._succession = Succession.of(genesis)
        self._counters = Counters()
        self._shards: list[OpenShard] = []
        self._minimums: dict[int, int] = {}
        """Shard -> below which of its indexes the log says that entries aren't published any more."""
        self._pruned: dict[int, int] = {}
        self._served: list[ServedShard] = []
        while (closing := self._open()) is not None:
            self._follow(closing)
        writer = LogWriter(
            self._tree(),
            self._counters,
            executor=self._commits,
            prepared=self._require_prepared,
            succeed=self._succeed,
            lag=lambda: sum(shard.publisher.lag for shard in self._shards[-2:]),
            space=reserve.space,
        )
        self.service = LogService(
            writer=writer,
            shards=self._served,
            store_executor=self._commits,
        )
        self.service.cosigned = self._cosigned
        self.service.prepare_next = self._prepare_next

    def _open(self) -> Entry | None:
        """Open the newest shard of the succession; returns the entry that closed it, if one did."""
        shard, places = self._succession.current, self._places
        public, key_file = places.public / shard.folder, places.key_of(shard.number)
        keys = ShardKeys(shard, read_seed(key_file)) if os.path.lexists(key_file) else None
        public.mkdir(parents=True, exist_ok=True)
        published = published_checkpoint(public, shard.verifier)
        cosign = None if keys is None else keys.cosigner
        publisher = Publisher(
            public,
            already=published.size if published else 0,
            # At the rhythm of publication, not of commits: ML-DSA-44 takes a dozen times as long as Ed25519.
            cosign=lambda note: note if cosign is None else cosign_note(note, cosign, self._clock.now()),
        )
        checks = EntryChecks(keeper_key=None, genesis=self._genesis.digest, opening=self._succession.opening)
        replay = Replay(checks, self._counters)

        # Without its keys nothing of a shard is published anew: what was pruned there stays away.
        finished = keys is None and published is not None

        def visit(index: int, data: bytes, leaf: bytes) -> None:
            self._note_pruning(replay.feed(data, leaf))
            if not finished:
                publisher.restore(index, data, leaf)

        store = open_store(places.store.parent, shard.verifier, shard=shard.number, visit=visit, expected=published)
        publisher.resume(store.checkpoint)
        if keys is None and replay.closed is None:
            raise UsageError(f"the key of the log's shard {shard.number} is gone", remedy="restore `log.key`")
        if finished and published is not None and published.size < store.frontier.size:
            raise TileError(
                f"the published shard {shard.number} lacks its end, and its keys are destroyed",
                remedy="move its published folder away and restart the log writer; it writes the folder anew",
            )
        publication = Published(store.frontier.size) if finished else publisher
        served = ServedShard(shard, store, publication, FolderSource(public), self._publishing)
        served.size = store.frontier.size if finished else 0
        rounds = WitnessRounds(
            key=shard.verifier,
            policy_file=places.witnesses,
            authority=places.witness_authority,
            log=served,
            notes=publisher,
            executor=self._publishing,
            clock=self._clock,
            seconds=self._witness_seconds,
        )
        self._shards.append(OpenShard(served, publisher, keys, rounds))
        # Last: from here on the shard is read from.
        self._served.append(served)
        return replay.closed

    def _follow(self, closing: Entry) -> None:
        frontier = self._served[-1].store.frontier
        final = Checkpoint(self._succession.current.origin, frontier.size, frontier.root())
        self._succession = self._succession.close(closing, final)

    def _tree(self) -> Tree:
        newest = self._shards[-1]
        keys = newest.keys
        if keys is None:
            raise WrongKeyError("the key of the log's newest shard is gone")
        return Tree(
            store=newest.served.store,
            origin=newest.served.shard.origin,
            sign=lambda checkpoint: checkpoint.sign(keys.signer),
            committed=lambda batch: self._committed(newest.publisher, batch),
            base=newest.served.shard.base,
            opening=self._succession.opening,
        )

    def _succeed(self, batch: Batch) -> Tree:
        # In the commit thread. A crash from here on leaves a shard that is closed: the next start goes on as this does.
        self._follow(read_entry(batch.entries[-1]))
        self._open()
        return self._tree()

    def _committed(self, publisher: Publisher, batch: Batch) -> None:
        publisher.add(batch)
        for data in batch.entries:
            # Reading every entry once more would cost more than the commit; no fact can hold these bytes.
            if _PRUNED in data:
                self._note_pruning(read_entry(data))

    def _note_pruning(self, entry: Entry) -> None:
        if entry.event is EventName.SHARD_PRUNED:
            self._minimums[entry.integer("shard")] = entry.integer("minimum")

    def _prune(self) -> None:
        """Remove what entries say is pruned, of shards whose publication is finished. Hash tiles stay."""
        for shard in tuple(self._shards[:-1]):
            number = shard.served.shard.number
            minimum = self._minimums.get(number, 0)
            if shard.keys is None and self._pruned.get(number) != minimum:
                prune_bundles(self._places.public / shard.served.shard.folder, minimum)
                self._pruned[number] = minimum

    def _prepare_next(self) -> Prepared:
        number = self._succession.current.number + 1
        place = self._places.key_of(number)
        if not os.path.lexists(place):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whole or not at all: a key that was half written could never be read, nor made again.
            write_durably(place, os.urandom(SEED_BYTES))
            # Its new folders too: the log names these keys for ever, so a loss of power mustn't take them.
            for folder in (place.parent.parent, self._places.key.parent):
                sync_folder(folder)
        seed, origin = read_seed(place), self._succession.origin(number)
        return Prepared(
            number=number,
            key=Ed25519Signer.from_seed(seed).public_key,
            cosigner=Cosigner.of_log(origin, seed).key.raw,
        )

    def _require_prepared(self, closing: Entry) -> None:
        prepared = self._prepare_next()
        named = closing.integer("next"), closing.public_key("key"), closing.text("cosigner")
        if named != (prepared.number, prepared.key, to_base64(prepared.cosigner)):
            raise OutOfSequenceError("the entry closes the shard for keys that this log writer didn't prepare")

    def _cosigned(self) -> bytes | None:
        notes = (shard.witnesses.cosigned for shard in reversed(self._shards[-2:]))
        return next((note for note in notes if note is not None), None)

    async def look_before_first(self) -> None:
        """Ask the witnesses, before an empty tree signs anything, whether they know it; those that answer are believed.

        :raises LogRolledBackError: one holds a checkpoint by its key: the log was emptied, or went back to a seam.
        """
        newest = self._shards[-1]
        if newest.served.store.frontier.size == 0:
            await newest.witnesses.look_before_first()

    async def open_shard(self) -> None:
        """Write the first entry of a new log."""
        if self.service.size == 0:
            opened = make_entry(
                EventName.LOG_OPENED,
                at=self._clock.now(),
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

    async def witness_round(self) -> None:
        """Ask the witnesses about the newest shard, and about each one before until they have seen its end.

        :raises LogRolledBackError: see :class:`WitnessRounds`. :raises ForkError: likewise.
        """
        for shard in tuple(self._shards):
            if shard.keys is not None:
                await shard.witnesses.round()

    async def witness_always(self) -> None:
        """Ask for ever; raises as :meth:`witness_round`."""
        while True:
            await asyncio.sleep(self._witness_seconds)
            await self.witness_round()

    async def _publish(self) -> None:
        try:
            # Closed long ago, and their keys are there still: witnesses or a crash held them back.
            for shard in tuple(self._shards[:-2]):
                if shard.keys is not None:
                    await shard.served.flush()
            await self.service.flush()
            self._destroy_keys()
            await asyncio.get_running_loop().run_in_executor(self._publishing, self._prune)
        except OSError as error:
            _log.error("publishing failed", error=type(error).__name__, errno=error.errno)
        except StrongroomError as error:
            _log.error("publishing failed", reason=error.reason, detail=error.message)
        except Exception:  # noqa: BLE001 - the next round is the remedy
            # What can't be published is bounded, and without a log nobody could freeze a model.
            _log.exception("publishing failed")

    def _destroy_keys(self) -> None:
        """Destroy the keys of shards whose end is published and cosigned, once the next one's first entry is."""
        shards = tuple(self._shards)
        for shard, following in pairwise(shards):
            ended = shard.served.size == shard.served.store.frontier.size and following.served.size > 0
            if shard.keys is not None and ended and shard.final_cosigned:
                destroy_seed(self._places.key_of(shard.served.shard.number))
                shard.keys = None
                shard.served.publication = Published(shard.served.size)
                _log.info("the key of a closed shard is destroyed", shard=shard.served.shard.number)

    async def close(self) -> None:
        """Let what is queued become durable, publish, and close."""
        await self.service.writer.drain()
        await self._publish()
        self._commits.shutdown()
        self._publishing.shutdown()
        for served in self._served:
            served.store.close()


async def _serve(places: Places, admission: Admission, process: LogProcess) -> None:
    stop = asyncio.Event()
    when_told_to_end(stop.set)
    # An emptied log would begin a second history under one key: its first signature would be proof of a fork.
    await process.look_before_first()
    await process.open_shard()
    await process.service.flush()
    # Before anything is appended: a log that was rolled back while it was down is told so by its witnesses.
    await process.witness_round()
    server = LogServer(process.service, admission)
    await server.start(places.socket)
    publishing = asyncio.create_task(process.publish_always(), name="publish")
    witnessing = asyncio.create_task(process.witness_always(), name="witnesses")
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
    process = LogProcess(places, genesis, clock or SystemClock(), witness_seconds=witness_seconds)
    uvloop.run(_serve(places, admission, process))


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
