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
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from strongroom.access.request import Purpose
from strongroom.client.log_view import BrokerLog
from strongroom.client.requests import Asking, ask_to_freeze, sign_request
from strongroom.client.service import Session
from strongroom.client.wallet import Wallet
from strongroom.client.wiring import open_session
from strongroom.core import canonical
from strongroom.core.adapters.durable import write_durably
from strongroom.core.adapters.reading import read_at_most
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, uptime
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import NotFoundError, StrongroomError, UsageError
from strongroom.core.fields import reading
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine
from strongroom.detection.pack import Pack, open_pack
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.enclave.gate.wiring import Gate, read_settings
from strongroom.ipc.adapters.client import UnixClient
from strongroom.ipc.adapters.process import go_first, harden, program_log, read_passphrase, say_ready
from strongroom.ipc.adapters.signals import when_told_to_end
from strongroom.responder.acting import Gate as GatePort
from strongroom.responder.acting import Outcome, Responder
from strongroom.responder.adapters.gates import HeldGate
from strongroom.responder.adapters.guard_process import GuardEndedError, GuardProcess
from strongroom.responder.adapters.heart import Heart, signed_heartbeat
from strongroom.responder.adapters.keeper_stops import KeeperStops
from strongroom.responder.adapters.log_tail import LogTail
from strongroom.responder.adapters.precautions import KeeperPrecautions
from strongroom.responder.adapters.record_file import RecordFile, read_record
from strongroom.responder.adapters.telling import Teller
from strongroom.responder.answering.wiring import Answering, load_response, make_answering, open_doors
from strongroom.responder.asking import Asker, Doubts
from strongroom.responder.deciding import Decider
from strongroom.responder.decoys import MAX_LIST, Decoys, newest_guarded, read_decoys, require_newest
from strongroom.responder.guard.messages import Beat, Gone, Opened
from strongroom.responder.limits import FreezeLimits
from strongroom.responder.response_settings import ResponseSettings
from strongroom.responder.sensing.wiring import Senses, beating, follow, health_of, listening
from strongroom.responder.settings import GUARD, MAX_SETTINGS, ResponderSettings
from strongroom.responder.tailing import told_before

DECOYS: Final = "decoys.json"
PLACE: Final = "log.place"
"""How far the log was read."""
RESTART_SECONDS: Final = 1.0
SWITCH_SECONDS: Final = 0.0002
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


def change_decoys(state: Path, wallet: Wallet) -> Decoys:
    """Return the list that is to be changed; an empty one where there is none, or no more.

    :raises DecoysRolledBackError: an older one lies in its place: signed anew, it would be the newest.
    """
    decoys, newest = load_decoys(state, wallet), _newest_guarded(state)
    if decoys.serial:
        require_newest(decoys, newest)
    # The machine's clock may have been ahead when the newest was signed.
    return replace(decoys, serial=max(decoys.serial, newest))


