"""A detector's freeze counts before it is durable, is recorded as a person's is, and fills no log."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from strongroom.access.request import REQUEST_TYPE, Action
from strongroom.audit.entries import read_entry
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.events import EventName
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId
from strongroom.core.signature import SignatureError
from strongroom.ipc.adapters.client import UnixClient
from strongroom.ipc.adapters.server import UnixServer
from strongroom.ipc.frames import Call
from strongroom.keeper.routes import KeeperRoutes
from strongroom.keeper.stopping import stop
from strongroom.keys.recipient import RecipientKey
from strongroom.personnel.lifecycle import SuspensionCause
from strongroom.release.dossier import Dossier
from strongroom.release.judge import Verdict
from strongroom.release.steps import ReleaseRefusedError
from support.deployment import MODEL, signer
from support.room import Room

# An event loop holds a socket pair of its own; nothing here talks to anything.
pytestmark = pytest.mark.integration


def asked(room: Room, action: Action = Action.FREEZE, *, by: str = "dana", signed_by: str = "") -> Envelope:
    """Return a signed request that nobody submitted."""
    return sign(REQUEST_TYPE, room.request(action, by=by).to_bytes(), signer(signed_by or by))


def routes_of(room: Room, decisions: object = None) -> KeeperRoutes:
    """Return the operations of a keeper, as far as they are its own."""
    none = SimpleNamespace(routes={})
    return KeeperRoutes(room.keeper, none, none, none, decisions, room.clock, none, shards=none, keys=none)  # type: ignore[arg-type]


def events(room: Room, count: int) -> list[EventName]:
    return [read_entry(data).event for data in room.log.entries[-count:]]


def test_releases_are_refused_before_the_log_has_a_byte_of_it() -> None:
    async def run() -> None:
        room = await Room().furnish()
        dossier = await room.dossier(await room.ask(), RecipientKey())
        room.log.gate.clear()
        stopping = asyncio.create_task(stop(room.keeper, room.clock, asked(room)))
        await asyncio.sleep(0)
        assert MODEL in room.keeper.journal.ledger.frozen
        assert not stopping.done()
        release = asyncio.create_task(room.keeper.release(dossier))
        await asyncio.sleep(0)
        room.log.gate.set()
        with pytest.raises(ReleaseRefusedError) as refused:
            await release
        assert refused.value.reason == "model-frozen"
        recorded = await stopping
        assert recorded is not None
        assert events(room, 3) == [EventName.REQUEST_CREATED, EventName.MODEL_FROZEN, EventName.REFUSED]
        assert room.keeper.journal.durable[0] > recorded.index
        await room.restart()
        assert MODEL in room.keeper.journal.ledger.frozen

    asyncio.run(run())


def test_an_alarm_that_goes_on_ringing_fills_no_log() -> None:
    async def run() -> None:
        room = await Room().furnish()
        first = await asyncio.gather(*(stop(room.keeper, room.clock, asked(room)) for _ in range(50)))
        assert [one is not None for one in first] == [True, *[False] * 49]
        size = len(room.log.entries)
        assert await stop(room.keeper, room.clock, asked(room)) is None
        assert len(room.log.entries) == size

    asyncio.run(run())


@pytest.mark.parametrize("case", ["forged", "not-a-responder", "other-action"])
def test_who_may_not_freeze_freezes_nothing(case: str) -> None:
    async def run() -> None:
        room = await Room().furnish()
        envelope, error = {
            "forged": (asked(room, signed_by="sam"), SignatureError),
            "not-a-responder": (asked(room, by="rina"), ReleaseRefusedError),
            "other-action": (asked(room, Action.RESUME), UsageError),
        }[case]
        with pytest.raises(StrongroomError) as caught:
            await stop(room.keeper, room.clock, envelope)
        assert isinstance(caught.value, error), caught.value
        assert MODEL not in room.keeper.journal.ledger.frozen

    asyncio.run(run())


def test_a_suspended_responder_freezes_nothing() -> None:
    async def run() -> None:
        room = await Room().furnish()
        await room.people.suspend(PersonId("dana"), SuspensionCause.LEFT)
        with pytest.raises(StrongroomError):
            await stop(room.keeper, room.clock, asked(room))
        assert MODEL not in room.keeper.journal.ledger.frozen

    asyncio.run(run())


def test_a_stop_waits_for_nobody_who_looks_through_what_is_kept_and_one_looks_at_a_time() -> None:
    async def run() -> None:
        room = await Room().furnish()
        looking, most = list[int](), list[int]()
        begun, ending = threading.Event(), threading.Event()

        def find(_digest: Digest) -> None:
            looking.append(1)
            most.append(len(looking))
            begun.set()
            ending.wait(60)
            looking.pop()

        routes = routes_of(room, SimpleNamespace(find=find))
        digest = str(Digest.of(b"nowhere"))
        searches = [
            asyncio.create_task(routes.serve(Call(number, "decision", Fields({"digest": digest}, "call")), 0))
            for number in range(8)
        ]
        await asyncio.to_thread(begun.wait, 60)
        await stop(room.keeper, room.clock, asked(room))
        assert MODEL in room.keeper.journal.ledger.frozen
        assert looking == [1]
        ending.set()
        await asyncio.wait(searches)
        assert most == [1] * 8

    asyncio.run(run())


def test_a_stop_waits_behind_no_heap_of_questions() -> None:
    order: list[str] = []

    async def run() -> None:
        room = await Room().furnish()
        freeze = asked(room)
        await stop(room.keeper, room.clock, freeze)
        explain = room.keeper.explain

        def counted(dossier: Dossier) -> Verdict:
            order.append("question")
            return explain(dossier)

        room.keeper.explain = counted  # type: ignore[method-assign]
        routes = routes_of(room)
        server = UnixServer(routes.serve, admits={os.geteuid()})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "s"
            await server.start(path)
            asking, stopping = UnixClient(path), UnixClient(path)
            for client in (asking, stopping):
                await client.call("explain", dossier=Dossier(request=freeze).to_json())
            questions = [
                asyncio.create_task(asking.call("explain", dossier=Dossier(request=freeze).to_json()))
                for _ in range(200)
            ]
            # All of them are sent before it.
            await asyncio.sleep(0)
            await stopping.call("stop", request=freeze.to_json())
            order.append("stop")
            await asyncio.gather(*questions)
            await asking.close()
            await stopping.close()
            await server.stop()

    asyncio.run(run())
    assert order.count("question") == 202
    assert order.index("stop") < 20
