"""The responder's process: its wallet, the keeper's socket, the guard, the gates and its record, put together.

It runs on the host whose files it guards, beside the keeper whose socket it may call (`--caller`), as root: fanotify
and network namespaces ask for that.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from strongroom.access.request import Purpose
from strongroom.client.requests import Asking, ask_to_freeze, sign_request
from strongroom.client.service import Session
from strongroom.client.wallet import Wallet
from strongroom.client.wiring import open_session
from strongroom.core import canonical
from strongroom.core.adapters.durable import write_durably
from strongroom.core.clock import SystemClock
from strongroom.core.envelope import Envelope
from strongroom.core.errors import NotFoundError, StrongroomError, UsageError
from strongroom.core.fields import reading
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine
from strongroom.detection.sensors.readers import READERS
from strongroom.detection.sensors.reading import Event
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.enclave.gate.wiring import Gate, read_settings
from strongroom.ipc.adapters.client import UnixClient
from strongroom.ipc.adapters.process import harden, program_log, read_passphrase, say_ready
from strongroom.responder.acting import Gate as GatePort
from strongroom.responder.acting import Outcome, Responder
from strongroom.responder.adapters.gates import HeldGate
from strongroom.responder.adapters.guard_process import GuardEndedError, GuardProcess
from strongroom.responder.adapters.keeper_stops import KeeperStops
from strongroom.responder.adapters.line_socket import LineSocket
from strongroom.responder.adapters.record_file import RecordFile
from strongroom.responder.deciding import Decider
from strongroom.responder.decoys import MAX_LIST, Decoys, read_decoys
from strongroom.responder.guard.messages import Beat, Opened
from strongroom.responder.limits import FreezeLimits
from strongroom.responder.settings import DETECTOR, GUARD, MAX_SETTINGS, ResponderSettings

DECOYS: Final = "decoys.json"
RESTART_SECONDS: Final = 1.0
TICKET: Final = "responder"

_log = structlog.get_logger("strongroom.responder")


def load_settings(path: Path) -> ResponderSettings:
    """Read a settings file.

    :raises MalformedError: another form. :raises UsageError: it can't be read.
    """
    with reading(canonical.parse(_read(path, MAX_SETTINGS), max_bytes=MAX_SETTINGS), "responder") as fields:
        return ResponderSettings.read(fields)


def load_decoys(state: Path, wallet: Wallet) -> Decoys:
    """Return the list of decoys in the responder's folder; an empty one where there is none.

    :raises SignatureError: somebody else wrote it. :raises MalformedError: another form.
    """
    path, genesis = state / DECOYS, wallet.genesis().digest
    if not path.exists():
        return Decoys(genesis=genesis)
    envelope = Envelope.parse(_read(path, MAX_LIST))
    return read_decoys(envelope, wallet.identity.key, genesis)


def save_decoys(state: Path, wallet: Wallet, decoys: Decoys) -> None:
    """Sign the list and replace what is in the responder's folder."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(state / DECOYS, decoys.sign(wallet.signer()).to_bytes())


@dataclass(frozen=True, slots=True)
class _Parts:
    settings: ResponderSettings
    decoys: Decoys
    responder: Responder


def _make_stops(client: UnixClient, session: Session, settings: ResponderSettings, decoys: Decoys) -> KeeperStops:
    signer = session.wallet.signer()

    def make(model: ModelId) -> Envelope:
        trust = session.refresh()
        asking = Asking(
            requester=session.wallet.identity.person,
            purpose=Purpose.INCIDENT_RESPONSE,
            ticket=TICKET,
            now=session.clock.now(),
            random_bytes=os.urandom,
        )
        return sign_request(ask_to_freeze(trust, asking, model=model), signer, trust)

    models = dict.fromkeys((*settings.models, *(decoy.model for decoy in decoys.decoys)))
    return KeeperStops(client, session, make, models)


def _open_gates(settings: ResponderSettings, stack: ExitStack) -> Mapping[ModelId, list[GatePort]]:
    gates: dict[ModelId, list[GatePort]] = {}
    for one in settings.gates:
        made = Gate(read_settings(_read(Path(one.settings), MAX_SETTINGS)), Path(one.state))
        held = HeldGate(made)
        stack.callback(held.close)
        for model in one.models:
            gates.setdefault(model, []).append(held)
    return gates


def _told(outcome: Outcome) -> None:
    alert, decision = outcome.decision.alert, outcome.decision
    _log.warning(
        "alert",
        rule=alert.rule,
        certainty=alert.about.certainty.value,
        why=decision.why.value,
        source=decision.source,
        frozen=sorted(outcome.stopped),
        failed=outcome.failed,
    )


def opened_event(told: Opened, settings: ResponderSettings, decoys: Mapping[str, ModelId]) -> dict[str, object]:
    """Return what the guard told as an event of the vocabulary."""
    return {
        "event": "host:file:opened",
        "host": settings.host,
        "source": GUARD,
        "path": told.path,
        "exe": told.exe,
        "uid": told.uid,
        "kind": "shard",
        "decoy": told.denied,
        "broker": told.uid in settings.readers,
        **({"model": decoys[told.path]} if told.path in decoys else {}),
    }


