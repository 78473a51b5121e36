"""The broker over HTTPS: TLS 1.3, both sides authenticated, one pinned authority, bounded answers, no redirects."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import httpx2

from strongroom.client.problems import problem_error
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.errors import MalformedError, UnavailableError
from strongroom.ipc.adapters.outside import why_unreached

MAX_ANSWER: Final = 16 << 20
"""Room for a deployment's state: one frame of the keeper's, and the documents in force."""
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 60.0


class HttpTransport:
    """Calls the broker. A context manager."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._url = url
        self._client = httpx2.Client(
            base_url=url,
            verify=context,
            # No proxy, netrc or authority out of the environment: the wallet alone says whom to trust.
            trust_env=False,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            # Unpacking could turn a small answer into a huge one.
            headers={"Accept": "application/json, application/problem+json", "Accept-Encoding": "identity"},
        )

    def call(self, method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None) -> Json:
        """Call and return the answer's JSON.

        :raises UnavailableError: nobody answered, or not in time; whether it happened is then unknown.
        :raises StrongroomError: what the deployment refused with.
        :raises MalformedError: the answer is too large, or no JSON.
        """
        sent = {"content": encode(body), "headers": {"Content-Type": "application/json"}} if body is not None else {}
        try:
            with self._client.stream(method, path, params=query, **sent) as answer:  # type: ignore[arg-type]  # a dict of two known arguments
                status, data = answer.status_code, _bounded(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UnavailableError(
                f"no answer from `{self._url}` ({why_unreached(error)})",
                remedy="see whether the deployment is up, and whether the wallet's address and certificates fit",
            ) from None
        if not 200 <= status < 300:
            raise problem_error(status, data)
        return parse(data, max_bytes=MAX_ANSWER)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def mutual_tls(*, authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a context that believes one authority and shows one certificate.

    Made by hand, not by ``create_default_context``: that one adds the system's authorities where none are given, and
    writes session keys wherever the environment's SSLKEYLOGFILE says.

    :raises MalformedError: a file isn't what its name says.
    """
    context = one_sided_tls(authority=authority)
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError):
        raise _unusable() from None
    return context


def one_sided_tls(*, authority: Path) -> ssl.SSLContext:
    """Return a context that believes one authority and shows no certificate: for who is about to get one.

    :raises MalformedError: the file isn't an authority's certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=authority)
    except (ssl.SSLError, OSError):
        raise _unusable() from None
    return context


def _unusable() -> MalformedError:
    return MalformedError(
        "the wallet's TLS files can't be loaded",
        remedy="log in again, or get new ones: strongroom people certify, on the server",
    )


def _bounded(answer: httpx2.Response) -> bytes:
    data = bytearray()
    for chunk in answer.iter_raw():
        data += chunk
        if len(data) > MAX_ANSWER:
            raise MalformedError(f"the deployment's answer is longer than {MAX_ANSWER} bytes")
    return bytes(data)