def save_decoys(state: Path, wallet: Wallet, decoys: Decoys) -> None:
    """Sign the list, as the newest, and replace what is in the responder's folder.

    :raises MalformedError: it couldn't be read back: too many decoys, or a path that isn't text.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    decoys = replace(decoys, serial=max(decoys.serial + 1, SystemClock().now()))
    # A list that nobody reads back guards nothing, and no command could take anything off it again.
    Decoys.parse(decoys.to_bytes())
    write_durably(state / DECOYS, decoys.sign(wallet.signer()).to_bytes())


def _newest_guarded(state: Path) -> int:
    return newest_guarded(json.loads(line)["facts"] for line in read_record(state))


def _make_stops(
    client: UnixClient, session: Session, settings: ResponderSettings, decoys: Decoys, teams: dict[str, str]
) -> KeeperStops:
    signer = session.wallet.signer()

    def make(model: ModelId) -> Envelope:
        trust = session.refresh()
        if trust.roster is not None:
            teams.update((person.id, person.org) for person in trust.roster.people)
        asking = Asking(
            requester=session.wallet.identity.person,
            purpose=Purpose.INCIDENT_RESPONSE,
            ticket=TICKET,
            now=session.clock.now(),
            random_bytes=os.urandom,
        )
        return sign_request(ask_to_freeze(trust, asking, model=model), signer, trust)

    models = dict.fromkeys((*settings.models, *decoys.stand_for.values()))
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


async def _missed(senses: Senses, told: Gone, decoys: Mapping[str, ModelId], newest: Callable[[], Decoys]) -> None:
    """Tell that a decoy is gone, unless a newer list than the one that we guard doesn't have it any more."""
    with contextlib.suppress(StrongroomError):
        listed = await asyncio.to_thread(newest)
        # Whoever takes a decoy off signs the list first. An older list, laid there again, may not know it yet.
        if listed.serial > senses.decoys.serial and told.path not in listed.stand_for:
            return
    model = {"model": decoys[told.path]} if told.path in decoys else {}
    senses.responder.take(
        {"event": "host:decoy:gone", "host": senses.settings.host, "source": GUARD, "path": told.path, **model}, GUARD
    )


async def _guarded(senses: Senses, guard: GuardProcess, newest: Callable[[], Decoys]) -> None:
    """Take what the guard tells; start it again when it ended. A guard that is silent is itself told."""
    paths = {decoy.path: decoy.model for decoy in senses.decoys.decoys}
    files = [*paths], [*senses.settings.watched]
    while True:
        before = Beat.none()
        try:
            async for told in guard.openings():
                senses.heard(GUARD)
                if isinstance(told, Opened):
                    event = opened_event(told, senses.settings, paths)
                    senses.responder.take(event, GUARD, opened=told.ticks)
                    continue
                if isinstance(told, Gone):
                    await _missed(senses, told, paths, newest)
                    continue
                missed = told.untold + told.lost - before.untold - before.lost
                before = told
                if missed:
                    senses.own("detector:state:evicted", count=missed)
        except GuardEndedError as error:
            _log.error("guard ended", reason=error.message)
        began = time.monotonic()
        while True:
            silent = int(time.monotonic() - began)
            senses.own("detector:sensor:silent", sensor=GUARD, seconds=silent)
            await asyncio.sleep(RESTART_SECONDS)
            try:
                guard = await GuardProcess.start(*files)
            except GuardEndedError as error:
                _log.error("guard doesn't start", reason=error.message)
                continue
            break


def load_pack(settings: ResponderSettings) -> Pack:
    """Return the rules: those that come with the program, or the signed ones that the settings name.

    :raises SignatureError: somebody else signed them. :raises MalformedError: another form, or nobody signed them.
    :raises UsageError: the file can't be read.
    """
    if settings.pack is None:
        return shipped_pack()
    envelope = Envelope.parse(_read(Path(settings.pack.file), 2 * MAX_PAYLOAD))
    return open_pack(envelope, [settings.pack.key])


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a responder is given."""

    home: Path
    """The deployment's folder."""
    state: Path
    """Its own."""
    settings: ResponderSettings
    response: ResponseSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Sessions of one wallet's: what one of them waits for holds up no other."""

    acting: Session
    following: Session
    """Follows the log."""
    asking: Session
    """Reads all of it, about exposure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    senses: Senses
    stops: KeeperStops
    asker: Asker
    answering: Answering
    teller: Teller
    tail: LogTail
    heart: Heart
    newest: Callable[[], Decoys]
    """Reads the list of decoys as it is now."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The responder's own record, what a start goes by of it, and how far the log was read."""

    file: RecordFile
    before: Sequence[Mapping[str, Json]]
    tail: LogTail


