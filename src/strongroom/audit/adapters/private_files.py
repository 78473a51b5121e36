"""Seeds of signing keys, in files that one user keeps for itself."""

from __future__ import annotations

import os
from pathlib import Path

from strongroom.core.adapters.durable import sync_folder
from strongroom.core.errors import UsageError
from strongroom.core.signature import SEED_BYTES


def create_seed(path: Path, seed: bytes) -> None:
    """Write a new key's seed, mode 0600.

    :raises UsageError: there is a key already.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise UsageError(f"there is a key `{path.name}` already") from None
    with os.fdopen(handle, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def read_seed(path: Path) -> bytes:
    """Read a key's seed: 32 bytes.

    :raises UsageError: missing, not 32 bytes, not this user's, or readable by anybody else.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        raise UsageError(f"the key `{path.name}` can't be opened") from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.geteuid():
            raise UsageError(f"the key `{path.name}` must belong to this user alone", remedy=f"chmod 600 {path.name}")
        seed = file.read(SEED_BYTES + 1)
    if len(seed) != SEED_BYTES:
        raise UsageError(f"the key `{path.name}` isn't {SEED_BYTES} bytes long")
    return seed


def destroy_seed(path: Path) -> None:
    """Destroy a key: its bytes are overwritten and the name is gone when this returns. Nothing happens without it.

    A disk may keep old blocks for a while, and a copy of the disk does for ever: who must know that the key is gone
    keeps it on storage that forgets.

    :raises OSError: the disk refused.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(bytes(SEED_BYTES))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
