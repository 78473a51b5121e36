"""A secret that a URI names by a file: this user's alone, read when it is needed, never kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from strongroom.core.errors import UsageError
from strongroom.core.secret import SecretBytes

_MOST: Final = 4096


class CredentialFileError(UsageError):
    """The file with a PIN, a token or an authorisation value can't be used."""

    code = "key-credential"


def read_credential(path: str) -> SecretBytes:
    """Read a secret of at most 4,096 bytes, without the newline at its end.

    :raises CredentialFileError: there is none, it is empty or too long, or others can read it.
    """
    remedy = f"write it to {path}, chmod 600, owned by the keeper's user"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        raise CredentialFileError(f"`{Path(path).name}` can't be read", remedy=remedy) from None
    try:
        found = os.fstat(handle)
        if found.st_mode & 0o077 or found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            raise CredentialFileError(f"`{Path(path).name}` must be a file of this user alone", remedy=remedy)
        buffer = bytearray(_MOST + 1)
        filled = os.readv(handle, [buffer])
    finally:
        os.close(handle)
    secret = bytearray(buffer[:filled].rstrip(b"\r\n"))
    SecretBytes(buffer).wipe()
    if not 0 < len(secret) <= _MOST:
        raise CredentialFileError(f"`{Path(path).name}` is empty or too long", remedy=remedy)
    return SecretBytes(secret)