async def serve(setup: Setup, sessions: Sessions) -> None:
    """Serve until SIGTERM.

    :raises StrongroomError: whatever keeps it from starting; nothing is guarded then. What ends one of its parts ends
        all of it: a responder that went on half deaf would look like one that guards.
    """
    stop = asyncio.Event()
    when_told_to_end(stop.set)
    decoys, pack = load_decoys(setup.state, sessions.acting.wallet), load_pack(setup.settings)
    client = UnixClient(setup.home / "run" / "keeper.sock")
    with ExitStack() as stack:
        record = RecordFile(setup.state)
        stack.callback(record.close)
        tail = LogTail(BrokerLog(sessions.following, time.sleep), setup.state / PLACE)
        before = _left_before(record, tail.kept)
        await _guard_the_newest(decoys, record, before)
        gates = _open_gates(setup.settings, stack)
        parts = await _put_together(setup, sessions, client, _Recorded(record, before, tail), decoys, gates, pack)
        await parts.stops.prepare()
        ready = {"decoys": len(decoys.decoys), "gates": len(setup.settings.gates), "models": len(setup.settings.models)}
        ended = await _go_on(parts, setup, stop, lambda: say_ready("responder", **ready, pack=str(pack.digest)))
        await parts.senses.responder.rest()
        await client.close()
        for task in ended:
            task.result()


def _left_before(record: RecordFile, least: int) -> list[Mapping[str, Json]]:
    """Return the lines of the last runs that a start goes by. A record may have a million others: it is read once."""
    wanted = {"guarded", "asks", "asked"}
    return [facts for facts in record.facts() if wanted & facts.keys() or told_before((facts,), least)]


async def _guard_the_newest(decoys: Decoys, record: RecordFile, before: Sequence[Mapping[str, Json]]) -> None:
    if require_newest(decoys, newest_guarded(before)):
        line = await record.append({"guarded": decoys.serial})
        if line is not None:
            record.settle(line)


async def _put_together(
    setup: Setup,
    sessions: Sessions,
    client: UnixClient,
    recorded: _Recorded,
    decoys: Decoys,
    gates: Mapping[ModelId, Sequence[GatePort]],
    pack: Pack,
) -> _Parts:
    settings, clock, teams = setup.settings, SystemClock(), dict[str, str]()
    record, tail = recorded.file, recorded.tail
    stops = _make_stops(client, sessions.acting, settings, decoys, teams)
    doubts = Doubts(settings.asking, lambda name: name in teams)
    asker = Asker(KeeperPrecautions(client, sessions.acting), record, settings.asking, clock, _held_up)
    asker.recall(recorded.before, doubts)
    before = told_before(recorded.before, tail.kept)
    decider = _make_decider(pack, settings, decoys, teams, before, doubts)
    answering, teller = await make_answering(
        setup.state,
        client,
        sessions.acting,
        stops,
        gates,
        setup.response,
        host=settings.host,
        models=settings.models,
        clock=clock,
        record=record,
        view=BrokerLog(sessions.asking, time.sleep),
    )

    def told(outcome: Outcome) -> None:
        _told(outcome)
        asker.hear(outcome)
        answering.told(outcome)

    responder = Responder(decider, stops, gates, record, clock=clock, ticks=time.monotonic_ns, told=told)
    health = health_of(settings, guarding=_guards(settings, decoys))
    paths = frozenset(one.path for one in decoys.decoys)
    sign = signed_heartbeat(sessions.acting.wallet, clock)
    return _Parts(
        senses=Senses(settings, decoys, decider, responder, health, paths, answering.noted),
        stops=stops,
        asker=asker,
        answering=answering,
        teller=teller,
        tail=tail,
        heart=Heart(client, sign, health=health, record=record, head=lambda: tail.head, now=uptime),
        newest=partial(load_decoys, setup.state, sessions.acting.wallet),
    )


def _guards(settings: ResponderSettings, decoys: Decoys) -> bool:
    return bool(decoys.decoys or settings.watched)


