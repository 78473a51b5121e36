"""The console's folder: the security keys of its people, which are no secrets, and what it saw of the deployment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.client.wallet import MAX_WALLET_FILE, SecurityKeys, Seen
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.core.ids import PersonId, person_id

KEYS: Final = "keys"
SEEN: Final = "seen.json"
NAMES: Final = "names.key"
NAMES_BYTES: Final = 32
ENDING: Final = ".json"


class SeenFile:
    """A :class:`strongroom.console.browser_wallet.Memory` in a file. One process at a time serves a folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = Seen.parse(path.read_bytes()) if path.exists() else Seen()

    def seen(self) -> Seen:
        """Return what was seen last."""
        return self._seen

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable.

        :raises UnavailableError: the disk refused.
        """
        try:
            write_durably(self._path, seen.to_bytes())
        except OSError:
            raise UnavailableError(
                "the console can't keep what it saw of the log, and shows nothing that it could forget",
                remedy=f"make room on the disk that its folder is on, and let its user write `{self._path.name}`",
            ) from None
        self._seen = seen

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other visitors from moving it meanwhile."""
        with self._lock:
            yield


def load_keys(folder: Path) -> Mapping[PersonId, SecurityKeys]:
    """Return whose security keys sign in: a file ``keys/PERSON.json`` each, as ``security-keys.json`` of a wallet is.

    :raises UsageError: there is none. :raises MalformedError: a file has another form.
    """
    found: dict[PersonId, SecurityKeys] = {}
    for path in sorted((folder / KEYS).glob(f"*{ENDING}")):
        with path.open("rb") as file:
            found[person_id(path.name.removesuffix(ENDING))] = SecurityKeys.parse(file.read(MAX_WALLET_FILE + 1))
    if not found:
        raise UsageError(
            f"`{folder / KEYS}` names nobody's security keys",
            remedy="copy security-keys.json of each person's wallet there, as PERSON.json",
        )
    return found


def load_names(folder: Path, random_bytes: Callable[[int], bytes]) -> bytes:
    """Return the secret that names credentials which nobody has; made the first time. It opens nothing.

    :raises MalformedError: it was cut short.
    """
    path = folder / NAMES
    if not path.exists():
        write_durably(path, random_bytes(NAMES_BYTES))
    with path.open("rb") as file:
        secret = file.read(NAMES_BYTES + 1)
    if len(secret) != NAMES_BYTES:
        raise MalformedError(f"`{NAMES}` has {NAMES_BYTES} bytes", remedy=f"delete `{path}`: it is made anew")
    return secret


def save_keys(folder: Path, person: PersonId, keys: SecurityKeys) -> None:
    """Let somebody sign in."""
    (folder / KEYS).mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(folder / KEYS / f"{person}{ENDING}", keys.to_bytes())
