"""Asking makers' public services over HTTP: bounded answers, patience where they ask for it, no other host.

Nothing that comes back is believed. It is checked like any collateral that somebody hands in, so a service that lies
can only be useless. The environment's proxies are used: such machines often have no other way out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self

import httpx2

from strongroom.core.errors import MalformedError, NotFoundError, UnavailableError

CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
MAX_ANSWER: Final = 4 * 1024 * 1024
MAX_REDIRECTS: Final = 3
ATTEMPTS: Final = 4
MOST_WAIT: Final = 60.0
"""Seconds that a service may ask to be left alone; beyond it's better to come back later."""
_AGAIN: Final = frozenset({0, 429, 500, 502, 503, 504})
_ELSEWHERE: Final = frozenset({301, 302, 303, 307, 308})
_NOT_THERE: Final = frozenset({404, 410})


class NotPublishedError(NotFoundError):
    """The maker publishes nothing of this name."""

    code = "not-published"


class MakerUnavailableError(UnavailableError):
    """A maker's service can't be reached, or refuses."""

    code = "maker-unavailable"


@dataclass(frozen=True, slots=True)
class MakerAnswer:
    """What a service sent."""

    data: bytes
    headers: Mapping[str, str]
    """Names in lower case."""


class MakerClient:
    """Calls one service. A context manager."""

    def __init__(self, base_url: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._base = httpx2.URL(base_url)
        self._client = httpx2.Client(
            base_url=base_url,
            follow_redirects=False,
            timeout=httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            # Unpacking could turn a small answer into a huge one.
            headers={"Accept-Encoding": "identity", "User-Agent": "strongroom"},
        )

    def get(self, path: str, query: Mapping[str, str | int] | None = None) -> MakerAnswer:
        """Get what stands at ``path``.

        :raises NotPublishedError: there is nothing.
        :raises MakerUnavailableError: no answer, not after patience, another refusal, or a redirect to another host.
        :raises MalformedError: the answer is too large.
        """
        return self._asked(self._client.build_request("GET", path, params=query))

    def post(self, path: str, body: bytes, media_type: str) -> MakerAnswer:
        """Post a body; raises as :meth:`get` does."""
        return self._asked(self._client.build_request("POST", path, content=body, headers={"Content-Type": media_type}))

    def _asked(self, request: httpx2.Request) -> MakerAnswer:
        redirects, attempt = 0, 1
        while True:
            status, answer = self._once(request)
            if status in _ELSEWHERE and redirects < MAX_REDIRECTS:
                redirects += 1
                request = self._moved(request, answer)
            elif status in _AGAIN and attempt < ATTEMPTS:
                self._sleep(_patience(answer, attempt))
                attempt += 1
            elif 200 <= status < 300:
                return answer
            elif status in _NOT_THERE:
                raise NotPublishedError(f"`{self._base.host}` publishes nothing at `{request.url.path[:200]}`")
            else:
                told = f"answered {status}" if status else "can't be reached"
                raise MakerUnavailableError(
                    f"`{self._base.host}` {told}, asked {attempt} times",
                    remedy="try again later, or see whether this machine reaches it",
                )

    def _once(self, request: httpx2.Request) -> tuple[int, MakerAnswer]:
        """Ask once; status 0 and nothing when there was no answer, which is asked for again like a busy one."""
        try:
            answer = self._client.send(request, stream=True)
            try:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return answer.status_code, MakerAnswer(self._bounded(answer), headers)
            finally:
                answer.close()
        except (httpx2.HTTPError, httpx2.InvalidURL):
            return 0, MakerAnswer(b"", {})

    def _bounded(self, answer: httpx2.Response) -> bytes:
        data = bytearray()
        for chunk in answer.iter_raw():
            data += chunk
            if len(data) > MAX_ANSWER:
                raise MalformedError(f"an answer of `{self._base.host}` is longer than {MAX_ANSWER} bytes")
        return bytes(data)

    def _moved(self, request: httpx2.Request, answer: MakerAnswer) -> httpx2.Request:
        try:
            target = request.url.join(answer.headers.get("location", ""))
        except httpx2.InvalidURL:
            target = httpx2.URL("")
        # Elsewhere could be this machine, or a cloud's metadata service.
        if (target.scheme, target.host, target.port) != (self._base.scheme, self._base.host, self._base.port):
            raise MakerUnavailableError(f"`{self._base.host}` sends to another host, which isn't followed")
        return self._client.build_request("GET", target)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _patience(answer: MakerAnswer, attempt: int) -> float:
    """Return how many seconds to wait: what the service asks for, or one, two, four."""
    asked = answer.headers.get("retry-after", "")
    if asked.isascii() and asked.isdecimal() and len(asked) < 6:
        return min(float(asked), MOST_WAIT)
    return float(2 ** (attempt - 1))
