"""S3 by moto, on this machine, behind a gate that refuses what moto lets through and the service doesn't.

moto lets anybody shorten a COMPLIANCE lock or turn it into another mode, suspends the versions of a bucket with object
lock, and takes bodies that aren't their checksum. A test that believed it would prove too much.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Self
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

_LOCKED = "HTTP_X_AMZ_OBJECT_LOCK_MODE"
_CONDITIONS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH")


class StrictS3:
    """The server. ``refused`` answers a method and key, while it's there, with a status and code instead.

    ``asked`` lists method and path in the order of their coming. ``conditions`` off makes a store that ignores
    conditional writes, ``locks`` off one that drops the lock's headers.
    """

    def __init__(self) -> None:
        self.refused: Callable[[str, str], tuple[int, str] | None] = lambda _method, _path: None
        self.asked: list[tuple[str, str]] = []
        self.conditions = True
        self.locks = True
        self._moto: Any = DomainDispatcherApplication(create_backend_app)
        self._guard = threading.Lock()
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        self.asked.append((method, path))
        refused = self.refused(method, path) or self._refusal(method, environ, body)
        if refused is not None:
            status, code = refused
            text = f"<Error><Code>{code}</Code><Message>made to fail</Message></Error>".encode()
            start(f"{status} Refused", [("Content-Type", "application/xml"), ("Content-Length", str(len(text)))])
            return [text]
        if not self.conditions:
            for name in _CONDITIONS:
                environ.pop(name, None)
        if not self.locks:
            environ.pop(_LOCKED, None)
            environ.pop("HTTP_X_AMZ_OBJECT_LOCK_RETAIN_UNTIL_DATE", None)
        # moto looks and writes in two steps; the service's conditional writes are one.
        with self._guard:
            answer: Iterable[bytes] = self._moto(environ, start)
            return list(answer)

    def _refusal(self, method: str, environ: dict[str, Any], body: bytes) -> tuple[int, str] | None:
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        if method != "PUT":
            return None
        if "retention" in query or "legal-hold" in query:
            return 403, "AccessDenied"
        if "versioning" in query and b"Suspended" in body:
            return 409, "InvalidBucketState"
        stated = environ.get("HTTP_X_AMZ_CHECKSUM_SHA256")
        if stated is not None and stated != base64.b64encode(hashlib.sha256(body).digest()).decode():
            return 400, "BadDigest"
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
