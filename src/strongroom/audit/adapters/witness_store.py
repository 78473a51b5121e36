"""A witness's folder: its key, the logs that it follows, and the checkpoint of each that it cosigned last.

``witness.key`` (32 bytes, 0600) · ``witness.pub`` (its verifier key) · ``logs/<SHA-256 of the origin>/keys``
(the log's verifier keys, one a line) · ``logs/<SHA-256 of the origin>/checkpoint`` (the note).

A file that is gone or empty isn't taken for a beginning: a witness that forgets would cosign a fork.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from strongroom.audit.adapters.private_files import create_seed, read_seed
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.cosignature import Cosigner, CosignerKey, read_cosignatures
from strongroom.audit.errors import WitnessStoreError
from strongroom.audit.note import MAX_BYTES, Note
from strongroom.audit.witness_policy import LogKey, read_log_key, signed_checkpoint
from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.adapters.reading import read_at_most
from strongroom.core.clock import Instant
from strongroom.core.errors import ConflictError, StrongroomError, UnavailableError, UsageError

_KEY: Final = "witness.key"
_PUBLIC: Final = "witness.pub"
_NOTHING_YET: Final = b"nothing cosigned yet\n"
"""Stands in the place of the note at first. No crash of a file system leaves it."""
_REMEDY: Final = (
    "Retire this witness's key and make a new witness: a restored or repaired folder may be behind what it cosigned."
)


def origin_hash(origin: str) -> str:
    """Return the name of a log's folder, and of its checkpoint in the monitoring interface."""
    return hashlib.sha256(origin.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Followed:
    """A followed log: its trusted keys, the note that was cosigned last, and what that note says."""

    origin: str
    keys: tuple[LogKey, ...]
    note: bytes
    latest: Checkpoint | None
    at: Instant
    """When it was cosigned; 0 before the first time."""


class WitnessFolder:
    """An opened folder of a witness; one process at a time has it open to cosign."""

    def __init__(self, folder: Path, cosigner: Cosigner) -> None:
        self._folder = folder
        self._lock: int | None = None
        self.cosigner = cosigner

    @classmethod
    def create(cls, folder: Path, cosigner: Cosigner, seed: bytes) -> Self:
        """Make the folder of a new witness; ``seed`` is the cosigner's.

        :raises UsageError: there is a witness already.
        """
        create_seed(folder / _KEY, seed)
        (folder / "logs").mkdir(mode=0o700)
        write_durably(folder / _PUBLIC, f"{cosigner.key}\n".encode())
        return cls(folder, cosigner)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a witness's folder.

        :raises UsageError: it isn't one, or others can read the key. :raises WitnessStoreError: key and name don't fit.
        """
        try:
            public = CosignerKey.parse(read_at_most(folder / _PUBLIC, MAX_BYTES).decode("utf-8", "replace").strip())
        except FileNotFoundError:
            raise UsageError(
                f"`{folder}` isn't a witness's folder", remedy="make one: strongroom audit witness init"
            ) from None
        cosigner = Cosigner.from_seed(public.name, public.kind, read_seed(folder / _KEY))
        if cosigner.key != public:
            raise WitnessStoreError("the witness's key isn't the one that `witness.pub` names", remedy=_REMEDY)
        return cls(folder, cosigner)

    def lock(self) -> None:
        """Keep every other process from cosigning out of this folder, until this one ends.

        :raises ConflictError: one does.
        """
        self._lock = os.open(self._folder / _KEY, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise ConflictError("another process cosigns out of this folder") from None

    def follow(self, keys: tuple[LogKey, ...]) -> str:
        """Begin to follow the log that ``keys`` name; returns its origin.

        :raises UsageError: the keys are of several logs. :raises ConflictError: the log is followed already.
        """
        origins = {key.name for key in keys}
        if len(origins) != 1:
            raise UsageError("the keys must be those of one log")
        origin = origins.pop()
        place = self._place(origin)
        try:
            place.mkdir(mode=0o700)
        except FileExistsError:
            raise ConflictError(f"the log `{origin}` is followed already") from None
        write_durably(place / "keys", "".join(f"{key}\n" for key in keys).encode())
        write_durably(place / "checkpoint", _NOTHING_YET)
        sync_folder(place.parent)
        return origin

    def logs(self) -> Iterator[Followed]:
        """Read every followed log, checking the kept checkpoint against the log's keys and the witness's own.

        :raises WitnessStoreError: a file is gone, or isn't what this witness wrote.
        """
        for place in sorted((self._folder / "logs").iterdir()):
            try:
                yield self._read_log(place)
            except FileNotFoundError:
                raise WitnessStoreError("a file of a followed log is gone", remedy=_REMEDY) from None
            except WitnessStoreError:
                raise
            except StrongroomError as error:
                raise WitnessStoreError(
                    f"what the witness keeps of a log is damaged: {error.message}", remedy=_REMEDY
                ) from None

    def keep(self, origin: str, note: bytes) -> None:
        """Make the cosigned note of a log durable, in the place of the one before.

        :raises UnavailableError: the disk refused; nothing may be cosigned until the folder is opened again.
        """
        try:
            write_durably(self._place(origin) / "checkpoint", note)
        except OSError:
            raise UnavailableError("the witness can't write what it cosigns") from None

    def _read_log(self, place: Path) -> Followed:
        lines = read_at_most(place / "keys", MAX_BYTES).decode("utf-8", "replace").splitlines()
        keys = tuple(read_log_key(line) for line in lines)
        if not keys or any(origin_hash(key.name) != place.name for key in keys):
            raise WitnessStoreError("the keys of a followed log aren't the ones of its folder", remedy=_REMEDY)
        origin, data = keys[0].name, read_at_most(place / "checkpoint", MAX_BYTES)
        if data == _NOTHING_YET:
            return Followed(origin, keys, b"", None, 0)
        note = Note.parse(data)
        latest = signed_checkpoint(note, keys)
        own = read_cosignatures(note, latest, (self.cosigner.key,))
        if not own:
            raise WitnessStoreError(f"the kept checkpoint of `{origin}` isn't cosigned by this witness", remedy=_REMEDY)
        return Followed(origin, keys, data, latest, own[0].at)

    def _place(self, origin: str) -> Path:
        return self._folder / "logs" / origin_hash(origin)
