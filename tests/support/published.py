"""Published logs of any entries, written without a log writer: what a dishonest holder of the log's key could write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.merkle import leaf_hash, tree_root
from strongroom.audit.tiles import WIDTH, Tile, TileBuilder, encode_bundle
from strongroom.core.signature import Ed25519Signer
from support.logs import LOG_KEY, LOG_SIGNER, ORIGIN


def files_of(entries: Iterable[bytes]) -> Iterable[tuple[str, bytes]]:
    """Yield path and bytes of every tile and bundle."""
    builder, bundle = TileBuilder(), list[bytes]()
    for entry in entries:
        yield from ((tile.path, data) for tile, data in builder.append(leaf_hash(entry)))
        bundle.append(entry)
        if len(bundle) == WIDTH:
            yield Tile(None, builder.size // WIDTH - 1).path, encode_bundle(bundle)
            bundle = []
    if bundle:
        yield Tile(None, builder.size // WIDTH, len(bundle)).path, encode_bundle(bundle)
    yield from ((tile.path, data) for tile, data in builder.partials())


def sign_head(entries: Iterable[bytes], size: int, signer: Ed25519Signer = LOG_SIGNER) -> bytes:
    """Return the signed checkpoint over the first ``size`` entries."""
    leaves = [leaf_hash(entry) for _, entry in zip(range(size), entries, strict=False)]
    return Checkpoint(ORIGIN, size, tree_root(leaves)).sign(signer)


def publish(folder: Path, entries: list[bytes], note: bytes | None = None) -> Path:
    """Write a log's folder, with ``note`` for a checkpoint or one signed by the usual key; returns the folder."""
    for path, data in files_of(entries):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").write_bytes(sign_head(entries, len(entries)) if note is None else note)
    return folder


def key_file(folder: Path) -> Path:
    """Write the usual log's verifier key into a file of its own."""
    place = folder / "log.key"
    place.write_text(f"{LOG_KEY}\n")
    return place
