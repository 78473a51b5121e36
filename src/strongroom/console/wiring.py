"""The console's process, as ``strongroom console serve`` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import structlog
import uvicorn
import uvloop

from strongroom.broker.adapters.tls import PeerCertProtocol, login_context
from strongroom.console.adapters.broker_sessions import BrokerSessions
from strongroom.console.adapters.console_folder import SEEN, SeenFile, load_keys, load_names
from strongroom.console.adapters.provider import PinnedProvider
from strongroom.console.app import Console, make_app
from strongroom.console.door import Door
from strongroom.console.signing_in import Reception
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.printable import printable
from strongroom.core.webauthn import check_rp_id
from strongroom.ipc.adapters.process import harden, program_log, say_ready

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"
AUTHORITY: Final = "broker-ca.crt"
GENESIS: Final = "genesis.json"
MAX_CONNECTIONS: Final = 256
STOP_SECONDS: Final = 5
RELOAD_SECONDS: Final = 60.0
"""How soon a certificate counts that replaced the one in the folder."""
_ORIGIN: Final = re.compile(r"https://[a-z0-9][a-z0-9.-]{0,252}(?::[1-9][0-9]{0,4})?")


class _Server(uvicorn.Server):
    """A server that leaves signals to this module, and says when it listens."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: object = None) -> None:
        """Listen, then let it be known.

        :raises UnavailableError: the address can't be listened on.
        """
        del sockets
        try:
            await super().startup()
        except SystemExit:
            raise UnavailableError(
                f"can't listen on port {self.config.port}", remedy="choose another `--origin`"
            ) from None
        say_ready("console", port=self.config.port)


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
    log = structlog.get_logger("strongroom.console")
    return Console(
        origin=places.origin,
        reception=reception,
        door=Door(clock, os.urandom),
        monotonic=time.monotonic,
        note=lambda event, facts: log.info(event, **facts),
    )


def _serves(host: str, rp_id: str) -> bool:
    return host == rp_id or host.endswith(f".{rp_id}")


async def serve(folder: Path, console: Console) -> None:
    """Serve until SIGTERM."""
    place = urlsplit(console.origin)
    context = tls_context(folder)
    config = uvicorn.Config(
        make_app(console),
        host=place.hostname or "127.0.0.1",
        port=place.port or 443,
        http=PeerCertProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_context_factory=lambda _config, _default: context,
    )
    server = _Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, setattr, server, "should_exit", True)  # noqa: FBT003 - an attribute's value
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
