"""A process that serves the directory's applications over TLS, beside a keeper that is a file; it may kill itself.

Arguments: the home, where it dies (`after-suspend`, `after-store`, or nothing), and the port (0 takes a free one). The
keeper's record is ``<home>/suspended.txt``, a line each, on the disk before a call returns. The people of the roster
are the words of ``<home>/people.txt``. Prints one JSON line when it listens.
"""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import time
from pathlib import Path
from typing import NoReturn

import structlog
import uvicorn

from strongroom.broker.adapters.dev_ca import DevCa
from strongroom.broker.identity_listener import IdentityLimits, LoginApp, make_identity_app
from strongroom.broker.people.adapters.store import PeopleStore
from strongroom.broker.people.ports import StoredRecord
from strongroom.broker.people.wiring import open_apps
from strongroom.core.buckets import Rate
from strongroom.core.clock import SystemClock
from strongroom.core.errors import NotFoundError
from strongroom.core.ids import PersonId
from strongroom.personnel.lifecycle import SuspensionCause

HOME, DIES = Path(sys.argv[1]), sys.argv[2]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise SystemExit


def people() -> set[str]:
    return set((HOME / "people.txt").read_text().split())


async def knows(person: PersonId) -> bool:
    return person in people()


async def suspend(person: PersonId, cause: SuspensionCause) -> None:
    if person not in people():
        raise NotFoundError("nobody")
    with (HOME / "suspended.txt").open("a") as file:
        file.write(f"{person} {cause.value}\n")
        file.flush()
        os.fsync(file.fileno())
    if DIES == "after-suspend":
        die()


class DyingStore(PeopleStore):
    """Dies when a row, or an event's name, was written and nobody was answered yet."""

    def put(self, row: StoredRecord, *, unique: object, lookups: object) -> None:
        super().put(row, unique=unique, lookups=lookups)  # type: ignore[arg-type]  # handed on
        if DIES == "after-store":
            die()

    def note(self, event: bytes, digest: bytes, *, until: int, now: int) -> None:
        super().note(event, digest, until=until, now=now)
        if DIES == "after-store":
            die()


class Told(uvicorn.Server):
    """Says which port it took."""

    async def startup(self, sockets: object = None) -> None:
        del sockets
        await super().startup()
        sys.stdout.write(json.dumps({"port": self.servers[0].sockets[0].getsockname()[1]}) + "\n")
        sys.stdout.flush()


def main() -> None:
    from strongroom.broker.people import wiring  # noqa: PLC0415 - its store is replaced

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    setattr(wiring, "PeopleStore", DyingStore)  # noqa: B010 - that is what this program is for
    at = int(time.time())
    authority = DevCa.open_or_create(HOME / "broker" / "ca", "people", at=at)
    certificate, key = HOME / "server.pem", HOME / "server.key"
    authority.issue_server(("localhost", "127.0.0.1"), at=at).save(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    apps = open_apps(HOME, knows=knows, suspend=suspend, clock=SystemClock())
    app = make_identity_app(LoginApp(None), apps.mounts, limits=IdentityLimits(rate=Rate(per_second=1e6, burst=10**6)))
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=int(sys.argv[3]),
        lifespan="off",
        log_config=None,
        ssl_context_factory=lambda _config, _default: context,
    )
    Told(config).run()


main()
