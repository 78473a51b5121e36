"""Measuring files: one digest for a file, one for several trees, read with a few threads.

The trees' digest is SHA-256 over one record for each entry, sorted by path:

    length of path (4, big-endian) | path | kind (1: d, f, x or l) | size (8) | SHA-256 of the contents (32)

A path is the tree's label, a slash, and the path below it. ``x`` is a file that its owner may execute; a link's
contents are its target's name. ``__pycache__`` folders are left out, so the measured command must keep the interpreter
from reading them (``-X pycache_prefix=<an empty folder of its own>``): Python would otherwise run bytecode that nobody
measured. What is measured must not change afterwards: it belongs on storage that the measured code can't write.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import TamperedError

THREADS: Final = 4
MAX_ENTRIES: Final = 1_000_000
_CHUNK: Final = 1 << 20
_BATCH: Final = 256
_SKIPPED: Final = "__pycache__"
_EMPTY: Final = hashlib.sha256(b"").digest()


class MeasureError(TamperedError):
    """What can't be measured: a special file, a link that leaves its tree, or bytes that changed meanwhile."""

    code = "not-measurable"


def measure_file(path: Path) -> Digest:
    """Digest one regular file, following links to it (an interpreter is often a link).

    :raises MeasureError: not a regular file, unreadable, or changed while it was read.
    """
    return Digest(DigestAlgorithm.SHA256, _read(path.resolve())[1])


def measure_trees(roots: Mapping[str, Path], *, leaving_out: frozenset[Path] = frozenset()) -> Digest:
    """Digest several trees as one, each under its own label (``site-packages``, ``model-code``).

    Labels are digested; where the trees lie isn't, so that two machines get the same digest. What is in
    ``leaving_out`` (real paths of folders) must not be reachable for the measured code.

    :raises MeasureError: not a folder, a label with a slash, a special file, a link that leads outside, or a change
        while reading.
    """
    listed: list[tuple[str, os.DirEntry[str], str]] = []
    for label, root in roots.items():
        if "/" in label or not root.is_dir():
            raise MeasureError(f"`{root}` isn't a folder, or its label `{label}` has a slash")
        top = os.path.realpath(root)
        listed += ((f"{label}/{os.path.relpath(entry.path, top)}", entry, top) for entry in _walk(top, leaving_out))
        if len(listed) > MAX_ENTRIES:
            raise MeasureError(f"the trees hold more than {MAX_ENTRIES} entries")
    # Big files first, so that no thread is left with one at the end; small ones in batches, so that few tasks are made.
    listed.sort(key=lambda item: item[1].stat(follow_symlinks=False).st_size, reverse=True)
    big, small = listed[:_BATCH], listed[_BATCH:]
    batches = [[item] for item in big] + [small[i : i + _BATCH] for i in range(0, len(small), _BATCH)]
    with ThreadPoolExecutor(THREADS) as pool:
        records = [record for batch in pool.map(_records, batches) for record in batch]
    records.sort()
    whole = hashlib.sha256()
    for path, rest in records:
        whole.update(len(path).to_bytes(4, "big") + path + rest)
    return Digest(DigestAlgorithm.SHA256, whole.digest())


def _walk(folder: str, leaving_out: frozenset[Path]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and (entry.name == _SKIPPED or Path(entry.path) in leaving_out):
                    continue
                yield entry
                if is_folder:
                    yield from _walk(entry.path, leaving_out)
    except OSError as error:
        raise MeasureError(f"`{folder}` can't be listed: {error.strerror}") from None


def _records(batch: list[tuple[str, os.DirEntry[str], str]]) -> list[tuple[bytes, bytes]]:
    return [(os.fsencode(path), _record(entry, top)) for path, entry, top in batch]


def _record(entry: os.DirEntry[str], top: str) -> bytes:
    mode = entry.stat(follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        kind, size, digest = b"d", 0, _EMPTY
    elif stat.S_ISLNK(mode):
        target = os.fsencode(Path(entry.path).readlink())
        if os.path.commonpath([top, os.path.realpath(entry.path)]) != top:
            # What it points to isn't measured, so it could be changed without a trace.
            raise MeasureError(f"the link `{entry.path}` leads out of its tree")
        kind, size, digest = b"l", len(target), hashlib.sha256(target).digest()
    elif stat.S_ISREG(mode):
        kind = b"x" if mode & stat.S_IXUSR else b"f"
        size, digest = _read(Path(entry.path))
    else:
        raise MeasureError(f"`{entry.path}` isn't a file, a folder or a link")
    return kind + size.to_bytes(8, "big") + digest


def _read(path: Path) -> tuple[int, bytes]:
    try:
        # Not a link, not a pipe that blocks: whatever was swapped in since the listing is refused below.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise MeasureError(f"`{path}` can't be opened: {error.strerror}") from None
    try:
        return _hash(descriptor, path)
    except OSError as error:
        raise MeasureError(f"`{path}` can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _hash(descriptor: int, path: Path) -> tuple[int, bytes]:
    before = os.fstat(descriptor)
    if not stat.S_ISREG(before.st_mode):
        raise MeasureError(f"`{path}` isn't a regular file")
    running, seen = hashlib.sha256(), 0
    while chunk := os.read(descriptor, _CHUNK):
        running.update(chunk)
        seen += len(chunk)
    after = os.fstat(descriptor)
    if seen != before.st_size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise MeasureError(f"`{path}` changed while it was measured")
    return seen, running.digest()
