"""The keeper's own folder: keyring, pins, and its copies of the documents in force. Nobody else may write there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.keeper.pins import Pins
from strongroom.keeper.vault import Keyring

MAX_FILE: Final = 4 << 20


def write_durably(path: Path, data: bytes) -> None:
    """Replace a file so that a crash leaves the old or the new one, whole, and never a mixture.

    :raises UnavailableError: the disk refuses; the old file stands.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UnavailableError(
            f"`{path.name}` can't be written: {os.strerror(error.errno or 0).lower()}",
            remedy="free space on, or mend, the disk that holds the keeper's folder",
            reason="keeper-disk",
        ) from None


def read_own(path: Path) -> bytes | None:
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
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise MalformedError(f"`{path.name}` is larger than {MAX_FILE} bytes")
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
        write_durably(self._path, pins.to_bytes())


class DocumentFolder:
    """The keeper's copies of signed documents, named by digest. They are checked again at each start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, kind: str, digest: Digest) -> bytes | None:
        """Return the envelope of the document with this digest."""
        return read_own(self._place(kind, digest))

    def save(self, kind: str, digest: Digest, envelope: bytes) -> None:
        """Make an envelope durable, beside the one in force: a crash in between leaves both."""
        write_durably(self._place(kind, digest), envelope)

    def _place(self, kind: str, digest: Digest) -> Path:
        return self._folder / f"{kind}-{digest.value.hex()}.json"


def load_keyring(folder: Path) -> Keyring:
    """Read the keyring.

    :raises UsageError: there is none, or others can read it.
    """
    data = read_own(folder / "keyring.json")
    if data is None:
        raise UsageError("the keeper has no keyring", remedy="make a deployment: strongroom init")
    return Keyring.parse(data)


def save_keyring(folder: Path, keyring: Keyring) -> None:
    """Write the keyring of a new deployment.

    :raises UsageError: there is one; overwriting it would lose every key under it.
    """
    path = folder / "keyring.json"
    if path.exists():
        raise UsageError("this deployment has a keyring already")
    write_durably(path, keyring.to_bytes())
