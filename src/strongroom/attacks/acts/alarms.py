"""Who cries wolf: alarms that are made up, so that the responder stops the wrong thing, or nobody listens any more."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from typing import Final

from strongroom.attacks.attack import attack
from strongroom.attacks.ending import RefusedError
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.detection.sensors.reading import Event
from strongroom.detection.sensors.tokens import read_canarytoken
from strongroom.responder.adapters.webhook import Webhook

ALARM: Final = json.dumps(
    {"memo": "backup-credential", "manage_url": "https://tokens.invalid/manage", "token": "t", "src_ip": "192.0.2.1"}
).encode()
_SECONDS: Final = 10


async def _told(secret: str, path: str, body: bytes, method: str) -> list[Event]:
    """Start a responder's webhook, post to it, and return what it took."""
    taken: list[Event] = []
    webhook = Webhook("tokens", secret, read_canarytoken, taken.append, lambda: None)
    await webhook.start("127.0.0.1:0")
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", webhook.port)
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: w\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await asyncio.wait_for(reader.read(), _SECONDS)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    finally:
        await webhook.stop()
    if not taken:
        raise RefusedError(f"http-{answer[9:12].decode('ascii', 'replace')}")
    return taken


@attack(
    vectors="ACS-1",
    capacity="OC3",
    measures="SL2-WMO-01 SL3-WMO-01",
    layer=Layer.WEBHOOKS,
    refusals="http-404 http-405 http-400",
)
def forged_alarm(trial: Trial) -> None:
    """Somebody who doesn't know the secret path tells the responder that a decoy's credential was used."""
    secret = secrets.token_urlsafe(32)

    def post(path: str, body: bytes = ALARM, method: str = "POST") -> object:
        return asyncio.run(_told(secret, path, body, method))

    with trial.honest("at the secret path it is taken"):
        post(f"/{secret}")
    for path in ("/", f"/{secret[:-1]}", f"/{secret}/", f"/{secrets.token_urlsafe(32)}"):
        trial.attempt("a guessed path", lambda p=path: post(p))  # type: ignore[misc]
    trial.attempt("another method", lambda: post(f"/{secret}", method="PUT"))
    trial.attempt("half a body", lambda: post(f"/{secret}", ALARM[: len(ALARM) // 2]))
