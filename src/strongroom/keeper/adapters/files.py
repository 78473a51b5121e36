"""The keeper's own folder: keyring, pins, and its copies of the documents in force. Nobody else may write there."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.core.ids import PersonId
from strongroom.keeper.adapters.own_files import OWN_FILES
from strongroom.keeper.keyring import MAX_KEYRING, Keyring
from strongroom.keeper.pins import Pins
from strongroom.keeper.restoring import MARKER, MAX_MARKER, Restored
from strongroom.release.attested import MAX_ATTESTED
from strongroom.release.decided import MAX_DECIDED, DecisionNotKeptError

KEYRING_NAME: Final = "keyring.json"
MAX_FILE: Final = 4 << 20
MAX_DECISIONS_FILE: Final = 32 << 20
MAX_ATTESTED_FILE: Final = 64 << 20
MOST_ASIDE: Final = 8
"""Full files of a kind that a hold has set aside, at most: it must not fill the disk that the keeper needs."""


def replace_own(path: Path, data: bytes) -> None:
    """Replace a file of the keeper's, durably.

    :raises UnavailableError: the disk refuses; the old file stands.
    """
    try:
        with OWN_FILES.writing(path, data):
            write_durably(path, data)
    except OSError as error:
        raise _unusable(path, error, "written") from None


def read_own(path: Path, *, most: int = MAX_FILE) -> bytes | None:
    """Read a file that belongs to this user alone; None when there is none.

    :raises UsageError: others can read or write it.
    :raises MalformedError: it is larger than any such file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise UsageError(f"`{path.name}` must belong to the keeper's user alone", remedy=f"chmod 600 {path.name}")
        data = file.read(most + 1)
    if len(data) > most:
        raise MalformedError(f"`{path.name}` is larger than {most} bytes")
    return data


class PinFile:
    """Pins in one file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "pins.json"

    def load(self) -> Pins | None:
        """Return the pins, or None before the first start."""
        data = read_own(self._path)
        return None if data is None else Pins.parse(data)

    def save(self, pins: Pins) -> None:
        """Make pins durable."""
        replace_own(self._path, pins.to_bytes())

    def hasten(self, _seconds: float) -> None:
        """Do nothing: there is no anchor that could wait."""


class DocumentFolder:
    """The keeper's copies of signed documents, named by digest. They are checked again at each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, kind: str, digest: Digest) -> bytes | None:
        """Return the envelope of the document with this digest."""
        return read_own(self._place(kind, digest))

    def save(self, kind: str, digest: Digest, envelope: bytes) -> None:
        """Make an envelope durable, beside the one in force: a crash in between leaves both."""
        replace_own(self._place(kind, digest), envelope)

    def _place(self, kind: str, digest: Digest) -> Path:
        return self._folder / f"{kind}-{digest.value.hex()}.json"


class RecordFolder:
    """Encrypted records about people; file names say nothing about whom."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "people"

    def load(self, name: str) -> bytes | None:
        """Return a file's bytes."""
        return read_own(self._folder / name)

    def save(self, name: str, data: bytes) -> None:
        """Make a file durable."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        replace_own(self._folder / name, data)

    def erase(self, name: str) -> None:
        """Overwrite and remove a file. A disk that writes elsewhere may keep the old bytes until it reuses them."""
        path = self._folder / name
        if path.exists():
            replace_own(path, b"")
            path.unlink()


class RecordFile:
    """Records of at most ``longest`` bytes, a line each, in two files of ``most`` bytes: the full one before, and the
    one being written.

    While a hold stands, full files aren't overwritten but set aside, :data:`MOST_ASIDE` of them. The oldest are what is
    kept: they are of before the hold, and of its first days. After that the ring goes round again behind them.

    :param held: asked whether a hold stands. ``overwrote``: told each time that held records were overwritten.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        longest: int,
        most: int,
        held: Callable[[], bool],
        overwrote: Callable[[], None],
    ) -> None:
        self._path = folder / f"{name}.jsonl"
        self._older = folder / f"{name}.older.jsonl"
        self._aside = [folder / f"{name}.held-{number}.jsonl" for number in range(1, MOST_ASIDE + 1)]
        self._longest = longest
        self._most = most
        self._held = held
        self._overwrote = overwrote
        self._turning = threading.Lock()
        """Held while a record is written, and while a reader opens the files: it finds each of them once, and no half
        of a record, though the ring turns while it reads."""

    def append(self, record: bytes) -> None:
        """Keep one record. Not synchronised: a crash may lose the last ones, and the log says which.

        :raises UnavailableError: the disk refuses.
        """
        try:
            with self._turning:
                self._append(record)
        except OSError as error:
            raise _unusable(self._path, error, "written") from None

    def _append(self, record: bytes) -> None:
        if self._path.exists() and self._path.stat().st_size + len(record) > self._most:
            self._turn()
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "a+b") as file:
            # A line that a crash cut short must not take the next record along.
            torn = file.tell() > 0 and os.pread(file.fileno(), 1, file.tell() - 1) != b"\n"
            file.write((b"\n" if torn else b"") + record + b"\n")

    def _turn(self) -> None:
        """Make room for a new file, each step one renaming: a crash or a full disk in between loses nothing."""
        if not self._held():
            # Whatever was held is let go with the first file that would have pushed it out.
            self._let_go()
        elif self._older.exists():
            free = next((path for path in self._aside if not path.exists()), None)
            if free is None:
                self._overwrote()
            else:
                self._older.rename(free)
        self._path.replace(self._older)

    def _let_go(self) -> None:
        # The newest first: what a crash leaves is numbered from one on, and the next goes behind it.
        for path in reversed(self._aside):
            path.unlink(missing_ok=True)

    @property
    def _files(self) -> tuple[Path, ...]:
        """The files of this kind, the one that is written first; those set aside are the oldest."""
        return (self._path, self._older, *reversed(self._aside))

    def newest(self, count: int, before: Digest | None = None) -> tuple[bytes, ...]:
        """Return the newest records, oldest first; lines that a crash cut short are for the reader to refuse.

        :param before: the record before which they end, for who has the newer ones already. Equal records are one.
        :raises DecisionNotKeptError: ``before`` isn't kept, or no longer: what came before it can't be told.
        """
        found: list[bytes] = []
        newer: set[Digest] = set()
        reached = before is None
        with self._newest_first() as lines:
            for line in lines:
                digest = Digest.of(line)
                if digest in newer:
                    continue
                newer.add(digest)
                if reached:
                    found.append(line)
                    if len(found) == count:
                        break
                reached = reached or digest == before
        if not reached:
            raise DecisionNotKeptError
        return tuple(reversed(found))

    def find(self, digest: Digest) -> bytes | None:
        """Return the record with this digest, if it is kept."""
        with self._newest_first() as lines:
            return next((line for line in lines if Digest.of(line) == digest), None)

    @contextmanager
    def _newest_first(self) -> Iterator[Iterator[bytes]]:
        """Open the files as they are now, and give their lines."""
        with ExitStack() as opened:
            with self._turning:
                files = [(opened.enter_context(file), path) for path in self._files if (file := _opened(path))]
                ends = [file.seek(0, os.SEEK_END) for file, _path in files]
            yield (
                line
                for (file, path), end in zip(files, ends, strict=True)
                for line in reversed(self._lines(file, path, end))
            )

    def _lines(self, file: BinaryIO, path: Path, end: int) -> list[bytes]:
        """Return a file's lines, without those that are longer than any record; of a huge file, the newest."""
        begin = max(0, end - self._most - self._longest)
        try:
            file.seek(begin)
            lines = file.read(end - begin).split(b"\n")
        except OSError as error:
            raise _unusable(path, error, "read") from None
        whole = lines[1:] if begin else lines
        return [line for line in whole if 0 < len(line) <= self._longest]


