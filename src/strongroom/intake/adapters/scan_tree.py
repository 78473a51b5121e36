"""The files under a folder in a fixed order, each opened through no link; and how far a search has come, in a file.

A folder is read by descriptors, so that whoever renames things meanwhile leads nobody out of it. Other file systems
mounted within it aren't entered: each is a place of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, UsageError
from strongroom.intake.adapters.delivered_folder import OpenFile
from strongroom.intake.copies.elements import LEAST

MAX_DEPTH: Final = 128
MAX_STATE: Final = 256 << 20
SAVE_SECONDS: Final = 2.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unread:
    """What couldn't be looked at, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Small:
    """A file that is too small to hold anything that can be known again; it isn't opened."""

    size: int


class Searched(Protocol):
    """A file that can be looked at."""

    @property
    def name(self) -> str:
        """Its path in what is searched."""
        ...

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    @property
    def found(self) -> os.stat_result | None:
        """What the file system says of it, where there is one."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Met:
    """One thing that was met, and its place in the order."""

    parts: Parts
    what: Searched | Unread | Small


def walk(root: Path, *, after: Parts = (), leave_out: frozenset[Path] = frozenset()) -> Iterator[Met]:
    """Yield the regular files under ``root``, or ``root`` itself, sorted by their names' parts, from behind ``after``.

    An open file is closed when the next one is asked for.

    :raises OSError: the root itself can't be read.
    """
    if not root.is_dir():
        yield from _file(root.name, (root.name,), os.open(root.parent, _FOLDER & ~os.O_NOFOLLOW))
        return
    fd = os.open(root, _FOLDER)
    yield from _Walk(os.fstat(fd).st_dev, after, root, leave_out).folder(fd, ())


@dataclass(frozen=True, slots=True)
class _Walk:
    device: int
    after: Parts
    root: Path
    leave_out: frozenset[Path]

    def folder(self, fd: int, prefix: Parts) -> Iterator[Met]:
        """Walk one open folder, and close it."""
        try:
            with os.scandir(fd) as found:
                names = sorted(entry.name for entry in found)
            for name in names:
                parts = (*prefix, name)
                if parts < self.after[: len(parts)] or self.root.joinpath(*parts) in self.leave_out:
                    continue
                yield from self.one(fd, name, parts)
        except OSError as error:
            yield Met(prefix, Unread("/".join(prefix), _reason(error)))
        finally:
            os.close(fd)

    def one(self, fd: int, name: str, parts: Parts) -> Iterator[Met]:
        try:
            facts = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(facts.st_mode) and parts > self.after:
                yield from _small(facts, parts) if facts.st_size < LEAST else _opened(name, parts, fd)
            if not stat.S_ISDIR(facts.st_mode):
                return
            if facts.st_dev != self.device or len(parts) > MAX_DEPTH:
                why = "another file system" if facts.st_dev != self.device else "too deep"
                yield Met(parts, Unread("/".join(parts), why))
                return
            inner = os.open(name, _FOLDER, dir_fd=fd)
        except OSError as error:
            yield Met(parts, Unread("/".join(parts), _reason(error)))
            return
        yield from self.folder(inner, parts)


def _small(facts: os.stat_result, parts: Parts) -> Iterator[Met]:
    yield Met(parts, Small(facts.st_size))


def _file(name: str, parts: Parts, folder: int) -> Iterator[Met]:
    try:
        yield from _opened(name, parts, folder)
    finally:
        os.close(folder)


def _opened(name: str, parts: Parts, folder: int) -> Iterator[Met]:
    fd = os.open(name, _FILE, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            yield Met(parts, Unread("/".join(parts), "no regular file"))
            return
        # A few places of it are read: what the kernel would read ahead is thrown away.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        yield Met(parts, OpenFile("/".join(parts), fd, found))
    finally:
        os.close(fd)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or 0).lower()


def count(root: Path) -> int:
    """Return about how many files there are under a folder, for a progress bar."""
    return sum(len(files) for _folder, _folders, files in os.walk(root)) if root.is_dir() else 1


def yield_to_others() -> None:
    """Let everything else on the machine go before this thread, on the processors."""
    os.setpriority(os.PRIO_PROCESS, 0, 19)


class ScanState:
    """How far a search has come, and what it found, in a file of this user's alone: one JSON object a line.

    A line is written every two seconds and at the end; what a crash left of one is ignored.
    """

    def __init__(self, path: Path, about: dict[str, Json]) -> None:
        """Go on from a file that is there, or begin one. It is held until the end.

        :raises UsageError: it is of another search, or one that runs has it, or others can write to it: who can would
            have the search pass over whatever they like. :raises MalformedError: it is no such file.
        :raises OSError: it can't be opened, or is a link.
        """
        self._path, self._saved = path, time.monotonic()
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        try:
            self._begin(about)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, about: dict[str, Json]) -> None:
        path = self._path
        facts = os.fstat(self._file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            raise UsageError(f"`{path}` isn't a file that only you can write to", remedy="name one that is")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another search has `{path}`", remedy="let it end, or name another file") from None
        self.after: Parts = ()
        self.findings: list[dict[str, Json]] = []
        self.totals: dict[str, int] = {}
        self._unsaved: list[dict[str, Json]] = []
        lines, size = self._lines(facts.st_size)
        if lines and lines[0] != about:
            raise UsageError(
                f"`{path}` is the state of another search: other folders or other fingerprints",
                remedy="name another file, or delete it to begin again",
            )
        for line in lines[1:]:
            self._take(line)
        self._file.truncate(size)
        self._file.seek(size)
        if not lines:
            self._file.write(_line(about))

    def _lines(self, size: int) -> tuple[list[dict[str, Json]], int]:
        """Return the whole lines, and how many bytes they take."""
        try:
            data = os.pread(self._file.fileno(), size, 0) if size <= MAX_STATE else b"?\n"
            return [dict(json.loads(line)) for line in data.split(b"\n")[:-1]], data.rfind(b"\n") + 1
        except (ValueError, TypeError, RecursionError):
            raise MalformedError(
                f"`{self._path}` isn't the state of a search", remedy="delete it to begin again"
            ) from None

    def _take(self, line: dict[str, Json]) -> None:
        at, findings, totals = line.get("at"), line.get("findings"), line.get("totals")
        if not isinstance(at, list) or not isinstance(findings, list) or not isinstance(totals, dict):
            raise MalformedError(f"`{self._path}` isn't the state of a search")
        self.after = tuple(str(part) for part in at)
        self.findings += [one for one in findings if isinstance(one, dict)]
        self.totals = {name: value for name, value in totals.items() if isinstance(value, int)}

    def found(self, finding: dict[str, Json]) -> None:
        """Remember a finding; it is saved with the place that follows it."""
        self.findings.append(finding)
        self._unsaved.append(finding)

    def reached(self, after: Parts, totals: dict[str, int]) -> None:
        """Say that everything up to ``after`` is done."""
        self.after = after
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save(totals)

    def save(self, totals: dict[str, int]) -> None:
        """Write down how far it is.

        :raises OSError: the disk refused.
        """
        self.totals = dict(totals)
        self._file.write(_line({"at": [*self.after], "findings": [*self._unsaved], "totals": {**totals}}))
        os.fsync(self._file.fileno())
        self._unsaved, self._saved = [], time.monotonic()

    def end(self, totals: dict[str, int], *, finished: bool) -> None:
        """Close the file. It stays for who wants to go on; of a search that is finished it goes.

        :raises OSError: the disk refused.
        """
        with self._file:
            if not finished:
                self.save(totals)
        if finished:
            self._path.unlink()


def _line(value: dict[str, Json]) -> bytes:
    # A name that isn't UTF-8 is written as half of a surrogate pair, which canonical JSON refuses.
    return json.dumps(value).encode("ascii") + b"\n"
