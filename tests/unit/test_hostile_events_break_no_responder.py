"""What a sensor may write, whoever took it over, breaks neither the record nor the responder that reads it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.ids import ModelId, model_id
from strongroom.detection.detector import Detector
from strongroom.detection.engine import Engine
from strongroom.detection.sensors.readers import READERS
from strongroom.detection.wiring import linear_regex, shipped_pack
from strongroom.responder.acting import Outcome, Responder, Stopped
from strongroom.responder.adapters.record_file import RecordFile, read_record
from strongroom.responder.answering.wiring import load_response
from strongroom.responder.deciding import Decider
from strongroom.responder.decoys import Decoys
from strongroom.responder.health import Health
from strongroom.responder.limits import FreezeLimits
from strongroom.responder.record import FIRST, MAX_LINE, event_json, record_line
from strongroom.responder.sensing.wiring import Senses
from strongroom.responder.settings import MAX_MODELS, ResponderSettings
from support.clocks import FixedClock

AT = 1_795_000_000
MODELS = tuple(model_id(f"m{number:03}{'x' * 60}") for number in range(MAX_MODELS))
SETTINGS = ResponderSettings(
    host="w1",
    models=MODELS,
    watched=(),
    readers=(),
    gates=(),
    sensors=(),
    acting=("falco",),
    freezes_an_hour=6,
)
HOSTILE: dict[str, object] = {
    "event": "host:file:opened",
    "decoy": True,
    **{f"field{number}": ["\x01" * 512] * 8 for number in range(40)},
}


class Stops:
    """Freezes everything."""

    async def stop(self, model: ModelId) -> Stopped:
        return Stopped(request=Digest.of(model.encode()), index=1 << 40)

    async def stored(self, _stopped: Stopped) -> None:
        return


def taking(folder: Path) -> tuple[Responder, RecordFile, list[Outcome]]:
    """Return a responder with a record on the disk, and what it told."""
    record, told = RecordFile(folder), list[Outcome]()
    decider = Decider(
        Detector(Engine(shipped_pack(), regex=linear_regex), lambda _person: ""),
        decoys={},
        models=MODELS,
        acting=("falco",),
        limits=FreezeLimits(6),
    )
    made = Responder(decider, Stops(), {}, record, clock=FixedClock(AT), ticks=lambda: 1, told=told.append)
    return made, record, told


@pytest.mark.integration  # an event loop holds a socket pair of its own
@pytest.mark.parametrize(
    "event",
    [HOSTILE, {"event": "host:file:opened", "decoy": True, "host": "\ud800" * 600, "model": "\ud800"}],
    ids=["long", "half a letter"],
)
def test_a_record_that_holds_a_hostile_event_is_read_again(tmp_path: Path, event: dict[str, object]) -> None:
    async def story() -> None:
        responder, record, told = taking(tmp_path)
        assert responder.take(event, "falco")
        await responder.rest()
        assert told
        assert not any(one.failed for one in told)
        record.close()

    asyncio.run(story())
    # Whoever writes one event mustn't keep the responder from its next start.
    RecordFile(tmp_path).close()
    assert len(read_record(tmp_path)) >= 2


def test_a_line_that_nobody_could_read_back_is_never_written() -> None:
    event = event_json({"event": "x", "last": "kept", **{f"f{n}": ("\x01" * 512,) * 8 for n in range(28)}, "end": "e"})
    assert event["last"] == "kept"
    assert event["end"] == "e"
    assert len(record_line(FIRST, 0, {"event": event})) < MAX_LINE // 2
    long: dict[str, Json] = {"event": "x" * MAX_LINE}
    with pytest.raises(MalformedError):
        record_line(FIRST, 0, long)


@pytest.mark.integration  # an event loop holds a socket pair of its own
def test_an_opening_without_a_path_is_taken(tmp_path: Path) -> None:
    line = b'{"name": "pack_query_file_events", "action": "added", "columns": {"action": "OPENED"}}'
    read = READERS["osquery"]()(line)

    async def story() -> None:
        responder, record, _told = taking(tmp_path)
        decoys = Decoys(genesis=Digest.of(b"g"))
        senses = Senses(SETTINGS, decoys, None, responder, Health({}, 0.0), frozenset())  # type: ignore[arg-type]
        for event in read.events:
            senses.taken(event, "falco")
        await responder.rest()
        record.close()

    assert read.events
    asyncio.run(story())


@pytest.mark.integration  # an event loop holds a socket pair of its own
@pytest.mark.parametrize(("watched", "node", "alerts"), [(("/w/i",), "", 1), ((), "", 0), (("/w/i",), "node=w9 ", 0)])
def test_who_logs_in_to_a_host_that_holds_weights_is_told(
    tmp_path: Path, watched: tuple[str, ...], node: str, alerts: int
) -> None:
    said = 'op=login acct="dana" exe="/usr/sbin/sshd" hostname=? addr=192.0.2.7 terminal=ssh res=success'
    read = READERS["auditd"]()(f"{node}type=USER_LOGIN msg=audit(1.0:1): pid=1 uid=0 msg='{said}'".encode())
    told: list[Outcome] = []

    async def story() -> None:
        responder, record, heard = taking(tmp_path)
        settings, decoys = replace(SETTINGS, watched=watched), Decoys(genesis=Digest.of(b"g"))
        senses = Senses(settings, decoys, None, responder, Health({}, 0.0), frozenset())  # type: ignore[arg-type]
        for event in read.events:
            senses.taken(event, "auditd")
        await responder.rest()
        record.close()
        told.extend(heard)

    asyncio.run(story())
    assert [one.decision.alert.rule for one in told] == ["login-past-the-deployment"] * alerts


def test_settings_that_aren_t_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        load_response(tmp_path / "none.json")