class DecisionFile(RecordFile):
    """Kept decisions."""

    def __init__(
        self,
        folder: Path,
        *,
        held: Callable[[], bool],
        overwrote: Callable[[], None],
        most: int = MAX_DECISIONS_FILE,
    ) -> None:
        super().__init__(folder, "decisions", longest=MAX_DECIDED, most=most, held=held, overwrote=overwrote)

    def forget(self, person: PersonId) -> None:
        """Remove every decision that a person was part of."""
        if not self._held():
            # Nobody waits until hundreds of megabytes that nothing holds any more are looked through.
            self._let_go()
        named = b'"id":"' + person.encode() + b'"'
        for path in self._files:
            if (file := _opened(path)) is not None:
                with file:
                    kept = [line for line in self._lines(file, path, file.seek(0, os.SEEK_END)) if named not in line]
                replace_own(path, b"".join(line + b"\n" for line in kept))


class AttestedFile(RecordFile):
    """Kept evidence and attestation results. They name no person."""

    def __init__(
        self,
        folder: Path,
        *,
        held: Callable[[], bool],
        overwrote: Callable[[], None],
        most: int = MAX_ATTESTED_FILE,
    ) -> None:
        super().__init__(folder, "attested", longest=MAX_ATTESTED, most=most, held=held, overwrote=overwrote)


def _opened(path: Path) -> BinaryIO | None:
    """Open a file to read it; None where there is none.

    :raises UnavailableError: the disk refuses.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error, "read") from None


def _unusable(path: Path, error: OSError, what: str) -> UnavailableError:
    return UnavailableError(
        f"`{path.name}` can't be {what}: {os.strerror(error.errno or 0).lower()}",
        remedy="free space on, or mend, the disk that holds the keeper's folder",
        reason="keeper-disk",
    )


class KeyringFile:
    """The keyring of a running keeper."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEYRING_NAME

    def save(self, keyring: bytes) -> None:
        """Replace the keyring durably.

        :raises UnavailableError: the disk refuses; the old one stands.
        """
        replace_own(self._path, keyring)


class RestoredFile:
    """The marker of a deployment that was just restored."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / MARKER

    def load(self) -> Restored | None:
        """Return it, if it is there."""
        data = read_own(self._path, most=MAX_MARKER)
        return None if data is None else Restored.parse(data)

    def save(self, marker: Restored) -> None:
        """Write it, for the first start of a restored deployment."""
        replace_own(self._path, marker.to_bytes())

    def drop(self) -> None:
        """Remove it, durably."""
        self._path.unlink(missing_ok=True)
        sync_folder(self._path.parent)


def load_keyring(folder: Path) -> Keyring:
    """Read the keyring.

    :raises UsageError: there is none, or others can read it.
    """
    data = read_own(folder / KEYRING_NAME, most=MAX_KEYRING)
    if data is None:
        raise UsageError("the keeper has no keyring", remedy="make a deployment: strongroom init")
    return Keyring.parse(data)


def replace_keyring(folder: Path, keyring: Keyring) -> None:
    """Write the keyring of a deployment again: the same keys, its root wrapped by another provider.

    :raises UnavailableError: the disk refuses; the old one stands.
    """
    KeyringFile(folder).save(keyring.to_bytes())


def save_keyring(folder: Path, keyring: Keyring) -> None:
    """Write the keyring of a new deployment.

    :raises UsageError: there is one; overwriting it would lose every key under it.
    """
    path = folder / KEYRING_NAME
    if path.exists():
        raise UsageError("this deployment has a keyring already")
    replace_own(path, keyring.to_bytes())