async def _go_on(parts: _Parts, setup: Setup, stop: asyncio.Event, ready: Callable[[], None]) -> set[asyncio.Task[Any]]:
    """Begin everything that goes on side by side; returns what ended first, the rest ended too."""
    senses, settings = parts.senses, setup.settings
    tasks = [asyncio.create_task(parts.stops.keep_ready()), asyncio.create_task(parts.asker.serve())]
    if _guards(settings, senses.decoys):
        guard = await GuardProcess.start([decoy.path for decoy in senses.decoys.decoys], settings.watched)
        tasks.append(asyncio.create_task(_guarded(senses, guard, parts.newest)))
    doors = open_doors(parts.answering, parts.teller, senses.responder, setup.state, setup.response, SystemClock())
    async with listening(senses) as hearing, doors as going_on:
        followed, stopping = asyncio.Event(), asyncio.create_task(stop.wait())
        tasks += [*hearing, *going_on, asyncio.create_task(follow(senses, parts.tail, followed))]
        tasks.append(asyncio.create_task(beating(senses, parts.heart)))
        return await _until_ended(stopping, followed, tasks, ready)


def _held_up(what: str, error: StrongroomError) -> None:
    _log.warning("held up", what=what, reason=error.reason)


def _make_decider(
    pack: Pack,
    settings: ResponderSettings,
    decoys: Decoys,
    teams: Mapping[str, str],
    before: Collection[tuple[str, int]],
    doubts: Doubts,
) -> Decider:
    return Decider(
        Detector(Engine(pack, regex=linear_regex), lambda person: teams.get(person, "")),
        decoys=decoys.stand_for,
        models=settings.models,
        acting=settings.acting,
        limits=FreezeLimits(settings.freezes_an_hour),
        told=before,
        asks=doubts.person,
    )


async def _until_ended(
    stopping: asyncio.Task[Any], followed: asyncio.Event, tasks: Sequence[asyncio.Task[Any]], ready: Callable[[], None]
) -> set[asyncio.Task[Any]]:
    """Say that it is ready once the log was followed to its end; wait until one part ends, and end the others."""
    first = asyncio.create_task(followed.wait())
    ended, _running = await asyncio.wait((first, stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
    if first in ended:
        ready()
        ended, _running = await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
    for task in (first, stopping, *tasks):
        task.cancel()
    await asyncio.gather(first, stopping, *tasks, return_exceptions=True)
    return ended


def run_responder(
    home: Path, wallet: Path, settings: Path, response: Path | None, state: Path, passphrase_fd: int | None
) -> None:
    """Run the responder until SIGTERM.

    :raises StrongroomError: whatever keeps it from starting.
    """
    harden()
    go_first()
    # The thread that shuts a gate waits for the interpreter no longer than this; Python would let it wait 5 ms.
    sys.setswitchinterval(SWITCH_SECONDS)
    program_log()
    made, answers = load_settings(settings), load_response(response)
    with nullcontext() if passphrase_fd is None else read_passphrase(passphrase_fd) as passphrase:

        def asked() -> SecretBytes:
            if passphrase is None:
                raise UsageError("the responder's wallet has a passphrase", remedy="give it with --passphrase-fd")
            return passphrase

        with ExitStack() as stack:
            sessions = [stack.enter_context(open_session(wallet, passphrase=asked)) for _ in range(3)]
            acting, following, asking = sessions
            asyncio.run(
                serve(
                    Setup(home=home.resolve(), state=state.resolve(), settings=made, response=answers),
                    Sessions(acting=acting, following=following, asking=asking),
                )
            )


def _read(path: Path, most: int) -> bytes:
    try:
        return read_at_most(path, most)
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
    parser.add_argument("--response", type=Path, help="whom it tells of incidents, and who may speak to it")
    parser.add_argument("--state", type=Path, required=True, help="its own folder: the list of decoys, and its record")
    parser.add_argument("--passphrase-fd", type=int, help="open descriptor to read the wallet's passphrase from")
    given = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            run_responder(given.home, given.wallet, given.settings, given.response, given.state, given.passphrase_fd)
    except StrongroomError as error:
        sys.stderr.write(
            json.dumps({"level": "error", "event": "responder refused to start", **error.problem()}) + "\n"
        )
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
