"""AWS KMS by moto, on this machine, behind a gate that refuses what moto lets through and the service doesn't.

moto encrypts under disabled keys and under keys whose deletion is scheduled, and ignores ``Recipient``, handing the
plaintext back in clear. A test that believed it would prove too much.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import Any, Self

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.kms.models import kms_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

REGION = "eu-central-1"
_BY_ID = frozenset({"DisableKey", "EnableKey", "ScheduleKeyDeletion"})
_USES = frozenset({"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey"})


class StrictKms:
    """The server. ``status`` answers everything with that status and code instead."""

    def __init__(self) -> None:
        self.status: tuple[int, str] | None = None
        self.asked: list[str] = []
        self._moto: Any = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def _serve(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        action = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        if action in _BY_ID:
            # moto looks these up by the bare id alone; the service takes the ARN too.
            body = json.dumps({**json.loads(body), "KeyId": json.loads(body)["KeyId"].rpartition("/")[2]}).encode()
            environ["CONTENT_LENGTH"] = str(len(body))
        environ["wsgi.input"] = BytesIO(body)
        self.asked.append(action)
        refused = self.status or (self._refusal(json.loads(body)) if action in _USES else None)
        if refused is None:
            answer: Iterable[bytes] = self._moto(environ, start)
            return answer
        status, code = refused
        text = json.dumps({"__type": code, "message": f"made to fail: {body.decode()}"}).encode()
        start(f"{status} Refused", [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(text)))])
        return [text]

    def _refusal(self, request: dict[str, Any]) -> tuple[int, str] | None:
        if "Recipient" in request:
            return 400, "UnsupportedOperationException"
        backend = kms_backends[DEFAULT_ACCOUNT_ID][REGION]
        key = backend.keys.get(str(request.get("KeyId", "")).rpartition("/")[2])
        if key is None:
            return 400, "NotFoundException"
        if key.deletion_date:
            return 400, "KMSInvalidStateException"
        return None if key.enabled else (400, "DisabledException")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
