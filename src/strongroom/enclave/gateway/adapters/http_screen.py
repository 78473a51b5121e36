"""A screen that answers over HTTP: one question, one bounded answer, within its time. Whatever else happens, it blocks.

``POST`` ``{"v": 1, "direction": "input", "principal": "...", "text": "..."}`` is answered by
``{"v": 1, "ruling": "allow"}`` or ``{"v": 1, "ruling": "flag" | "block", "category": "..."}``.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

import httpx2

from strongroom.core import canonical
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.enclave.gateway.screen_settings import HttpScreenSettings
from strongroom.enclave.gateway.screens import Category, Direction, Passage, Ruling, ScreenUnavailableError, Verdict
from strongroom.ipc.adapters.outside import believing

MAX_ANSWER: Final = 4096
_MAX_TOKEN: Final = 4096
_MAX_CONNECTIONS: Final = 64


def read_verdict(data: bytes) -> Verdict:
    """Read a screen's answer.

    :raises MalformedError: another form.
    """
    with Fields(canonical.parse(data, max_bytes=MAX_ANSWER), "verdict") as fields:
        fields.constant("v", 1)
        ruling = fields.parsed("ruling", Ruling)
        return Verdict(ruling, fields.parsed("category", Category) if fields.optional("category") else None)


class HttpScreen:
    """One such service. Its connections are kept open."""

    def __init__(self, settings: HttpScreenSettings) -> None:
        """Make its client.

        :raises UsageError: a file that the settings name can't be read.
        """
        self._settings = settings
        headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "strongroom"}
        try:
            context = believing(file=settings.authority)
            if settings.token is not None:
                with settings.token.open() as file:
                    headers["authorization"] = f"Bearer {file.read(_MAX_TOKEN).strip()}"
        except (OSError, ValueError) as error:
            raise UsageError(f"a file of the screen `{settings.name}` can't be read: {type(error).__name__}") from None
        self._client = httpx2.AsyncClient(
            headers=headers,
            verify=context,
            follow_redirects=False,
            # A proxy from the environment would see what people ask, and could answer in the screen's place.
            trust_env=False,
            timeout=settings.milliseconds / 1000,
            limits=httpx2.Limits(max_connections=_MAX_CONNECTIONS),
        )

    @property
    def name(self) -> str:
        """What it is called."""
        return self._settings.name

    @property
    def directions(self) -> frozenset[Direction]:
        """What it is asked about."""
        return self._settings.directions

    async def judge(self, passage: Passage) -> Verdict:
        """Ask it.

        :raises ScreenUnavailableError: no answer in time, or none that is one.
        """
        question = {"v": 1, "direction": passage.direction, "principal": passage.principal, "text": passage.text}
        try:
            async with asyncio.timeout(self._settings.milliseconds / 1000):
                return read_verdict(await self._asked(json.dumps(question).encode()))
        except (httpx2.HTTPError, httpx2.StreamError, MalformedError, TimeoutError, OSError) as error:
            raise ScreenUnavailableError(f"the screen `{self.name}` can't say: {type(error).__name__}") from None

    async def _asked(self, question: bytes) -> bytes:
        async with self._client.stream("POST", self._settings.url, content=question) as answer:
            data = bytearray()
            if answer.status_code != 200:
                raise MalformedError("a screen answers with 200")
            async for part in answer.aiter_raw():
                data += part
                if len(data) > MAX_ANSWER:
                    raise MalformedError(f"a screen's answer has at most {MAX_ANSWER} bytes")
            return bytes(data)

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()