async def _guarded(parts: _Parts, guard: GuardProcess) -> None:
    """Take what the guard tells; start it again when it ended. A guard that is silent is itself told."""
    paths = {decoy.path: decoy.model for decoy in parts.decoys.decoys}
    files = [*paths], [*parts.settings.watched]
    while True:
        before = Beat.none()
        try:
            async for told in guard.openings():
                if isinstance(told, Opened):
                    event = opened_event(told, parts.settings, paths)
                    parts.responder.take(event, GUARD, opened=told.ticks)
                    continue
                missed = told.untold + told.lost - before.untold - before.lost
                before = told
                if missed:
                    parts.responder.take(_own("detector:state:evicted", parts.settings, count=missed), DETECTOR)
        except GuardEndedError as error:
            _log.error("guard ended", reason=error.message)
        began = time.monotonic()
        while True:
            silent = int(time.monotonic() - began)
            event = _own("detector:sensor:silent", parts.settings, sensor=GUARD, seconds=silent)
            parts.responder.take(event, DETECTOR)
            await asyncio.sleep(RESTART_SECONDS)
            try:
                guard = await GuardProcess.start(*files)
            except GuardEndedError as error:
                _log.error("guard doesn't start", reason=error.message)
                continue
            break


def _own(event: str, settings: ResponderSettings, **members: object) -> dict[str, object]:
    return {"event": event, "host": settings.host, "source": DETECTOR, **members}


async def _listening(parts: _Parts) -> list[LineSocket]:
    """Open a socket for each other sensor."""
    decoys = {decoy.path for decoy in parts.decoys.decoys}
    made = []
    for sensor in parts.settings.sensors:

        def take(event: Event, name: str = sensor.name) -> None:
            # Whether a file is a decoy is on our list, and isn't for a sensor to say.
            more = {"decoy": event["path"] in decoys} if event["event"] == "host:file:opened" else {}
            parts.responder.take({**event, **more, "host": parts.settings.host, "source": name}, name)

        listener = LineSocket(sensor.name, sensor.user, READERS[sensor.kind](), take)
        await listener.start(Path(sensor.socket))
        made.append(listener)
    return made


async def _count_missed(parts: _Parts, sockets: Sequence[LineSocket]) -> None:
    """Tell, once a second, what wasn't read of other sensors' lines."""
    before = 0
    while True:
        await asyncio.sleep(1.0)
        missed = sum(one.missed for one in sockets)
        if missed > before:
            event = _own("detector:state:evicted", parts.settings, count=missed - before)
            parts.responder.take(event, DETECTOR)
        before = missed


async def serve(home: Path, state: Path, settings: ResponderSettings, session: Session) -> None:
    """Serve until SIGTERM.

    :raises StrongroomError: whatever keeps it from starting; nothing is guarded then. What ends one of its parts ends
        all of it: a responder that went on half deaf would look like one that guards.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    decoys = load_decoys(state, session.wallet)
    client = UnixClient(home / "run" / "keeper.sock")
    with ExitStack() as stack:
        record = RecordFile(state)
        stack.callback(record.close)
        stops = _make_stops(client, session, settings, decoys)
        decider = Decider(
            Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: ""),
            decoys={decoy.path: decoy.model for decoy in decoys.decoys},
            models=settings.models,
            acting=settings.acting,
            limits=FreezeLimits(settings.freezes_an_hour),
        )
        gates = _open_gates(settings, stack)
        responder = Responder(decider, stops, gates, record, clock=SystemClock(), ticks=time.monotonic_ns, told=_told)
        parts = _Parts(settings, decoys, responder)
        await stops.prepare()
        tasks = [asyncio.create_task(stops.keep_ready())]
        if decoys.decoys or settings.watched:
            guard = await GuardProcess.start([decoy.path for decoy in decoys.decoys], settings.watched)
            tasks.append(asyncio.create_task(_guarded(parts, guard)))
        sockets = await _listening(parts)
        tasks.append(asyncio.create_task(_count_missed(parts, sockets)))
        say_ready("responder", decoys=len(decoys.decoys), gates=len(settings.gates), models=len(settings.models))
        stopping = asyncio.create_task(stop.wait())
        ended, _running = await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
        for one in sockets:
            await one.stop()
        await responder.rest()
        await client.close()
        for task in ended:
            task.result()


def run_responder(home: Path, wallet: Path, settings: Path, state: Path, passphrase_fd: int | None) -> None:
    """Run the responder until SIGTERM.

    :raises StrongroomError: whatever keeps it from starting.
    """
    harden()
    program_log()
    with contextlib.suppress(OSError):
        # Before ordinary programs: a thief may burn all processors to win time.
        os.nice(-15)
    made = load_settings(settings)
    with nullcontext() if passphrase_fd is None else read_passphrase(passphrase_fd) as passphrase:

        def asked() -> SecretBytes:
            if passphrase is None:
                raise UsageError("the responder's wallet has a passphrase", remedy="give it with --passphrase-fd")
            return passphrase

        with open_session(wallet, passphrase=asked) as session:
            asyncio.run(serve(home.resolve(), state.resolve(), made, session))


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no `{path}`") from None
    except OSError as error:
        raise UsageError(f"`{path}` can't be read: {error.strerror}") from None


def main() -> None:
    """Run as a program; exits with the code of :class:`strongroom.core.errors.ExitCode`."""
    parser = argparse.ArgumentParser(description="Strongroom's responder")
    parser.add_argument("--home", type=Path, required=True, help="the deployment's folder, for the keeper's socket")
    parser.add_argument("--wallet", type=Path, required=True, help="the responder's own wallet")
    parser.add_argument("--settings", type=Path, required=True, help="what it guards, and what it may do")
    parser.add_argument("--state", type=Path, required=True, help="its own folder: the list of decoys, and its record")
    parser.add_argument("--passphrase-fd", type=int, help="open descriptor to read the wallet's passphrase from")
    given = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            run_responder(given.home, given.wallet, given.settings, given.state, given.passphrase_fd)
    except StrongroomError as error:
        sys.stderr.write(
            json.dumps({"level": "error", "event": "responder refused to start", **error.problem()}) + "\n"
        )
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
