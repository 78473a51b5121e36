"""The keeper's escrow, and the key with which it signs its offers while everything else is locked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.signature import SEED_BYTES, Ed25519Signer
from strongroom.keeper.adapters.files import read_own, replace_own

ESCROW_NAME: Final = "escrow.json"
NEXT_NAME: Final = "escrow-next.json"
UNLOCK_KEY_NAME: Final = "unlock.key"


class EscrowFile:
    """The escrow in force, perhaps one that isn't recorded yet, and the unlock key. All in the keeper's folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> Envelope | None:
        """Return the escrow in force.

        :raises MalformedError: the file is something else.
        """
        return self._read(ESCROW_NAME)

    def load_next(self) -> Envelope | None:
        """Return an escrow whose adoption perhaps isn't recorded."""
        return self._read(NEXT_NAME)

    def save(self, envelope: Envelope) -> None:
        """Put an escrow in force.

        :raises UnavailableError: the disk refuses; the old one stands.
        """
        replace_own(self._folder / ESCROW_NAME, envelope.to_bytes())

    def save_next(self, envelope: Envelope) -> None:
        """Keep an escrow beside the one in force, until its adoption is recorded.

        :raises UnavailableError: the disk refuses.
        """
        replace_own(self._folder / NEXT_NAME, envelope.to_bytes())

    def drop_next(self) -> None:
        """Forget the escrow beside the one in force."""
        (self._folder / NEXT_NAME).unlink(missing_ok=True)

    def unlock_signer(self) -> Ed25519Signer:
        """Return the unlock key.

        :raises UsageError: there is none, or others can read it.
        :raises MalformedError: the file is something else.
        """
        seed = read_own(self._folder / UNLOCK_KEY_NAME, most=SEED_BYTES)
        if seed is None:
            raise UsageError("the keeper has no unlock key", remedy="it is made with an escrow", reason="no-escrow")
        if len(seed) != SEED_BYTES:
            raise MalformedError(f"`{UNLOCK_KEY_NAME}` isn't an unlock key of {SEED_BYTES} bytes")
        return Ed25519Signer.from_seed(seed)

    def need_unlock_signer(self, random_bytes: Callable[[int], bytes]) -> Ed25519Signer:
        """Return the unlock key, made now if there is none."""
        if not (self._folder / UNLOCK_KEY_NAME).exists():
            replace_own(self._folder / UNLOCK_KEY_NAME, random_bytes(SEED_BYTES))
        return self.unlock_signer()

    def _read(self, name: str) -> Envelope | None:
        data = read_own(self._folder / name, most=2 * MAX_PAYLOAD)
        return None if data is None else Envelope.parse(data)
