"""The broker's process: database, certificates, sockets, server.

``python -m strongroom.broker.wiring --home DIR [--host 127.0.0.1] [--port 8443] [--identity-port 8444]``
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import logging
import secrets
import ssl
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvicorn
import uvloop

from strongroom.broker.adapters.dev_ca import LOOPBACK, SERVER_LIFE, DevCa
from strongroom.broker.adapters.log import SocketLog
from strongroom.broker.adapters.store import Store
from strongroom.broker.adapters.tls import PeerCertProtocol, login_context, use_certificate
from strongroom.broker.adapters.webhooks import WebhookFiles, check_webhooks
from strongroom.broker.app import make_app
from strongroom.broker.couriers import Couriers, Surroundings
from strongroom.broker.door import Door
from strongroom.broker.errors import RemoteAddressError
from strongroom.broker.gate import App, Limits
from strongroom.broker.mover import KeyMover
from strongroom.broker.people.wiring import people_apps
from strongroom.broker.service import Broker
from strongroom.broker.sessions.wiring import Sessions
from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.ipc.adapters.client import UnixClient
from strongroom.ipc.adapters.http_server import HttpServer, http_config
from strongroom.ipc.adapters.process import harden, program_log, say_ready
from strongroom.ipc.adapters.signals import when_told_to_end

DEFAULT_PORT: Final = 8443
KEEPER_SECONDS: Final = 20.0
STOP_SECONDS: Final = 10
MAX_CONNECTIONS: Final = 512
OTHER_PORT: Final = "choose another with `--port` or `--identity-port`"
RENEW: Final = timedelta(hours=12)
_log = structlog.get_logger("strongroom.broker")


def require_loopback(host: str, *, remote: bool) -> None:
    """Refuse to serve other machines under the development authority, unless it was asked for in so many words.

    :raises RemoteAddressError: the host isn't a loopback address.
    """
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback and not remote:
        raise RemoteAddressError(
            "the development certificate authority serves this machine only",
            remedy="give `--remote` and the `--name`s that clients use, and know who can reach the address",
        )


def server_config(app: App, context: ssl.SSLContext, *, host: str, port: int) -> uvicorn.Config:
    """Return how a listener serves an application over TLS."""
    return http_config(
        app,
        host=host,
        port=port,
        http=PeerCertProtocol,
        most=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_context_factory=lambda _config, _default: context,
    )


async def serve_together(server: HttpServer, beside: HttpServer | None) -> None:
    """Serve until ``server`` is told to end. ``beside`` listens before it does, and ends with it; either ends both.

    :raises UnavailableError: one of them can't listen.
    """
    if beside is None:
        await server.serve()
        return
    other = asyncio.create_task(beside.serve(), name="identity")
    up = asyncio.create_task(beside.up.wait())
    await asyncio.wait({other, up}, return_when=asyncio.FIRST_COMPLETED)
    up.cancel()
    if not other.done():
        other.add_done_callback(lambda _task: server.end())
        try:
            await server.serve()
        finally:
            beside.end()
    await other


async def serve(
    home: Path,
    genesis: Genesis,
    *,
    host: str,
    port: int,
    identity_port: int | None,
    names: Sequence[str],
    clock: Clock,
    limits: Limits,
    open_store: Callable[[Path], Store],
) -> None:
    """Serve until SIGTERM. Without an ``identity_port`` there is no identity listener."""
    webhooks = WebhookFiles(home / "broker", clock)
    check_webhooks(webhooks)
    authority = DevCa.open_or_create(home / "broker" / "ca", genesis.deployment, at=clock.now())
    store = open_store(home / "broker" / "broker.db")
    keeper = UnixClient(home / "run" / "keeper.sock", seconds=KEEPER_SECONDS)
    log = SocketLog(home / "run" / "log.sock", genesis)
    sessions = Sessions.open(home, genesis, authority, keeper=keeper, store=store, clock=clock)
    broker = Broker(genesis=genesis, keeper=keeper, log=log, store=store, door=Door(sessions.standing), clock=clock)
    app = make_app(broker, trust=sessions.trust.current, barred=sessions.standing.barred, limits=limits)
    contexts = [sessions.context(), login_context()]

    def renew() -> None:
        use_certificate(contexts, authority.issue_server(names, at=clock.now()), home / "broker" / "tls")

    renew()
    beside = people = None
    if identity_port is not None:
        people = people_apps(home, broker, sessions.standing, clock=clock)
        identity_app = await sessions.identity_app(people.mounts)
        config = server_config(identity_app, contexts[1], host=host, port=identity_port)
        beside = HttpServer(config, remedy=OTHER_PORT)

    def ready(taken: int) -> None:
        facts: dict[str, Json] = {} if beside is None else {"identity_port": beside.port}
        say_ready("broker", host=host, port=taken, **facts)

    server = HttpServer(server_config(app, contexts[0], host=host, port=port), ready, remedy=OTHER_PORT)
    when_told_to_end(partial(_stop, server, broker.notices.close))
    renewing = asyncio.create_task(_renew_always(renew), name="renew")
    telling = asyncio.create_task(_tell(broker, webhooks), name="tell")
    # Before anybody is heard: who was suspended while the broker was down mustn't come in first.
    await sessions.standing.look()
    watching = asyncio.create_task(sessions.watch(), name="watch")
    try:
        await serve_together(server, beside)
    finally:
        renewing.cancel()
        telling.cancel()
        watching.cancel()
        await asyncio.gather(telling, watching, return_exceptions=True)
        await broker.drain()
        if people is not None:
            people.close()
        await keeper.close()
        await log.close()
        await asyncio.to_thread(store.close)
        _log.info("stopped")


def _stop(server: HttpServer, let_go: Callable[[], None]) -> None:
    server.end()
    let_go()


async def _tell(broker: Broker, webhooks: WebhookFiles) -> None:
    around = Surroundings(
        board=broker.notices,
        files=webhooks,
        genesis=broker.genesis.digest,
        clock=broker.clock,
        chance=secrets.SystemRandom().random,
    )
    mover = KeyMover(broker.keeper, broker.store, broker.keys_wait)
    await asyncio.gather(broker.notices.follow(), Couriers(around).run(), mover.follow())


async def _renew_always(renew: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(min(RENEW, SERVER_LIFE / 4).total_seconds())
        try:
            await asyncio.to_thread(renew)
        except OSError as error:
            # The certificate in use lasts for days; the next round tries again.
            _log.error("the server certificate couldn't be renewed", error=type(error).__name__)


def load_genesis(home: Path) -> Genesis:
    """Read the deployment's genesis.

    :raises UsageError: there is no deployment at ``home``.
    """
    try:
        return Genesis.parse((home / "genesis.json").read_bytes())
    except OSError:
        raise UsageError(f"no deployment at `{home}`", remedy="make one: strongroom init") from None


def run_broker(
    home: Path,
    *,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    identity_port: int | None = None,
    remote: bool = False,
    names: Sequence[str] = (),
    limits: Limits | None = None,
    clock: Clock | None = None,
    open_store: Callable[[Path], Store] = Store.open,
) -> None:
    """Run the broker of the deployment at ``home`` until SIGTERM; writes one JSON line to stdout when ready.

    ``port`` 0 takes a free one, which the line names; so does ``identity_port``, the port of the listener for who has
    no certificate yet, which is off when not given. ``names`` are further host names and addresses that the
    server's certificate is for; ``remote`` allows a ``host`` that isn't loopback.

    :raises StrongroomError: whatever keeps it from starting; nothing is served then.
    """
    harden()
    program_log()
    _library_log()
    require_loopback(host, remote=remote)
    serving = serve(
        home,
        load_genesis(home),
        host=host,
        port=port,
        identity_port=identity_port,
        names=(*LOOPBACK, *names),
        clock=clock or SystemClock(),
        limits=limits or Limits(),
        open_store=open_store,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _library_log() -> None:
    """Let libraries' warnings come out in the same form, without their arguments: those may hold what was sent."""

    class Plain(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            structlog.get_logger(record.name).warning(str(record.msg)[:200])

    logging.basicConfig(level=logging.WARNING, handlers=[Plain()], force=True)
    logging.captureWarnings(True)  # noqa: FBT003 - the library's own signature


def main(open_store: Callable[[Path], Store] = Store.open) -> None:
    """Run as a program; exits with the code of :class:`strongroom.core.errors.ExitCode`."""
    parser = argparse.ArgumentParser(description="Strongroom's broker")
    parser.add_argument("--home", type=Path, required=True, help="the deployment's folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to listen on; 0 takes a free one")
    parser.add_argument("--identity-port", type=int, help="listen here too, for logins; 0 takes a free port")
    parser.add_argument("--remote", action="store_true", help="allow an address that other machines reach")
    parser.add_argument("--name", action="append", default=[], help="further host name of the server's certificate")
    given = parser.parse_args()
    try:
        run_broker(
            given.home,
            host=given.host,
            port=given.port,
            identity_port=given.identity_port,
            remote=given.remote,
            names=given.name,
            open_store=open_store,
        )
    except StrongroomError as error:
        sys.stderr.write(json.dumps({"level": "error", "event": "broker refused to start", **error.problem()}) + "\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
