"""Reading a long log: verifying all of it, and proving one entry or one older tree. Published without syncs."""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.audit_parts.load import of_chunk

from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.adapters.workers import workers
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.merkle import Frontier, leaf_hash, make_consistency, make_inclusion, verify_inclusion
from strongroom.audit.replay import EntryChecks
from strongroom.audit.tiles import WIDTH, Tile, TileBuilder, TileReader, encode_bundle
from strongroom.audit.verify import verify_log
from support.logs import GENESIS, KEEPER, LOG_KEY, LOG_SIGNER, ORIGIN, opening

CHUNK: Final = 64 * WIDTH
PROOFS: Final = 200


def build(folder: Path, count: int) -> Checkpoint:
    """Publish a log of ``count`` entries, each signed by the keeper; returns its head."""
    builder, frontier, bundle = TileBuilder(), Frontier(), [opening()]
    chunks = [range(start, min(start + CHUNK, count - 1)) for start in range(0, count - 1, CHUNK)]

    def write(tile: Tile, data: bytes) -> None:
        path = folder / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def add(data: bytes) -> None:
        frontier.append(leaf := leaf_hash(data))
        for tile, hashes in builder.append(leaf):
            write(tile, hashes)

    add(bundle[0])
    with ProcessPoolExecutor() as processes:
        for made in processes.map(of_chunk, chunks):
            for data in made:
                add(data)
                bundle.append(data)
                if len(bundle) == WIDTH:
                    write(Tile(None, frontier.size // WIDTH - 1), encode_bundle(bundle))
                    bundle.clear()
    if bundle:
        write(Tile(None, frontier.size // WIDTH, len(bundle)), encode_bundle(bundle))
    for tile, hashes in builder.partials():
        write(tile, hashes)
    head = Checkpoint(ORIGIN, frontier.size, frontier.root())
    (folder / "checkpoint").write_bytes(head.sign(LOG_SIGNER))
    return head


def measure(folder: Path, count: int) -> dict[str, float]:
    """Verify and prove; returns entries a second and milliseconds."""
    head = build(folder, count)
    source = FolderSource(folder)
    checks = EntryChecks(keeper_key=KEEPER.public_key, genesis=GENESIS.digest)
    cores = os.cpu_count() or 1
    found: dict[str, float] = {"entries": head.size}
    for name, entries, jobs in (
        ("verify_tree_per_second", None, cores),
        ("verify_all_per_second", checks, cores),
        ("verify_all_one_process_per_second", checks, 1),
    ):
        began = time.perf_counter()
        with workers(jobs) as spread:
            verify_log(source, LOG_KEY, entries=entries, spread=spread)
        found[name] = round(head.size / (time.perf_counter() - began))
    return found | _proofs(source, head)


class _Counting:
    """Counts how many files a proof reads."""

    def __init__(self, source: FolderSource) -> None:
        self._source = source
        self.reads = 0

    def read(self, path: str) -> bytes | None:
        self.reads += 1
        return self._source.read(path)


def _proofs(folder: FolderSource, head: Checkpoint) -> dict[str, float]:
    rng = random.Random(20261123)  # noqa: S311 - which entries to prove
    indexes = [rng.randrange(head.size) for _ in range(PROOFS)]
    source = _Counting(folder)
    most = 0

    def fresh(prove: Callable[[TileReader, int], object]) -> list[float]:
        nonlocal most
        taken = []
        for index in indexes:
            source.reads = 0
            began = time.perf_counter()
            prove(TileReader(source, head.size), index)
            taken.append(time.perf_counter() - began)
            most = max(most, source.reads)
        return taken

    def inclusion(reader: TileReader, index: int) -> object:
        return make_inclusion(index, head.size, reader.node)

    cold = fresh(inclusion)
    older = fresh(lambda reader, index: make_consistency(index + 1, head.size, reader.node))
    kept, warm, verified = TileReader(source, head.size, kept=1 << 16), [], []
    for index in indexes:
        inclusion(kept, index)
        began = time.perf_counter()
        proof = make_inclusion(index, head.size, kept.node)
        between = time.perf_counter()
        leaf = kept.node(0, index)
        start = time.perf_counter()
        verify_inclusion(index=index, size=head.size, leaf=leaf, proof=proof, root=head.root)
        verified.append(time.perf_counter() - start)
        warm.append(between - began)
    return {
        "inclusion_ms": round(1000 * statistics.median(cold), 3),
        "inclusion_kept_ms": round(1000 * statistics.median(warm), 3),
        "consistency_ms": round(1000 * statistics.median(older), 3),
        "verify_inclusion_ms": round(1000 * statistics.median(verified), 4),
        "most_reads": most,
    }
