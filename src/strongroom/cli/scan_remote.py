"""A search's files where they lie in a storage of objects, through fsspec."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.core.errors import StrongroomError
from strongroom.intake.adapters.scan_tree import Met, Small, Unread
from strongroom.intake.copies.elements import LEAST
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.loaders.remote import Prefix, resolve


class RemoteFile:
    """One object, read by ranges."""

    found = None
    """A storage says nothing of who may read."""

    def __init__(self, prefix: Prefix, key: str, size: int) -> None:
        self._prefix, self._key, self.size = prefix, key, size
        self.name = prefix.place.rstrip("/") + "/" + key

    def read(self, offset: int, length: int) -> bytes:
        """Return the bytes.

        :raises IntakeRefusedError: digest-mismatch, where the storage refuses or gives less.
        """
        if not length:
            return b""
        try:
            data = self._prefix.get(self._key, offset, offset + length)
        except (StrongroomError, FileNotFoundError) as error:
            why = error.message if isinstance(error, StrongroomError) else "it vanished"
            raise IntakeRefusedError(Rule.DIGEST_MISMATCH, f"an object can't be read: {why}") from None
        if len(data) != length:
            raise IntakeRefusedError(Rule.DIGEST_MISMATCH, "an object changed while it was read")
        return data


def remote_files(address: str, leave_out: Sequence[str]) -> Iterator[Met]:
    """Yield all objects below an address, in the order of their names, but those at or below one that is left out.

    :raises StrongroomError: the address isn't one, or the storage refuses to list.
    """
    prefix = resolve(address)
    out = tuple(resolve(one).path("") for one in leave_out)
    for key, size in sorted(prefix.sizes().items()):
        if prefix.path(f"{key}/").startswith(out):
            continue
        parts = tuple(key.split("/"))
        if size is None:
            yield Met(parts, Unread(key, "the storage doesn't say how large it is"))
        elif size < LEAST:
            yield Met(parts, Small(size))
        else:
            yield Met(parts, RemoteFile(prefix, key, size))
