"""``python killed_seals.py FOLDER SEED COUNT``: seal, be killed at a random moment, go on; prints JSON lines.

A moment is one system call of the sealing process: it is killed before it, after it, or, if it writes, halfway through.
Each sealing that gets killed is a child of its own (fork: the imports are paid for once).
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strongroom.core.secret import SecretBytes
from strongroom.sealing.adapters import publish, sinks
from strongroom.sealing.adapters.directory import open_directory, read_envelope, verify_directory
from strongroom.sealing.floe import Floe
from strongroom.sealing.manifest import ManifestExpectation, read_manifest, verify_manifest
from strongroom.sealing.write import SealedDirectory
from support.sealed import GENESIS, MODEL, SIGNER, CountedRandom, content, data_key, seal_model, write_model

NEW = {
    "a.bin": (0o644, content(600_000, b"a")),
    # Large enough for reserved blocks and direct writes: see run().
    "b.bin": (0o644, content((3 << 20) + 77, b"b")),
    "c.json": (0o600, b"{}"),
    "d.bin": (0o644, content(200_000, b"d")),
}
OLD = {"a.bin": (0o644, content(100_000, b"old"))}
WRITES = ("pwrite", "write")
CALLS = (*WRITES, "fsync", "fdatasync", "ftruncate", "unlink", "posix_fallocate", "mkdir", "open", "close")


class Moments:
    """Counts the system calls of a sealing, from whichever thread, and dies at one of them."""

    def __init__(self, at: int, how: int) -> None:
        self.seen, self.at, self._how = 0, at, how

    def watch(self) -> None:
        for name in CALLS:
            setattr(os, name, self._watched(getattr(os, name), writes=name in WRITES))
        fcntl.flock = self._watched(fcntl.flock)
        publish._renameat2 = self._watched(publish._renameat2)

    def _watched(self, real: Callable[..., Any], *, writes: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.seen += 1
            if self.seen != self.at:
                return real(*args, **kwargs)
            if writes and self._how == 1:
                fd, data, *rest = args
                real(fd, memoryview(data)[: len(data) // 2 // 512 * 512], *rest)
            elif self._how:
                real(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("alive")

        return call


def seal(root: Path, seed: bytes) -> SealedDirectory:
    old = read_manifest(read_envelope(root / "old.sealed")).digest
    return seal_model(
        root / "new",
        root / "m.sealed",
        replace=True,
        version=2,
        predecessor=old,
        data_key=data_key(8),
        random_bytes=CountedRandom(seed),
        threads=2,
    )


def in_child(root: Path, seed: bytes, moments: Moments) -> int:
    """Seal in a child that dies at its moment; returns how it ended: minus the signal, or its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            moments.watch()
            seal(root, seed)
            status = 0
        except BaseException as error:  # noqa: BLE001 - nothing of the parent's may run in the child
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
        if not moments.at:
            (root / "moments").write_text(str(moments.seen))
        os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def whole(place: Path, version: int) -> bool:
    """Tell whether ``place`` holds that version, every byte of it."""
    envelope = read_envelope(place)
    found = read_manifest(envelope)
    if found.version != version:
        return False
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=version, digest=found.digest)
    manifest = verify_manifest(envelope, SIGNER.public_key, expect=expect)
    verify_directory(place, manifest)
    key: SecretBytes = data_key(7 if version == 1 else 8)
    with open_directory(place, data_key=key, manifest=manifest) as model:
        files = {file.name: (file.mode, b"".join(map(bytes, model.chunks(file.name)))) for file in model.files()}
    return files == (OLD if version == 1 else NEW)


def run(root: Path, seed: int, count: int) -> None:
    encrypted = 0
    real = Floe.encrypt_segment

    def counted(self: Floe, *args: Any, **kwargs: Any) -> None:
        nonlocal encrypted
        encrypted += 1
        real(self, *args, **kwargs)

    Floe.encrypt_segment = counted  # type: ignore[method-assign]
    sinks._WORTH_IT = 2 << 20  # type: ignore[misc]
    write_model(root / "new", NEW)
    seal_model(write_model(root / "old", OLD), root / "old.sealed")
    choose = random.Random(seed)  # noqa: S311 - moments, not secrets
    place = root / "m.sealed"
    encrypted = 0
    seal(root, b"whole")
    total = encrypted
    assert in_child(root, b"counted", Moments(0, 0)) == 0
    moments = int((root / "moments").read_text())
    for number in range(count):
        shutil.rmtree(place)
        shutil.copytree(root / "old.sealed", place)
        # Spread over the whole sealing, each at random in its stretch; every fifth is killed again while it goes on.
        at = [moments * number // count + choose.randrange(1, moments // count + 1)]
        at += [choose.randrange(1, moments // 2)] * (number % 5 == 4)
        ends = [
            in_child(root, b"%d.%d" % (number, turn), Moments(one, choose.randrange(3))) for turn, one in enumerate(at)
        ]
        published = not whole(place, 1)
        if published:
            assert whole(place, 2)
        encrypted = 0
        seal(root, b"%d.again" % number)
        left = sorted(path.name for path in root.iterdir() if path.name.startswith("."))
        seen = {"at": at, "ends": ends, "published": published, "again": encrypted, "total": total, "left": left}
        sys.stdout.write(json.dumps(seen | {"whole": whole(place, 2)}) + "\n")


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
