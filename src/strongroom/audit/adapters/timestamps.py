"""Timestamps beside a published log: ``timestamps/<size>.checkpoint``, ``.tsq`` (request) and ``.tsr`` (answer)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import TimestampError
from strongroom.audit.note import MAX_BYTES, Note
from strongroom.core.adapters.durable import write_durably
from strongroom.core.errors import ConflictError, NotFoundError

FOLDER: Final = "timestamps"
_NAME: Final = re.compile(r"(0|[1-9][0-9]{0,18})\.tsr")


class TimestampFolder:
    """The timestamps of one log. Never trusted, so never large."""

    def __init__(self, log: Path) -> None:
        self._folder = log / FOLDER

    def begin(self, size: int, checkpoint: bytes, request: bytes) -> Path:
        """Keep a checkpoint that is about to be stamped, and its request; returns the request's path.

        :raises ConflictError: a checkpoint of this size is stamped already.
        """
        if self._path(size, "tsr").exists():
            raise ConflictError(f"the checkpoint of {size} entries is stamped already")
        self._folder.mkdir(mode=0o755, exist_ok=True)
        write_durably(self._path(size, "checkpoint"), checkpoint)
        write_durably(self._path(size, "tsq"), request)
        return self._path(size, "tsq")

    def checkpoint(self, size: int) -> bytes:
        """Return the checkpoint of a size that was to be stamped.

        :raises NotFoundError: there is none. :raises MalformedError: not a checkpoint.
        :raises TimestampError: it is of another size: the stamp of a shorter log, under a longer one's name.
        """
        data = self._read(size, "checkpoint")
        if Checkpoint.parse_text(Note.parse(data).text).size != size:
            raise TimestampError(f"`{FOLDER}/{size}.checkpoint` is of another size")
        return data

    def request(self, size: int) -> bytes:
        """Return the request over the checkpoint of a size.

        :raises NotFoundError: there is none.
        """
        return self._read(size, "tsq")

    def response(self, size: int) -> bytes:
        """Return the authority's answer for a size.

        :raises NotFoundError: there is none.
        """
        return self._read(size, "tsr")

    def finish(self, size: int, response: bytes) -> None:
        """Keep the authority's answer, which the caller verified."""
        write_durably(self._path(size, "tsr"), response)
        self._path(size, "tsq").unlink(missing_ok=True)

    def stamped(self) -> Iterator[int]:
        """Return the sizes that were stamped, smallest first."""
        names = (_NAME.fullmatch(path.name) for path in self._folder.glob("*.tsr"))
        yield from sorted(int(name[1]) for name in names if name)

    def _path(self, size: int, kind: str) -> Path:
        return self._folder / f"{size}.{kind}"

    def _read(self, size: int, kind: str) -> bytes:
        try:
            with self._path(size, kind).open("rb") as file:
                return file.read(MAX_BYTES + 1)
        except OSError:
            raise NotFoundError(
                f"there is no `{FOLDER}/{size}.{kind}` beside the log",
                remedy="ask for a timestamp first: strongroom audit timestamp request",
            ) from None
