"""The response's parts put together: incidents on the disk, the ports, receivers, the desk, and drills."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from os import geteuid
from pathlib import Path
from typing import Final

import structlog

from strongroom.audit.reading.view import LogView
from strongroom.client.service import Session
from strongroom.core import canonical
from strongroom.core.adapters.reading import read_at_most
from strongroom.core.clock import Clock
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.fields import reading
from strongroom.core.ids import ModelId
from strongroom.detection.matching import Value
from strongroom.detection.sensors.reading import Event
from strongroom.ipc.adapters.client import UnixClient
from strongroom.ipc.adapters.server import UnixServer
from strongroom.responder.acting import Gate, Outcome, Responder
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.deployment import DeploymentPort
from strongroom.responder.adapters.keeper_stops import KeeperStops
from strongroom.responder.adapters.known import KnownDeployment, LogNotes
from strongroom.responder.adapters.log_exposure import LogExposures
from strongroom.responder.adapters.record_file import RecordFile
from strongroom.responder.adapters.telling import Teller, open_line
from strongroom.responder.desk import Desk
from strongroom.responder.drilling import DRILL, Drills
from strongroom.responder.evidence import Receipts
from strongroom.responder.exposing import Exposing
from strongroom.responder.responding import Responding
from strongroom.responder.response_settings import ResponseSettings
from strongroom.responder.shadow import ShadowPort
from strongroom.response.wiring import shipped_playbooks

DESK: Final = "desk.sock"
MAX_SETTINGS: Final = 1 << 20
REFRESH_SECONDS: Final = 60.0
_log = structlog.get_logger("strongroom.responder")


@dataclass(frozen=True, kw_only=True)
class Answering:
    """The response of one responder."""

    responding: Responding
    known: KnownDeployment
    exposing: Exposing

    def told(self, outcome: Outcome) -> None:
        """Hear of a decision once what can be done at once was done; a drill's by the token that was verified."""
        said = outcome.decision.alert.event.get("drill")
        drill = None
        if outcome.decision.source == DRILL and isinstance(said, str):
            drill = Digest.parse(said)
        self.responding.hear(outcome, drill=drill)

    def noted(self, entry: Mapping[str, Value]) -> None:
        """Hold the records here to what the log says of them, if it is this responder's own word."""
        person = self.known.session.wallet.identity.person
        incident, entries, digest = entry.get("incident"), entry.get("entries"), entry.get("entry")
        if entry.get("person") == person and isinstance(incident, str) and isinstance(entries, int):
            self.responding.hold_to(incident, entries, str(digest))


def load_response(path: Path | None) -> ResponseSettings:
    """Read the file of settings; none: nobody is told, and only this user may speak to the responder.

    :raises MalformedError: another form, or too large. :raises UsageError: it can't be read.
    """
    if path is None:
        return ResponseSettings()
    try:
        data = read_at_most(path, MAX_SETTINGS)
    except OSError as error:
        raise UsageError(f"`{path}` can't be read: {error.strerror}") from None
    with reading(canonical.parse(data, max_bytes=MAX_SETTINGS), "response") as fields:
        return ResponseSettings.read(fields)


async def make_answering(
    state: Path,
    client: UnixClient,
    session: Session,
    stops: KeeperStops,
    gates: Mapping[ModelId, Sequence[Gate]],
    settings: ResponseSettings,
    *,
    host: str,
    models: Sequence[ModelId],
    clock: Clock,
    record: RecordFile,
    view: LogView,
) -> tuple[Answering, Teller]:
    """Put the response together, and read what its last run left.

    :param view: the log, for who asks about exposure alone.
    :raises StrongroomError: the deployment doesn't answer, a receiver's secret can't be read, or the disk refuses.
    """
    known = KnownDeployment(session, client, models)
    await known.refresh()
    lines = [open_line(one, clock) for one in settings.receivers]
    teller = Teller(lines, genesis=known.genesis, source=session.wallet.genesis().deployment, clock=clock)
    receipts = Receipts(teller)
    real = DeploymentPort(
        known,
        client,
        stops,
        gates,
        receipts,
        host=host,
        platforms=settings.platforms,
        clock=clock,
        own_record=lambda: record.head,
    )
    responding = Responding(
        CaseFiles(state),
        shipped_playbooks(),
        known,
        real=real,
        shadow=ShadowPort(receipts, clock),
        telling=teller,
        notes=LogNotes(client, session, clock),
        record=record,
        clock=clock,
        ticks=time.monotonic_ns,
        by=f"machine:{session.wallet.identity.person}",
        host=host,
        failed=_failed,
    )
    responding.load()
    for name, reason in responding.broken.items():
        _log.error("incident can't be read", incident=name, reason=reason)
    return Answering(responding=responding, known=known, exposing=_exposing(responding, known, view)), teller


def _exposing(responding: Responding, known: KnownDeployment, view: LogView) -> Exposing:
    return Exposing(
        responding.cases,
        LogExposures(view, known),
        level=lambda incident: known.level(incident.subject),
        ticks=time.monotonic,
        failed=_failed,
    )


@asynccontextmanager
async def open_doors(
    answering: Answering, teller: Teller, responder: Responder, state: Path, settings: ResponseSettings, clock: Clock
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Go on with what was left, and open the desk; yields tasks that end only by an error."""
    responding, known = answering.responding, answering.known

    def take(event: Event) -> None:
        responder.take(event, DRILL, opened=time.monotonic_ns())

    drills = Drills(known.genesis, known.masters, lambda: responding.used, responding.practise, take, clock)

    def hold(envelope: Envelope) -> None:
        try:
            drills.hold(envelope)
        except StrongroomError as error:
            # Who tries drills that aren't theirs is worth a look.
            _log.warning("drill refused", reason=error.reason)
            raise

    desk = UnixServer(Desk(responding, clock, known.refresh, hold).serve, admits={geteuid(), *settings.users})
    await desk.start(state / DESK)
    tasks = [
        asyncio.create_task(responding.serve()),
        asyncio.create_task(answering.exposing.serve()),
        asyncio.create_task(_refreshing(known)),
    ]
    try:
        yield tasks
    finally:
        await desk.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await teller.close()


async def _refreshing(known: KnownDeployment) -> None:
    while True:
        await asyncio.sleep(REFRESH_SECONDS)
        try:
            await known.refresh()
        except StrongroomError as error:
            _log.warning("the deployment isn't seen anew", reason=error.reason)


def _failed(what: str, error: StrongroomError) -> None:
    _log.error("response held up", what=what, reason=error.reason)
