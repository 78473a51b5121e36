"""Where exported records go: a file that is synced before the cursor moves, standard output, an HTTP receiver."""

from __future__ import annotations

import fcntl
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final, Self
from urllib.parse import urlsplit

import httpx2

from strongroom.audit.export.delivery import MAX_ANSWER, Answer
from strongroom.audit.export.record import Body, Format, Record
from strongroom.core.adapters.durable import sync_folder
from strongroom.core.errors import ConflictError, MalformedError, UsageError
from strongroom.ipc.adapters.outside import believing

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 30.0
MAX_HEADERS: Final = 16
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TAIL: Final = 1 << 20


class FileSink:
    """Appends to a file. A line that a crash cut short is taken back first; its batch is written again.

    :raises ConflictError: another process has it open to append.
    """

    def __init__(self, path: Path, written: Format) -> None:
        self._format = written
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(handle, "r+b", buffering=0)
        # Two exports into one file would take each other's half-written lines back, and write over what follows.
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise ConflictError(f"another export writes `{path.name}`") from None
        size = self._whole_lines()
        self._file.truncate(size)
        self._file.seek(size)
        if size == 0 and written.opening:
            self._append(written.opening)
        sync_folder(path.absolute().parent)

    def take(self, records: tuple[Record, ...]) -> None:
        """Append lines, and sync them."""
        self._append(self._format.lines(records))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        os.fsync(self._file.fileno())

    def _whole_lines(self) -> int:
        end = self._file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _TAIL)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0


class StreamSink:
    """Writes to a stream, say standard output; how safe it is there is up to whoever reads it."""

    def __init__(self, stream: BinaryIO, written: Format) -> None:
        self._stream = stream
        self._format = written
        self._opening = written.opening

    def take(self, records: tuple[Record, ...]) -> None:
        """Write lines, and flush them."""
        self._stream.write(self._opening + self._format.lines(records))
        self._stream.flush()
        self._opening = b""

    def close(self) -> None:
        """Leave the stream open: it isn't ours."""


class HttpPost:
    """Posts bodies to one address; a context manager. Follows no redirect, and asks the environment for nothing."""

    def __init__(self, url: str, headers: Mapping[str, str], authority: Path | None) -> None:
        self._url = receiver_url(url)
        self._headers = dict(headers)
        self._client = httpx2.Client(
            verify=_tls(authority),
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            headers={"Accept-Encoding": "identity"},
        )

    def __call__(self, body: Body) -> Answer:
        """Send a body and return what came of it."""
        headers = {**self._headers, "Content-Type": body.content_type}
        try:
            with self._client.stream("POST", self._url, content=body.data, headers=headers) as answer:
                data = _bounded(answer)
                if data is None:
                    # It may say what was left out: unread, it is no yes.
                    return Answer(answer.status_code if answer.status_code >= 300 else 0)
                return Answer(answer.status_code, data, _retry_after(answer))
        except httpx2.HTTPError:
            return Answer(0)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def receiver_url(url: str) -> str:
    """Check a receiver's address: HTTPS, or HTTP to this machine; no password in it.

    :raises UsageError: another one.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    secure = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not host or not secure or "@" in parts.netloc or "#" in url or not url.isascii() or not url.isprintable():
        raise UsageError(
            "a receiver's address is like `https://host/path`; HTTP goes to this machine only",
            remedy="what is secret goes into a file that --headers names",
        )
    return url


def read_headers(path: Path) -> dict[str, str]:
    """Read a file of HTTP headers, ``Name: value`` a line: how a receiver's token is given without a command line.

    :raises UsageError: others may read it. :raises MalformedError: not headers.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        data = file.read(MAX_ANSWER)
    if found.st_mode & 0o077 or found.st_uid != os.geteuid():
        raise UsageError(f"`{path.name}` must belong to this user alone", remedy=f"chmod 600 {path.name}")
    return parse_headers(data)


def parse_headers(data: bytes) -> dict[str, str]:
    """Read headers, one a line.

    :raises MalformedError: anything else, without repeating it: it may be a secret.
    """
    headers: dict[str, str] = {}
    wrong = MalformedError(f"a file of headers has `Name: value` on each of at most {MAX_HEADERS} lines")
    try:
        lines = [line for line in data.decode("ascii").splitlines() if line]
    except UnicodeDecodeError:
        raise wrong from None
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.replace("-", "").isalnum() or not value.strip().isprintable() or not value.strip():
            raise wrong
        headers[name] = value.strip()
    if len(lines) > MAX_HEADERS or len(headers) < len(lines):
        raise wrong
    return headers


def _tls(authority: Path | None) -> ssl.SSLContext:
    try:
        return believing(file=authority)
    except OSError:
        raise MalformedError("the authority's file holds no certificates") from None


def _bounded(answer: httpx2.Response) -> bytes | None:
    data = bytearray()
    for chunk in answer.iter_raw():
        data += chunk
        if len(data) > MAX_ANSWER:
            return None
    return bytes(data)


def _retry_after(answer: httpx2.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else None
