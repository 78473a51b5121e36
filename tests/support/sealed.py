"""A small sealed model for tests: made in a moment, from random bytes that are the same each time."""

from __future__ import annotations

import hashlib
import io
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import HybridSigner
from strongroom.sealing.adapters.directory import seal_directory
from strongroom.sealing.manifest import ManifestExpectation, VerifiedManifest, verify_manifest
from strongroom.sealing.open import ObjectExpectation, ObjectReader
from strongroom.sealing.prelude import Prelude, key_commitment
from strongroom.sealing.seal import ObjectSealer, Put, RandomBytes, Readable, SealedFacts, Stream
from strongroom.sealing.source import BytesSource
from strongroom.sealing.write import SealedDirectory, VersionFacts

GENESIS = Digest.of(b"genesis of the test deployment")
MODEL = ModelId("atlas")
SIGNER = HybridSigner.from_seed(b"p" * 32)
SEGMENT = 1 << 16
ROOM = SEGMENT - 32
"""Plaintext bytes in a segment of the smallest length."""


@dataclass
class CountedRandom:
    """Random bytes from a seed: SHAKE-256 over a counter."""

    seed: bytes = b"seed"
    calls: int = field(default=0)

    def __call__(self, count: int) -> bytes:
        self.calls += 1
        return hashlib.shake_256(self.seed + self.calls.to_bytes(8, "big")).digest(count)


def data_key(byte: int = 7) -> SecretBytes:
    return SecretBytes(bytearray([byte]) * 32)


def content(size: int, seed: bytes = b"weights") -> bytes:
    return hashlib.shake_256(seed).digest(size)


def prelude(*, model_version: bytes = b"v" * 16, object_id: bytes = b"o" * 16, key: int = 7, bits: int = 16) -> Prelude:
    return Prelude(
        model_version=model_version,
        object_id=object_id,
        commitment=key_commitment(data_key(key)),
        segment_bits=bits,
    )


def seal_object(
    source: Readable,
    put: Put,
    *,
    prelude: Prelude,
    data_key: SecretBytes,
    random_bytes: RandomBytes,
    pool: Executor | None = None,
) -> SealedFacts:
    """Seal everything that ``source`` gives."""
    stream = Stream.begun(prelude, data_key, random_bytes)
    with ObjectSealer(put, stream, random_bytes=random_bytes, pool=pool) as sealer:
        sealer.fill(source)
        return sealer.finish()


def sealed_bytes(plain: bytes, *, seed: bytes = b"seed", key: int = 7, **names: Any) -> tuple[bytes, SealedFacts]:
    out = io.BytesIO()

    def put(offset: int, data: memoryview) -> None:
        out.seek(offset)
        out.write(data)

    facts = seal_object(
        io.BytesIO(plain),
        put,
        prelude=prelude(key=key, **names),
        data_key=data_key(key),
        random_bytes=CountedRandom(seed),
    )
    return out.getvalue(), facts


def expectation(facts: SealedFacts, *, size: int | None = None) -> ObjectExpectation:
    return ObjectExpectation(
        name="objects/x.sealed",
        model_version=b"v" * 16,
        object_id=b"o" * 16,
        size=facts.size if size is None else size,
        header=facts.header,
        root=facts.root,
    )


def opened_bytes(sealed: bytes, facts: SealedFacts, *, size: int | None = None, key: int = 7) -> bytes:
    """Open all of ``sealed``, with every check; ``size`` stands in for a manifest that names that size."""
    with ObjectReader(BytesSource(sealed), expectation(facts, size=size), data_key(key)) as reader:
        return b"".join(bytes(chunk) for chunk in reader.segments())


FILES = {
    "config.json": (0o644, b'{"hidden_size": 2048}'),
    "empty": (0o600, b""),
    "model.safetensors": (0o644, content(3 * ROOM + 1000)),
    "1_Pooling/config.json": (0o755, b"{}"),
    "exact.bin": (0o644, content(2 * ROOM, b"exact")),
}


def write_model(folder: Path, files: dict[str, tuple[int, bytes]] | None = None) -> Path:
    for name, (mode, data) in (FILES if files is None else files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    return folder


def seal_model(source: Path, destination: Path, **changes: Any) -> SealedDirectory:
    facts: dict[str, Any] = {
        "model": MODEL,
        "version": 1,
        "predecessor": None,
        "genesis": GENESIS,
        "data_key_id": "atlas-1",
        "publisher": PersonId("dana"),
    }
    facts |= {name: changes.pop(name) for name in facts.keys() & changes.keys()}
    arguments: dict[str, Any] = {
        "facts": VersionFacts(**facts),
        "data_key": data_key(),
        "signer": SIGNER,
        "random_bytes": CountedRandom(),
        "segment_bits": 16,
    }
    return seal_directory(source, destination, **(arguments | changes))


def verified(sealed: SealedDirectory) -> VerifiedManifest:
    manifest = sealed.manifest
    expect = ManifestExpectation(
        genesis=GENESIS, model=manifest.model, version=manifest.version, digest=manifest.digest
    )
    return verify_manifest(sealed.envelope, SIGNER.public_key, expect=expect)
