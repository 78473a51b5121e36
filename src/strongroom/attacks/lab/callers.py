"""Connections to a broker: people's, enclaves', and those of who has no certificate or a wrong one."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.attacks.ending import RefusedError
from strongroom.broker.adapters.dev_ca import IssuedCertificate
from strongroom.core.canonical import Json

SECONDS: Final = 30.0
IDLE_SECONDS: Final = 10.0
"""A server hangs up on who says nothing for long; that must not look like a refusal."""
OK: Final = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer whose body is a JSON object; an empty one where it is something else."""

    status: int
    body: dict[str, Json]

    def done(self) -> dict[str, Json]:
        """Return what a good answer said.

        :raises RefusedError: it is a refusal; with the problem's code, or the status where it has none.
        """
        if self.status != OK:
            detail = str(self.body.get("detail", ""))[:200]
            raise RefusedError(str(self.body.get("code", f"http-{self.status}")), detail)
        return self.body


class Caller:
    """One connection with one certificate, or with none."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=SECONDS)
        self._used = time.monotonic()

    def call(self, method: str, path: str, body: Json = None, **headers: str) -> Answer:
        """Make one call. Connection errors come through as they are."""
        data = None if body is None else json.dumps(body).encode()
        told = {"content-type": "application/json"} if data is not None else {}
        if time.monotonic() - self._used > IDLE_SECONDS:
            self._connection.close()
        self._used = time.monotonic()
        try:
            self._connection.request(method, path, body=data, headers=told | headers)
            got = self._connection.getresponse()
            text = got.read()
        except ssl.SSLError as error:
            self.close()
            raise RefusedError("tls-refused", str(error)) from error
        except ConnectionRefusedError:
            # Nobody listens: that is no refusal of ours.
            self.close()
            raise
        except (http.client.HTTPException, ConnectionError) as error:
            # A server that asks for a certificate in TLS 1.3 says no after the handshake, by closing.
            self.close()
            raise RefusedError("hung-up", type(error).__name__) from error
        try:
            told_back = json.loads(text)
        except ValueError:
            told_back = None
        return Answer(got.status, told_back if isinstance(told_back, dict) else {})

    def get(self, path: str) -> Answer:
        """Get."""
        return self.call("GET", path)

    def post(self, path: str, body: Json = None) -> Answer:
        """Post."""
        return self.call("POST", path, body)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def trusting(authority: bytes, issued: IssuedCertificate | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts an authority (PEM), and shows a certificate if it has one."""
    context = ssl.create_default_context(cadata=authority.decode())
    if issued is not None:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = Path(folder) / "certificate", Path(folder) / "key"
            issued.save(certificate, key)
            context.load_cert_chain(certificate, key)
            os.truncate(key, 0)
    return context
