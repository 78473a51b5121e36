"""Everything that the responder hears, put together: sockets, webhooks, the kernel's audit records, the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from strongroom.core.clock import uptime
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError
from strongroom.core.events import EventName
from strongroom.detection.adapters.audit_netlink import AuditRecords, AuditUnavailableError, unavailable
from strongroom.detection.engine import read_event
from strongroom.detection.matching import Value
from strongroom.detection.sensors.readers import READERS, reader_of
from strongroom.detection.sensors.reading import Event, Reader
from strongroom.responder.acting import Responder
from strongroom.responder.adapters.heart import BEAT_SECONDS, Heart
from strongroom.responder.adapters.line_socket import LineSocket
from strongroom.responder.adapters.log_tail import LogTail
from strongroom.responder.adapters.webhook import Webhook, read_secret
from strongroom.responder.deciding import Decider
from strongroom.responder.decoys import Decoys
from strongroom.responder.health import Health
from strongroom.responder.settings import AUDIT, DETECTOR, GUARD, ResponderSettings
from strongroom.responder.tailing import LOG, decoy_events, entry_event

LOOK_SECONDS: Final = 1.0
GUARD_SECONDS: Final = 5.0
LOG_SECONDS: Final = 30.0
"""How long nobody may show the log."""
MOST_AT_ONCE: Final = 256
SLICE: Final = 16
WEIGHTS_HOST: Final = "weights-host"
"""What rules call a host that holds sealed weights."""
_ABOUT_HOSTS: Final = frozenset({"host:login:opened", "host:process:started"})
_BEHIND: Final = frozenset({"log-forked", "log-behind"})
"""What the keeper says to a heartbeat whose log isn't its own, or is an old one."""

_log = structlog.get_logger("strongroom.responder")


def health_of(settings: ResponderSettings, *, guarding: bool) -> Health:
    """Return what remembers who was heard."""
    own = {LOG: LOG_SECONDS, **({GUARD: GUARD_SECONDS} if guarding else {})}
    return Health(settings.silences | own, uptime())


@dataclass(frozen=True, slots=True)
class Senses:
    """What the sensors have in common: who hears them, and the list of decoys that isn't theirs to know."""

    settings: ResponderSettings
    decoys: Decoys
    decider: Decider
    responder: Responder
    health: Health
    guarded: frozenset[str]
    """The decoys' paths."""
    noted: Callable[[Mapping[str, Value]], None] = lambda _entry: None
    """Hears of each entry that says how far an incident's record had come."""

    def own(self, event: str, **members: object) -> None:
        """Take an event of the detector itself."""
        self.responder.take({"event": event, "host": self.settings.host, "source": DETECTOR, **members}, DETECTOR)

    def heard(self, name: str) -> None:
        """Take that a sensor lives."""
        self.health.heard(name, uptime())

    def taken(self, event: Event, name: str) -> None:
        """Take a sensor's event. Whether a file is a decoy is on our list, and isn't for a sensor to say.

        :raises MalformedError: not an event, or about a host that this sensor may not speak for.
        """
        own, more = self.settings.host, dict[str, Value]()
        host = host_of(event, own, self.settings.hosts_of(name))
        if event["event"] == "host:file:opened":
            # Another host's file may be called as a decoy of ours is.
            more = {"decoy": host == own and event.get("path") in self.guarded}
        elif event["event"] in _ABOUT_HOSTS and self.settings.watched and host == own and _is_here(event, own):
            # What kind of host it is no sensor knows. Sealed files are watched here.
            more = {"role": WEIGHTS_HOST}
        self.responder.take({**event, **more, "host": host, "source": name}, name)


def _is_here(event: Mapping[str, Value], own: str) -> bool:
    # A sensor that counts for this host alone may speak of others, and nobody logged in here then.
    return str(event.get("host", own)).lower() == own


def host_of(event: Mapping[str, Value], own: str, hosts: Collection[str]) -> str:
    """Return the host that an event counts for.

    :param hosts: that its sensor may speak for, by its own word; none for a sensor of this host alone.
    :raises MalformedError: the sensor names another host than these, or none: it mustn't speak for one of them.
    """
    if not hosts:
        return own
    said = event.get("host")
    host = said.lower() if isinstance(said, str) else ""
    if host not in hosts:
        raise MalformedError("a sensor speaks for a host that the settings don't name")
    return host


