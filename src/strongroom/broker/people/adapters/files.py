"""The directory's small files in the broker's folder: tokens (digests), settings, pinned keys of senders."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.broker.people.tokens import ScimTokens
from strongroom.broker.people.transmitters import MAX_SETTINGS
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import MalformedError, UnavailableError, UsageError

TOKENS: Final = "scim-tokens.json"
SCIM_SETTINGS: Final = "scim.toml"
EVENT_SETTINGS: Final = "ssf.toml"


class TokenFile:
    """The digests of the bearer tokens."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / TOKENS

    def exists(self) -> bool:
        """Tell whether a token was ever made."""
        return self._path.exists()

    def load(self) -> ScimTokens:
        """Return the tokens; none when there is no file.

        :raises UsageError: others can write it.
        :raises MalformedError: it holds something else.
        """
        data = read_settings(self._path)
        return ScimTokens() if data is None else ScimTokens.parse(data)

    def change(self, change: Callable[[ScimTokens], ScimTokens]) -> None:
        """Replace the tokens by what ``change`` makes of them, durably; one at a time.

        :raises UnavailableError: the disk refuses; the old tokens stand.
        """
        try:
            # A token may be made before the broker's first start, which makes this folder else.
            self._path.parent.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise _refused(self._path, error) from None
        with _alone(self._path.with_name(f".{TOKENS}.lock")):
            _replace(self._path, change(self.load()).to_bytes())


def read_settings(path: Path) -> bytes | None:
    """Read a file that says who may lower people; None when there is none.

    :raises UsageError: somebody else can write it.
    :raises MalformedError: it is larger than any such file.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _refused(path, error) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o022 or found.st_uid not in {0, os.geteuid()}:
            raise UsageError(
                f"`{path.name}` must be writable by the broker's user alone", remedy=f"chmod go-w {path.name}"
            )
        data = file.read(MAX_SETTINGS + 1)
    if len(data) > MAX_SETTINGS:
        raise MalformedError(f"`{path.name}` is larger than {MAX_SETTINGS} bytes")
    return data


def read_pinned(folder: Path, names: Mapping[str, str]) -> Mapping[str, bytes]:
    """Read the senders' files of public keys: issuer -> file's name -> its bytes.

    :raises UsageError: one is missing, or somebody else can write it.
    """
    found = {}
    for issuer, name in names.items():
        data = read_settings(folder / name)
        if data is None:
            raise UsageError(f"`ssf.toml` names `{name}`, which isn't there")
        found[issuer] = data
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _replace(path: Path, data: bytes) -> None:
    try:
        write_durably(path, data)
    except OSError as error:
        raise _refused(path, error) from None


def _refused(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"`{path.name}` can't be used: {os.strerror(error.errno or 0).lower()}")
