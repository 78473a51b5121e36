"""Receivers of incidents, told until they took it: PagerDuty, Alertmanager's webhook form, and signed webhooks.

What is sent is how an incident stands, not what happened one by one: of a flood of changes a receiver gets the newest,
at most one every :data:`REST_SECONDS`. How far each was told is on the disk, so a message is lost by no restart; it
may come twice, under the same id.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from strongroom.broker.adapters.webhooks import HttpSender, trusting
from strongroom.broker.outbox import GIVE_UP_SECONDS, backoff
from strongroom.broker.webhooks import MAX_SECRET_TEXT, Message, NotTakenError, WebhookConfigError, read_secret
from strongroom.core.adapters.reading import read_at_most
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.responder.cases import Case
from strongroom.responder.response_settings import Form, Receiver
from strongroom.response.exports import alertmanager_body, pagerduty_event, webhook_body
from strongroom.response.incident import Incident

REST_SECONDS: Final = 5.0
MAX_AUTHORITY: Final = 1 << 20
_log = structlog.get_logger("strongroom.responder")


class Sends(Protocol):
    """Sends a message once.

    :raises StrongroomError: it wasn't taken.
    """

    async def send(self, message: Message) -> None:
        """Send it."""
        ...


@dataclass(frozen=True, kw_only=True)
class Line:
    """One receiver, and the way to it. ``routing_key`` is PagerDuty's; None for other forms."""

    receiver: Receiver
    sender: Sends
    routing_key: SecretBytes | None = None


def open_line(receiver: Receiver, clock: Clock) -> Line:
    """Return the way to a receiver.

    :raises WebhookConfigError: its secret or authority can't be read.
    """
    text = _read(receiver.secret, MAX_SECRET_TEXT).strip()
    authority = None if receiver.authority is None else _read(receiver.authority, MAX_AUTHORITY)
    if receiver.form is Form.PAGERDUTY:
        # PagerDuty knows the sender by the key in the body; the signature's key is that, too, for whoever checks it.
        key = SecretBytes(bytearray(text.encode()))
        return Line(
            receiver=receiver,
            sender=HttpSender(receiver.target, SecretBytes(bytearray(text.encode())), trusting(authority), clock),
            routing_key=key,
        )
    return Line(receiver=receiver, sender=HttpSender(receiver.target, read_secret(text), trusting(authority), clock))


class Teller:
    """Tells all receivers. Nothing that waits for one of them holds anything else up."""

    def __init__(
        self,
        lines: Sequence[Line],
        *,
        genesis: Digest,
        source: str,
        clock: Clock,
        rest: float = REST_SECONDS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._lines = {line.receiver.name: line for line in lines}
        self._genesis = genesis
        self._source = source
        self._clock = clock
        self._rest = rest
        self._chance = chance
        self._wanted: dict[tuple[str, str], int] = {}
        self._sending: dict[tuple[str, str], asyncio.Task[None]] = {}

    def tell(self, case: Case) -> None:
        """Begin to tell every receiver how an incident stands."""
        for name, line in self._lines.items():
            place = name, case.id
            if case.told.get(name, 0) >= case.incident.size:
                continue
            self._wanted[place] = case.incident.size
            task = self._sending.get(place)
            if task is None or task.done():
                self._sending[place] = asyncio.get_running_loop().create_task(self._send(line, case))

    def told(self, case: Case) -> bool | None:
        """Tell whether any receiver took this incident; None where there is none."""
        return any(case.told.get(name) for name in self._lines) if self._lines else None

    async def close(self) -> None:
        """Let go of what is under way; the next start goes on with it."""
        tasks = [*self._sending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, line: Line, case: Case) -> None:
        name, attempts, began = line.receiver.name, 0, self._clock.now()
        while case.told.get(name, 0) < self._wanted[name, case.id]:
            seen = case.incident.size
            try:
                await line.sender.send(self._message(line, case.incident))
                await case.was_told(name, seen)
            except StrongroomError as error:
                attempts += 1
                if self._clock.now() - began >= GIVE_UP_SECONDS:
                    _log.error("receiver given up", receiver=name, incident=case.id)
                    return
                if attempts == 1 or not isinstance(error, NotTakenError):
                    _log.warning("receiver not reached", receiver=name, incident=case.id, reason=error.reason)
                await asyncio.sleep(backoff(attempts, self._chance()))
            else:
                attempts, began = 0, self._clock.now()
                await asyncio.sleep(self._rest)
        del self._sending[name, case.id]

    def _message(self, line: Line, incident: Incident) -> Message:
        name = f"sr-{self._genesis.value[:8].hex()}-{incident.id}-{incident.size}"
        return Message(id=name, body=encode(self._body(line, incident)))

    def _body(self, line: Line, incident: Incident) -> Json:
        match line.receiver.form:
            case Form.PAGERDUTY:
                key = b"" if line.routing_key is None else line.routing_key.reveal(TOKEN)
                return {**pagerduty_event(incident, source=self._source), "routing_key": bytes(key).decode()}
            case Form.ALERTMANAGER:
                return alertmanager_body([incident], receiver=line.receiver.name, url=f"strongroom:{incident.id}")
            case Form.WEBHOOK:
                return webhook_body(incident, now=self._clock.now())


def _read(path: str, most: int) -> str:
    try:
        return read_at_most(Path(path), most).decode("ascii", "replace")
    except OSError as error:
        raise WebhookConfigError(f"`{Path(path).name}` can't be read ({type(error).__name__})") from None
    except MalformedError as error:
        raise WebhookConfigError(error.message) from None