@asynccontextmanager
async def listening(senses: Senses) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Open what other sensors speak to; yields the tasks that go on meanwhile.

    :raises StrongroomError: one can't be opened.
    """
    missing: list[LineSocket | Webhook | AuditPump] = []
    async with AsyncExitStack() as stack:
        for one in senses.settings.sensors:
            take, heard = _into(senses, one.name)
            socket = LineSocket(one.name, one.user, reader_of(one.kind, one.events), take, heard)
            await socket.start(Path(one.socket))
            stack.push_async_callback(socket.stop)
            missing.append(socket)
        for hook in senses.settings.webhooks:
            take, heard = _into(senses, hook.name)
            read = reader_of(hook.kind, hook.events)
            webhook = Webhook(hook.name, read_secret(Path(hook.secret)), read, take, heard)
            await webhook.start(hook.address)
            stack.push_async_callback(webhook.stop)
            missing.append(webhook)
        if senses.settings.kernel_audit:
            pump = AuditPump(senses, READERS["auditd"]())
            stack.callback(pump.close)
            missing.append(pump)
        yield [asyncio.create_task(_count_missed(senses, missing))]


def _into(senses: Senses, name: str) -> tuple[Callable[[Event], None], Callable[[], None]]:
    return lambda event: senses.taken(event, name), lambda: senses.heard(name)


async def _count_missed(senses: Senses, sensors: Collection[LineSocket | Webhook | AuditPump]) -> None:
    """Tell, once a second, what wasn't read of other sensors' lines, and who fell silent.

    :raises AuditUnavailableError: the kernel gives no audit records any more: as at a start, nothing goes on without.
    """
    before = 0
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for one in sensors:
            if isinstance(one, AuditPump) and one.broken is not None:
                raise one.broken
        missed = sum(one.missed for one in sensors)
        if missed > before:
            senses.own("detector:state:evicted", count=missed - before)
        before = missed
        for name, seconds in senses.health.news(uptime()).items():
            senses.own("detector:sensor:silent", sensor=name, seconds=seconds)


class AuditPump:
    """Reads the kernel's audit records as they come.

    :raises AuditUnavailableError: the kernel or our rights give none.
    """

    def __init__(self, senses: Senses, read: Reader) -> None:
        self._senses, self._read = senses, read
        self._records = AuditRecords()
        self._unread = 0
        self.broken: AuditUnavailableError | None = None
        """Why nothing comes any more."""
        asyncio.get_running_loop().add_reader(self._records, self._ready)

    @property
    def missed(self) -> int:
        """Records that weren't read, and how often the kernel lost some."""
        return self._unread + self._records.lost

    def close(self) -> None:
        """Leave the kernel's group."""
        asyncio.get_running_loop().remove_reader(self._records)
        self._records.close()

    def _ready(self) -> None:
        # So many at once, and then whatever else waits for the loop: the kernel keeps the rest, and counts what it
        # can't keep.
        try:
            lines = self._records.read(MOST_AT_ONCE)
        except OSError as error:
            # It would be readable for ever, and say nothing.
            asyncio.get_running_loop().remove_reader(self._records)
            self.broken = unavailable(error)
            return
        for line in lines:
            try:
                for event in self._read(line).events:
                    self._senses.taken(event, AUDIT)
            except MalformedError:
                self._unread += 1


async def follow(senses: Senses, tail: LogTail, started: asyncio.Event) -> None:
    """Follow the log for ever. ``started`` is set once the rules remember what was there."""
    broken = ""
    known = False
    while True:
        try:
            if not known:
                await asyncio.to_thread(tail.start)
                known = True
            while await _step(senses, tail):
                senses.heard(LOG)
            senses.heard(LOG)
            senses.decider.remembered()
            started.set()
            broken = ""
        except TamperedError as error:
            # Not the log that we read before, or not all of it. It is asked again: who shows the true one is heard.
            if broken != error.reason:
                senses.own("detector:log:broken", cause=error.reason)
            broken = error.reason
            started.set()
        except StrongroomError as error:
            _log.warning("the log can't be read", reason=error.reason)
        await asyncio.sleep(LOOK_SECONDS)


async def _step(senses: Senses, tail: LogTail) -> bool:
    step = await asyncio.to_thread(tail.step)
    if step is None:
        return False
    decoys = {one.name for one in senses.decoys.models}
    for number, (index, entry) in enumerate(step.entries):
        if number % SLICE == 0:
            # A long log mustn't keep an alarm waiting.
            await asyncio.sleep(0)
        event = entry_event(index, entry)
        if entry.event is EventName.INCIDENT_RECORDED:
            senses.noted(event)
        for told in (event, *decoy_events(event, decoys)):
            if index < tail.kept:
                senses.decider.remember(read_event(told), entry.at)
            else:
                senses.decider.remembered()
                senses.responder.take(told, LOG)
    # Before the place is kept: after a crash, what isn't in the record is found again.
    await senses.responder.settled()
    await asyncio.to_thread(tail.taken, step)
    return True


async def beating(senses: Senses, heart: Heart) -> None:
    """Beat for ever; what the keeper says of the log is told."""
    before = ""
    while True:
        why = await heart.beat()
        if why != before:
            (_log.error if why else _log.info)("heartbeat", withheld=why)
        if why in _BEHIND and why != before:
            senses.own("detector:log:broken", cause=why)
        before = why
        await asyncio.sleep(BEAT_SECONDS)
