"""A published log on a web server, read file by file; never trusted, and never followed anywhere else."""

from __future__ import annotations

import time
from typing import Final

import httpx2

from strongroom.audit.hosting import HostAddress, headers_of
from strongroom.audit.tiles import MAX_FILE
from strongroom.core.errors import MalformedError, UnavailableError

SECONDS: Final = 10.0
FILE_SECONDS: Final = 120.0
"""How long a file may take, however steadily it drips: the largest one takes 140 KB a second."""
ATTEMPTS: Final = 4
_FIRST_PAUSE: Final = 0.2
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_GONE: Final = frozenset({404, 410})


class HttpSource:
    """Reads a log's files by ``GET``. Picklable: each process connects by itself."""

    def __init__(self, address: HostAddress) -> None:
        self.address = address
        self._client: httpx2.Client | None = None

    def __reduce__(self) -> tuple[type[HttpSource], tuple[HostAddress]]:
        return HttpSource, (self.address,)

    def read(self, path: str) -> bytes | None:
        """Return a file's bytes, or None where there is none.

        :raises MalformedError: ``path`` isn't a path of the log's layout, or the answer is longer than a log's files.
        :raises UnavailableError: no answer after a few tries, or another one than the file.
        """
        headers_of(path)
        pause = _FIRST_PAUSE
        for left in reversed(range(ATTEMPTS)):
            try:
                status, data = self._get(path)
            except httpx2.HTTPError:
                status, data = 0, b""
            if status == 200:
                return data
            if status in _GONE:
                return None
            if status and status not in _AGAIN:
                raise UnavailableError(f"the log's host answered {status}", remedy="look at the address")
            if left:
                time.sleep(pause)
                pause *= 2
        raise UnavailableError("the log's host doesn't answer", remedy="try again later")

    def _get(self, path: str) -> tuple[int, bytes]:
        if self._client is None:
            # No proxy and no netrc from the environment; a host that points elsewhere isn't followed.
            # Nothing compressed: a small answer could unfold to any length.
            identity = {"Accept-Encoding": "identity"}
            self._client = httpx2.Client(trust_env=False, follow_redirects=False, timeout=SECONDS, headers=identity)
        address = self.address
        url = f"{address.scheme}://{address.place}/{address.path_of(path)}"
        data, until = bytearray(), time.monotonic() + FILE_SECONDS
        with self._client.stream("GET", url) as answer:
            if answer.status_code == 200:
                for chunk in answer.iter_raw():
                    data += chunk
                    if len(data) > MAX_FILE:
                        raise MalformedError(f"`{path}` at the log's host is longer than any file of a log")
                    if time.monotonic() > until:
                        raise UnavailableError("the log's host answers too slowly", remedy="try again later")
            return answer.status_code, bytes(data)
