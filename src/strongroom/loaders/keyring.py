"""A keyring: how to open each model that a program may load by nothing but its path.

Libraries pass a path around and nothing else; their worker processes share no memory. So what belongs to a path is
found here: in the keyring that :func:`use_keyring` put in force, in the file that ``STRONGROOM_KEYRING`` names, or in
``~/.config/strongroom/keyring.json``. The file holds no secret. It says whose signature counts for a model, which
version is the oldest to take, and which identity file opens it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from strongroom.core.adapters.durable import write_durably
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.errors import MalformedError, NotFoundError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.ids import model_id
from strongroom.core.signature import PublicKey
from strongroom.loaders.access import Access, Checking, Identity
from strongroom.sealing.manifest import read_manifest
from strongroom.sealing.store import SealedStore, envelope_in

KEYRING_VARIABLE: Final = "STRONGROOM_KEYRING"
KEYRING_DEFAULT: Final = "~/.config/strongroom/keyring.json"
MAX_KEYRING: Final = 1 << 20
MAX_MODELS: Final = 1024
_MAX_KEY_TEXT: Final = 4096


class UnknownModelError(NotFoundError):
    """No keyring says how to open this model."""

    code = "unknown-model"


@dataclass(frozen=True, slots=True)
class Keyring:
    """How to open models, by deployment and name."""

    entries: tuple[Access, ...]

    def access(self, store: SealedStore) -> Access:
        """Return how to open what lies at ``store``. Its manifest only says which entry to look for.

        :raises UnknownModelError: there is none.
        """
        claimed = read_manifest(envelope_in(store))
        for entry in self.entries:
            if entry.model == claimed.model and entry.genesis.matches(claimed.genesis):
                return entry
        raise UnknownModelError(
            f"no keyring says how to open model `{claimed.model}` of this publisher",
            remedy=f"pass `access=`, or add it to the keyring ({KEYRING_VARIABLE}): strongroom keyring add",
        )

    def with_entry(self, entry: Access) -> Self:
        """Return the keyring with one more entry, in the place of an older one for the same model."""
        kept = (one for one in self.entries if (one.model, one.genesis) != (entry.model, entry.genesis))
        return type(self)((*kept, entry))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a keyring file.

        :raises UsageError: it isn't there, or others can write to it: they would choose whom this user believes.
        :raises MalformedError: another form.
        """
        with Fields(parse(_read(path), max_bytes=MAX_KEYRING), "keyring") as fields:
            fields.constant("v", 1)
            return cls(fields.objects("models", lambda entry: _entry(entry, path.parent), most=MAX_MODELS))

    def save(self, path: Path) -> None:
        """Write a keyring file, in one step.

        :raises UsageError: an entry whose key isn't in an identity file.
        """
        data = encode({"v": 1, "models": [_to_json(entry) for entry in self.entries]})
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, data)


_in_force: ContextVar[Keyring | None] = ContextVar("keyring", default=None)


@contextmanager
def use_keyring(keyring: Keyring) -> Iterator[None]:
    """Put a keyring in force for the block, in this thread or task and those that it starts by copying its context."""
    token = _in_force.set(keyring)
    try:
        yield
    finally:
        _in_force.reset(token)


def keyring_in_force() -> Keyring:
    """Return the keyring that applies here.

    :raises UsageError: none was put in force, and there is no file.
    """
    return _in_force.get() or Keyring.load(Path(os.environ.get(KEYRING_VARIABLE, KEYRING_DEFAULT)).expanduser())


def _entry(fields: Fields, folder: Path) -> Access:
    return Access(
        genesis=fields.digest("genesis"),
        model=fields.parsed("model", model_id),
        publisher=fields.parsed("publisher", PublicKey.parse, max_length=_MAX_KEY_TEXT),
        least_version=fields.integer("least_version", least=1) if fields.optional("least_version") else 1,
        digest=fields.digest("digest") if fields.optional("digest") else None,
        checking=fields.parsed("checking", Checking) if fields.optional("checking") else Checking.SEGMENTS,
        keys=Identity(folder / Path(fields.text("identity", max_length=1024)).expanduser()),
    )


def _to_json(entry: Access) -> Json:
    if not isinstance(entry.keys, Identity):
        raise UsageError("a keyring file names identity files only")
    return {
        "genesis": str(entry.genesis),
        "model": entry.model,
        "publisher": str(entry.publisher),
        "least_version": entry.least_version,
        "digest": str(entry.digest) if entry.digest else None,
        "checking": entry.checking.value,
        "identity": str(entry.keys.path),
    }


def _read(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        raise UsageError(
            f"there is no keyring at `{path}`",
            remedy=f"pass `access=`, or make one (strongroom keyring add), or name it in {KEYRING_VARIABLE}",
            reason="keyring-missing",
        ) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o022 or found.st_uid not in {os.geteuid(), 0} or not stat.S_ISREG(found.st_mode):
            raise UsageError(
                f"others can write to the keyring `{path}`", remedy=f"chmod 600 {path}", reason="keyring-open"
            )
        data = file.read(MAX_KEYRING + 1)
    if len(data) > MAX_KEYRING:
        raise MalformedError(f"the keyring is larger than {MAX_KEYRING} bytes")
    return data
