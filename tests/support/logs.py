"""Logs to try things on: real stores and folders, made in the test's own process or by the real log writer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.audit.adapters.postgres_store import PostgresStore
from strongroom.audit.adapters.publisher import Publisher, published_checkpoint
from strongroom.audit.adapters.sqlite_store import SqliteStore
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import make_entry
from strongroom.audit.facts import SCHEMA, Fact, Kind, Producer, producer_of
from strongroom.audit.note import VerifierKey
from strongroom.audit.sequencer import Batch, EntryStore, make_batch
from strongroom.audit.store_settings import PostgresSettings
from strongroom.audit.stored import Visitor
from strongroom.audit.wiring import create_log_keys
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.core.signature import Ed25519Signer, HybridSigner, PublicKey
from support.cosigners import LOG_COSIGNER, LOG_SEED
from support.forked import Forked, Process, first_said, reap

AT: Final = 1_795_471_717
ORIGIN: Final = "vault.example/log"
LOG_SIGNER: Final = Ed25519Signer.from_seed(LOG_SEED)
PUBLISHER: Final = HybridSigner.from_seed(b"P" * 32)
KEEPER: Final = Ed25519Signer.from_seed(b"K" * 32)
LOG_KEY: Final = VerifierKey(ORIGIN, LOG_SIGNER.public_key)

_SAMPLES: Final[dict[Kind, Fact]] = {
    Kind.DIGEST: Digest.of(b"sample"),
    Kind.DIGEST_OR_NULL: None,
    Kind.ID_OR_NULL: None,
    Kind.INSTANT_OR_NULL: None,
    Kind.DIGESTS: (Digest.of(b"one"), Digest.of(b"two")),
    Kind.INTEGER: 7,
    Kind.INTEGER_OR_NULL: None,
    Kind.INSTANT: "2026-11-23T22:08:37Z",
    Kind.CODE: "platform.sev-snp",
    Kind.ID: "dk-0a1b2c",
    Kind.IDS: ("ab12", "cd34"),
    Kind.MODEL: "atlas-7b",
    Kind.PERSON: "dana",
    Kind.PERSONS: ("erin", "frank"),
    Kind.PLATFORM: "tpm-" + "5a" * 32,
    Kind.IMAGE: "embedder",
    Kind.PUBLIC_KEY: PUBLISHER.public_key,
    Kind.COSIGNER: to_base64(LOG_COSIGNER),
}


def sample_facts(event: EventName) -> dict[str, Fact]:
    """Return facts that ``event`` may have."""
    return {name: _SAMPLES[kind] for name, kind in SCHEMA[event].items()}


def sample_entry(event: EventName, seq: int, *, at: int = AT) -> bytes:
    """Return a good entry."""
    by = producer_of(event)
    signer = KEEPER if by is Producer.KEEPER else None
    return make_entry(event, at=at, by=by, seq=seq, facts=sample_facts(event), signer=signer)


def genesis_of(log_key: PublicKey, log_cosigner: bytes = LOG_COSIGNER) -> Genesis:
    """Return a genesis for a log with these keys."""
    root = Ed25519Signer.from_seed(b"R" * 32)
    return Genesis(
        deployment="test",
        created=AT,
        root_keys=(root.public_key,),
        root_threshold=1,
        keeper_key=KEEPER.public_key,
        log_origin=ORIGIN,
        log_key=log_key,
        log_cosigner=log_cosigner,
    )


GENESIS: Final = genesis_of(LOG_SIGNER.public_key)


def opening(genesis: Digest = GENESIS.digest) -> bytes:
    """Return the entry that opens a log."""
    facts: dict[str, Fact] = {"genesis": genesis}
    return make_entry(EventName.LOG_OPENED, at=AT, by=Producer.LOG, seq=0, facts=facts, signer=None)


def some_entries(count: int, *, at: int = AT) -> list[bytes]:
    """Return the first ``count`` entries of a log: its opening, then the keeper's."""
    events = [event for event in EventName if event.family != "log"]
    return [opening(), *(sample_entry(events[i % len(events)], i, at=at) for i in range(count - 1))]


@dataclass
class LocalLog:
    """A store and a published folder under one home, driven without a process."""

    home: Path
    settings: PostgresSettings | None = None
    """Where the store is; None for SQLite under the home."""

    @property
    def db(self) -> Path:
        return self.home / "log.db"

    @property
    def public(self) -> Path:
        return self.home / "public"

    def open(self) -> tuple[EntryStore, Publisher]:
        """Open both as the log writer does."""
        published = published_checkpoint(self.public, LOG_KEY)
        publisher = Publisher(self.public, already=published.size if published else 0)
        store = self.open_store(visit=publisher.restore, expected=published)
        publisher.resume(store.checkpoint)
        return store, publisher

    def open_store(self, *, visit: Visitor | None = None, expected: Checkpoint | None = None) -> EntryStore:
        """Open the store alone."""
        if self.settings is None:
            return SqliteStore.open(self.db, LOG_KEY, visit=visit, expected=expected)
        none = self.home / "pgpass"
        return PostgresStore.open(
            self.settings, LOG_KEY, password_file=none, visit=visit, expected=expected, lease_seconds=2
        )

    def append(self, entries: Iterable[bytes], *, batch: int = 64) -> bytes:
        """Append entries in batches and publish each; returns the last checkpoint."""
        store, publisher = self.open()
        waiting = list(entries)
        while waiting:
            made = next_batch(store, waiting[:batch])
            store.commit(made)
            publisher.add(made)
            publisher.publish()
            waiting = waiting[batch:]
        publisher.publish()
        note = store.checkpoint
        store.close()
        assert note is not None
        return note


def next_batch(store: EntryStore, entries: Sequence[bytes]) -> Batch:
    """Return the batch that the log writer would commit next."""
    return make_batch(store.frontier, entries, origin=ORIGIN, sign=lambda checkpoint: checkpoint.sign(LOG_SIGNER))


def found_home(home: Path) -> tuple[Path, VerifierKey, Genesis]:
    """Lay out a deployment's home with a log key and a genesis."""
    home.mkdir(parents=True, exist_ok=True)
    keys = create_log_keys(home, os.urandom)
    genesis = genesis_of(keys.signing, keys.cosigning)
    (home / "genesis.json").write_bytes(genesis.to_bytes())
    return home, VerifierKey(ORIGIN, genesis.log_key), genesis


@contextmanager
def log_writer(home: Path, *options: str, fresh: bool = False) -> Iterator[Process]:
    """Run the real log writer at ``home``; ready when this yields, killed at the end if it still runs.

    What this one says is in ``home/log.err``. ``fresh`` starts it from nothing, for what the loader does at a start.
    """
    module, arguments = "strongroom.audit.wiring", ["--home", str(home), *options]
    process: Process
    with (home / "log.err").open("wb") as errors:
        if fresh:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=subprocess.PIPE, stderr=errors
            )
        else:
            process = Forked(module, arguments, stderr=errors.fileno())
    try:
        assert first_said(process, home / "log.err")["ready"] == "log-writer"
        yield process
    finally:
        process.kill()
        reap(process)
