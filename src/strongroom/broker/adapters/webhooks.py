"""Webhooks outside: the list, secrets and places on disk, and HTTP to receivers that are trusted with nothing.

The receiver's name is resolved here and the connection goes to the address that was checked, under the name's own
certificate: a name that resolves otherwise a moment later leads nowhere else. No redirect is followed, no proxy taken
from the environment, and of an answer only its status counts.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

import httpx2

from strongroom.broker.outbox import Failure
from strongroom.broker.webhooks import (
    MAX_FILE,
    MAX_SECRET_TEXT,
    Message,
    NotTakenError,
    Target,
    Webhook,
    WebhookConfigError,
    check_address,
    read_secret,
    read_webhooks,
    signed_headers,
    webhook_name,
)
from strongroom.core.adapters.alone import alone
from strongroom.core.adapters.durable import write_durably
from strongroom.core.adapters.reading import state_of
from strongroom.core.canonical import encode, parse
from strongroom.core.clock import Clock
from strongroom.core.errors import MalformedError
from strongroom.core.fields import reading
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.outside import believing, why_unreached

LIST: Final = "webhooks.toml"
FOLDER: Final = "webhooks"
LOCK: Final = "webhooks.lock"
CONNECT_SECONDS: Final = 5.0
SEND_SECONDS: Final = 15.0
REST_SECONDS: Final = 1.0
MAX_ANSWER: Final = 1024
_AGAIN: Final = frozenset({408, 425, 429})
MAX_AUTHORITY: Final = 1 << 20


class WebhookFiles:
    """``HOME/broker``: the list ``webhooks.toml``, and in ``webhooks/`` a secret and a place for each."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def alone(self) -> AbstractContextManager[None]:
        """Hold the list against other commands that change it."""
        return alone(self._folder / LOCK)

    def stamp(self) -> object:
        """Return something that differs whenever the list was replaced or changed."""
        try:
            found = (self._folder / LIST).stat()
        except OSError:
            return ()
        return state_of(found)

    def webhooks(self) -> tuple[Webhook, ...]:
        """Return the list; empty where there is no file.

        :raises WebhookConfigError: it can't be read.
        """
        path = self._folder / LIST
        return read_webhooks(self._read(path, MAX_FILE)) if path.exists() else ()

    def place(self, name: str) -> int | None:
        """Return the index of the last settled entry; None where none was kept.

        :raises WebhookConfigError: the file isn't one that was kept: beginning anywhere else would miss something.
        """
        path = self._place(name)
        if not path.exists():
            return None
        try:
            with reading(parse(self._read(path, MAX_ANSWER)), "place") as fields:
                return fields.integer("place")
        except MalformedError as error:
            raise WebhookConfigError(f"`{path.name}`: {error.message}", remedy="add the webhook again") from None

    def keep_place(self, name: str, place: int) -> None:
        """Keep the index of the last settled entry, durably."""
        replace_file(self._place(name), encode({"place": place}))

    def sender(self, webhook: Webhook) -> HttpSender:
        """Return what sends to a webhook.

        :raises WebhookConfigError: its secret or authority can't be read.
        """
        secret = read_secret(self._read(self._folder / webhook.secret, MAX_SECRET_TEXT).decode("ascii", "replace"))
        authority = None
        if webhook.authority is not None:
            authority = self._read(self._folder / webhook.authority, MAX_AUTHORITY).decode("ascii", "replace")
        return HttpSender(webhook.target, secret, trusting(authority), self._clock)

    def _place(self, name: str) -> Path:
        return self._folder / FOLDER / f"{webhook_name(name)}.place"

    @staticmethod
    def _read(path: Path, most: int) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(most + 1)
        except OSError as error:
            raise WebhookConfigError(f"`{path.name}` can't be read ({type(error).__name__})") from None
        if len(data) > most:
            raise WebhookConfigError(f"`{path.name}` is larger than {most} bytes")
        return data


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file whole and durably, readable by its owner alone; its folder is made where it's missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, data)


def trusting(authority: str | None) -> ssl.SSLContext:
    """Return a context that believes one authority (PEM), or the system's.

    :raises WebhookConfigError: no certificates.
    """
    try:
        return believing(pem=authority)
    except (OSError, ValueError):
        raise WebhookConfigError("a webhook's authority isn't a file of PEM certificates") from None


class HttpSender:
    """Sends to one receiver; every try is a new connection."""

    def __init__(self, target: Target, secret: SecretBytes, context: ssl.SSLContext, clock: Clock) -> None:
        self._target = target
        self._secret = secret
        self._context = context
        self._clock = clock

    async def send(self, message: Message) -> None:
        """Send a message once.

        :raises NotTakenError: no answer in time, or another than 2xx. :raises AddressRefusedError: before anything
            is sent.
        """
        try:
            async with asyncio.timeout(SEND_SECONDS):
                status = await self._post(message, await self._address())
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            # The text may quote what the other side sent; its type says enough.
            raise NotTakenError(f"no answer ({why_unreached(error)})", reason=Failure.UNREACHABLE.value) from None
        if not 200 <= status < 300:
            about_this = 400 <= status < 500 and status not in _AGAIN
            failure = Failure.REFUSED if about_this else Failure.UNREACHABLE
            raise NotTakenError(f"the receiver answered with status {status}", reason=failure.value)

    async def _address(self) -> str:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self._target.host, self._target.port, type=socket.SOCK_STREAM)
        addresses = [str(address[0]) for *_rest, address in found]
        for address in addresses:
            # All of them: which one is taken must not decide whether it is allowed.
            check_address(address, self._target)
        if not addresses:
            raise NotTakenError("the host has no address", reason=Failure.UNREACHABLE.value)
        return addresses[0]

    async def _post(self, message: Message, address: str) -> int:
        target = self._target
        host = target.origin.partition("://")[2]
        url = httpx2.URL(
            scheme="https" if target.secure else "http",
            host=address,
            port=target.port,
            raw_path=target.path.encode(),
        )
        headers = {
            "host": host.removesuffix(":443" if target.secure else ":80"),
            "content-type": "application/json",
            "user-agent": "strongroom",
            "accept-encoding": "identity",
            "connection": "close",
            **signed_headers(message, self._secret, self._clock.now()),
        }
        async with (
            httpx2.AsyncClient(
                verify=self._context,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx2.Timeout(SEND_SECONDS, connect=CONNECT_SECONDS),
            ) as client,
            client.stream(
                "POST", url, content=message.body, headers=headers, extensions={"sni_hostname": target.host}
            ) as answer,
        ):
            await _rest(answer)
            return answer.status_code


async def _rest(answer: httpx2.Response) -> None:
    """Take a little of the body, so that a receiver isn't cut off while it says `ok`; its content is nobody's."""
    taken = 0
    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(REST_SECONDS):
            async for chunk in answer.aiter_raw():
                taken += len(chunk)
                if taken >= MAX_ANSWER:
                    return


def check_webhooks(files: WebhookFiles) -> None:
    """Check that the list, and all that it refers to, can be read.

    :raises StrongroomError: it can't: a broker that starts without telling anybody would look like a quiet one.
    """
    for webhook in files.webhooks():
        files.sender(webhook)
        files.place(webhook.name)
