"""A register in a folder: its statements one a line, appended under a lock; and the fingerprints beside it.

A line is whole or it isn't there: what a crash left of one is cut off by the next who writes, under the lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import ConflictError, NotFoundError, UsageError
from strongroom.core.signature import PublicKey
from strongroom.intake.copies.catalogue import MAX_CATALOGUE
from strongroom.intake.copies.register import Register, read_register

STATEMENTS: Final = "copies.jsonl"
FINGERPRINTS: Final = "fingerprints"
MAX_REGISTER: Final = 256 << 20


class RegisterFolder:
    """Where a register lies. Reading needs the registrar's public key alone."""

    def __init__(self, folder: Path, key: PublicKey, genesis: Digest) -> None:
        self._folder, self._key, self._genesis = folder, key, genesis

    def read(self) -> Register:
        """Read it.

        :raises NotFoundError: there is none: a mistyped folder mustn't look like one in which nothing is overdue.
        :raises StrongroomError: as :func:`~strongroom.intake.copies.register.read_register`.
        """
        try:
            with (self._folder / STATEMENTS).open("rb") as file:
                return self._parsed(_whole(file, MAX_REGISTER))
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no register in `{self._folder}`", remedy="begin one: strongroom copies add"
            ) from None

    @contextmanager
    def writing(self) -> Iterator[OpenRegister]:
        """Hold the register alone: nobody else adds a statement between reading and writing.

        :raises StrongroomError: as :meth:`read`. :raises OSError: the disk refused.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self._folder / STATEMENTS, flags, 0o600)
        with os.fdopen(handle, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            data = _whole(file, MAX_REGISTER)
            whole = data.rfind(b"\n") + 1
            lines = data[:whole].split(b"\n")[:-1]
            register = read_register(lines, self._key, self._genesis)
            if whole < len(data):
                file.truncate(whole)
            # Before anything is said: what the log has mustn't be gone from here with the file's name.
            sync_folder(self._folder)
            yield OpenRegister(file.fileno(), lines, register)

    def keep_fingerprints(self, data: bytes) -> None:
        """Replace the file of fingerprints, which the caller holds the register for."""
        write_durably(self._folder / FINGERPRINTS, data)

    def _parsed(self, data: bytes) -> Register:
        # A last line without an end was never told to anybody as written.
        return read_register(data.split(b"\n")[:-1], self._key, self._genesis)


def stored_fingerprints(folder: Path) -> bytes:
    """Return the file of fingerprints in a register's folder.

    :raises NotFoundError: there is none yet.
    """
    try:
        with (folder / FINGERPRINTS).open("rb") as file:
            return _whole(file, 2 * MAX_CATALOGUE)
    except FileNotFoundError:
        raise NotFoundError(
            f"`{folder}` has no fingerprints", remedy="make some: strongroom copies fingerprint"
        ) from None


class OpenRegister:
    """A register that is held for writing. ``lines`` are its signed statements as they stand in the file."""

    def __init__(self, handle: int, lines: list[bytes], register: Register) -> None:
        self._handle, self.lines, self.register = handle, lines, register
        self._size = sum(len(line) + 1 for line in lines)

    def append(self, envelope: Envelope) -> None:
        """Write a statement that the register has taken; it is on the disk when this returns.

        :raises OSError: the disk refused; nothing of the line stays.
        :raises ConflictError: the register is full: what is longer couldn't be read again.
        """
        line = envelope.to_bytes() + b"\n"
        if self._size + len(line) > MAX_REGISTER:
            raise ConflictError(f"the register has {MAX_REGISTER} bytes", remedy="begin another one, and keep this")
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._handle, line[written:], self._size + written)
            os.fsync(self._handle)
        except OSError:
            os.ftruncate(self._handle, self._size)
            raise
        self._size += len(line)
        self.lines.append(line[:-1])

    def withdraw(self) -> None:
        """Take the last line back, which the log refused; ``register`` has taken it and is of no more use.

        :raises OSError: the disk refused.
        """
        self._size -= len(self.lines.pop()) + 1
        os.ftruncate(self._handle, self._size)
        os.fsync(self._handle)


def _whole(file: BinaryIO, most: int) -> bytes:
    # Asked before: a read of so many bytes would take the memory first.
    if os.fstat(file.fileno()).st_size > most:
        raise UsageError(f"`{Path(file.name).name}` has more than {most} bytes")
    return file.read()
