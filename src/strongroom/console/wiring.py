"""The console's process, as ``strongroom console serve`` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvloop

from strongroom.audit.adapters.index import SqliteIndex
from strongroom.broker.adapters.tls import login_context
from strongroom.console.adapters.assessment_folder import AssessmentFolder
from strongroom.console.adapters.broker_sessions import BrokerSessions
from strongroom.console.adapters.connections import SharedProtocol
from strongroom.console.adapters.console_folder import SEEN, SeenFile, load_keys, load_names
from strongroom.console.adapters.delivery_folders import DeliveryFolders
from strongroom.console.adapters.provider import PinnedProvider
from strongroom.console.app import Console, make_app
from strongroom.console.beside import Beside
from strongroom.console.door import Door
from strongroom.console.exposures import Exposures
from strongroom.console.growing import GrowsAside
from strongroom.console.log_reader import LogReader
from strongroom.console.reading_on import ReadsOn
from strongroom.console.signing_in import Reception
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.printable import printable
from strongroom.core.webauthn import check_rp_id
from strongroom.framework.catalogue import load
from strongroom.ipc.adapters.http_server import HttpServer, http_config
from strongroom.ipc.adapters.process import harden, program_log, say_ready
from strongroom.ipc.adapters.signals import when_told_to_end
from strongroom.responder.adapters.desk_door import DeskDoor
from strongroom.responder.reading import DeskReader
from strongroom.response.wiring import shipped_playbooks

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
AUTHORITY: Final = "broker-ca.crt"
GENESIS: Final = "genesis.json"
INDEX: Final = "log.index"
MAX_CONNECTIONS: Final = 256
STOP_SECONDS: Final = 5
DESK_SECONDS: Final = 3.0
"""How long a page waits for an answer of the responder."""
READ_SECONDS: Final = 20.0
"""And for all answers that it takes: the longest record that there can be is read in half of it."""
RELOAD_SECONDS: Final = 60.0
"""How soon a certificate counts that replaced the one in the folder."""
_ORIGIN: Final = re.compile(r"https://[a-z0-9][a-z0-9.-]{0,252}(?::[1-9][0-9]{0,4})?")


def tls_context(folder: Path) -> ssl.SSLContext:
    """Return TLS 1.3 with the console's own certificate.

    :raises UsageError: there is none.
    """
    context = login_context()
    try:
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except (OSError, ssl.SSLError):
        raise UsageError(
            f"`{folder}` has no `{CERTIFICATE}` and `{KEY}` that fit", remedy="strongroom console prepare makes them"
        ) from None
    return context


async def take_up_renewals(folder: Path, context: ssl.SSLContext) -> None:
    """Use the folder's certificate for new connections, whichever it is by then, until this is cancelled."""
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        with contextlib.suppress(UsageError):
            # Another context first: half a renewal, a new certificate beside an old key, would leave this one without.
            tls_context(folder)
            context.load_cert_chain(folder / CERTIFICATE, folder / KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Addresses, https each: the broker's, its identity listener's, and the console's own, only one."""

    broker: str
    identity: str
    origin: str
    issuer: str = ""
    """The identity provider; empty where the deployment has none."""
    issuer_authority: Path | None = None
    """Authorities (PEM) to believe it by, in place of the system's."""
    responder: Path | None = None
    """The responder's desk: its socket."""
    assessments: Path | None = None
    """The folder in which the newest assessment is kept."""
    quarantine: Path | None = None
    """The folder in which deliveries' folders lie."""


def make_console(folder: Path, places: Places, clock: Clock) -> Console:
    """Put the console together from its folder.

    :raises UsageError: something in it is missing, ``origin`` isn't written as browsers write it, or the people's keys
        are for another host than its.
    """
    if not _ORIGIN.fullmatch(places.origin) or places.origin.endswith(":443"):
        raise UsageError(
            f"`{printable(places.origin)}` isn't an origin as browsers write it",
            remedy="give https, a host name in lower case, and a port unless it is 443: https://localhost:8445",
        )
    keys = load_keys(folder)
    relying = {one.key.credential.rp_id for known in keys.values() for one in known.keys}
    host = urlsplit(places.origin).hostname or ""
    if len(relying) != 1 or not _serves(host, rp_id := next(iter(relying))):
        raise UsageError(
            f"people's keys are for {', '.join(sorted(relying))}, and the console is {host or 'nowhere'}",
            remedy="enrol keys for the console's own host name, or serve it there",
        )
    # Only one process can open it, so none can have read the memory of what was seen while another still moves it.
    index = SqliteIndex(folder / INDEX)
    log = structlog.get_logger("strongroom.console")

    def note(event: str, facts: Mapping[str, Json]) -> None:
        log.info(event, **facts)

    reception = Reception(
        genesis=Genesis.parse((folder / GENESIS).read_bytes()),
        authority=(folder / AUTHORITY).read_bytes(),
        origin=places.origin,
        rp_id=check_rp_id(rp_id),
        keys=keys,
        broker=BrokerSessions(url=places.broker, identity_url=places.identity, authority=folder / AUTHORITY),
        provider=PinnedProvider(issuer=places.issuer, origin=places.origin, authority=places.issuer_authority),
        memory=SeenFile(folder / SEEN),
        clock=clock,
        random_bytes=os.urandom,
        secret=load_names(folder, os.urandom),
    )
    reads_on = partial(ReadsOn, monotonic=time.monotonic, sleep=time.sleep, note=note)
    return Console(
        origin=places.origin,
        reception=reception,
        door=Door(clock, os.urandom),
        beside=_beside(places, reads_on("records")),
        reader=LogReader(GrowsAside(index, reads_on("index")), exposures=Exposures(reads_on("exposure"))),
        monotonic=time.monotonic,
        note=note,
    )


def _beside(places: Places, records: ReadsOn) -> Beside:
    door = None if places.responder is None else DeskDoor(places.responder, seconds=DESK_SECONDS)
    return Beside(
        incidents=None
        if door is None
        else DeskReader(door, seconds=READ_SECONDS, monotonic=time.monotonic, later=records.later),
        assessments=None if places.assessments is None else AssessmentFolder(places.assessments, load()),
        deliveries=None if places.quarantine is None else DeliveryFolders(places.quarantine),
        playbooks=shipped_playbooks(),
    )


def _serves(host: str, rp_id: str) -> bool:
    return host == rp_id or host.endswith(f".{rp_id}")


async def serve(folder: Path, console: Console) -> None:
    """Serve until SIGTERM."""
    place = urlsplit(console.origin)
    context = tls_context(folder)
    config = http_config(
        make_app(console),
        host=place.hostname or "127.0.0.1",
        port=place.port or 443,
        http=SharedProtocol,
        most=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_context_factory=lambda _config, _default: context,
    )
    server = HttpServer(config, lambda port: say_ready("console", port=port), remedy="choose another `--origin`")
    when_told_to_end(server.end)
    renewing = asyncio.create_task(take_up_renewals(folder, context))
    try:
        await server.serve()
    finally:
        renewing.cancel()
        console.door.close()


def run_console(folder: Path, places: Places) -> None:
    """Serve the console until SIGTERM.

    :raises StrongroomError: it can't start.
    """
    harden()
    program_log()
    uvloop.run(serve(folder, make_console(folder, places, SystemClock())))
