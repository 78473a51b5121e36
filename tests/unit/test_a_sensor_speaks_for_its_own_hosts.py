"""A sensor that speaks for several hosts is heard about those that the settings name, and about no other."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.detection.sensors.hosts import read_wazuh
from strongroom.responder.acting import Outcome
from strongroom.responder.adapters.line_socket import LineSocket
from strongroom.responder.decoys import Decoys
from strongroom.responder.health import Health
from strongroom.responder.sensing.wiring import Senses
from strongroom.responder.settings import SensorSocket
from unit.test_hostile_events_break_no_responder import SETTINGS, taking

pytestmark = pytest.mark.integration  # an event loop holds a socket pair of its own
MANAGER = SensorSocket(
    name="wazuh", kind="wazuh", socket="/run/w.sock", user=os.getuid(), silent_seconds=0, hosts=("w1", "w2", "w3")
)
ALONE = replace(MANAGER, hosts=())
DECOY = "/weights/decoy.floe"


def changed(agent: str | None) -> bytes:
    told = {"rule": {"id": "550"}, "syscheck": {"event": "modified", "path": "/etc/x", "sha256_after": "bb"}}
    return json.dumps(told if agent is None else {**told, "agent": {"name": agent}}).encode()


def told(tmp_path: Path, sensor: SensorSocket, story: Callable[[Senses], None]) -> list[Outcome]:
    found: list[Outcome] = []

    async def run() -> None:
        responder, record, heard = taking(tmp_path)
        settings = replace(SETTINGS, sensors=(sensor,), watched=("/weights/real.floe",))
        decoys, guarded = Decoys(genesis=Digest.of(b"g")), frozenset({DECOY})
        story(Senses(settings, decoys, None, responder, Health({}, 0.0), guarded))  # type: ignore[arg-type]
        await responder.rest()
        record.close()
        found.extend(heard)

    asyncio.run(run())
    return found


def hosts(found: list[Outcome]) -> Counter[str]:
    return Counter(str(one.decision.alert.event["host"]) for one in found)


def take(senses: Senses, *agents: str | None) -> None:
    for agent in agents:
        for event in read_wazuh(changed(agent)).events:
            senses.taken(event, "wazuh")


def test_each_event_counts_for_the_host_that_a_manager_names(tmp_path: Path) -> None:
    found = told(tmp_path, MANAGER, lambda senses: take(senses, "w1", "w2", "W3"))
    assert hosts(found) == {"w1": 1, "w2": 1, "w3": 1}
    assert {one.decision.alert.subject for one in found} == {"host:w1", "host:w2", "host:w3"}


def test_a_sensor_of_this_host_speaks_for_no_other(tmp_path: Path) -> None:
    assert hosts(told(tmp_path, ALONE, lambda senses: take(senses, "w2"))) == {"w1": 1}


@pytest.mark.parametrize("agent", ["w9", "", None, "w1 ", "w1\0"])
def test_a_host_that_is_not_listed_is_never_taken_for_another(tmp_path: Path, agent: str | None) -> None:
    def story(senses: Senses) -> None:
        with pytest.raises(MalformedError, match="settings don't name"):
            take(senses, agent)

    assert told(tmp_path, MANAGER, story) == []


def test_another_host_s_file_is_no_decoy_of_ours_and_its_logins_are_none_here(tmp_path: Path) -> None:
    def story(senses: Senses) -> None:
        for host in ("w2", "w1"):
            senses.taken({"event": "host:file:opened", "path": DECOY, "host": host, "decoy": True}, "wazuh")
            senses.taken({"event": "host:login:opened", "person": host, "method": "ssh", "host": host}, "wazuh")

    found = told(tmp_path, MANAGER, story)
    rules = {(one.decision.alert.rule, str(one.decision.alert.event["host"])) for one in found}
    assert rules == {("decoy-shard-opened", "w1"), ("login-past-the-deployment", "w1")}


def test_what_is_said_of_hosts_that_are_not_listed_is_counted(tmp_path: Path) -> None:
    place = tmp_path / "w.sock"
    found: list[Outcome] = []

    async def run() -> int:
        responder, record, heard = taking(tmp_path / "record")
        settings, decoys = replace(SETTINGS, sensors=(MANAGER,)), Decoys(genesis=Digest.of(b"g"))
        senses = Senses(settings, decoys, None, responder, Health({}, 0.0), frozenset())  # type: ignore[arg-type]
        socket = LineSocket(
            "wazuh", os.getuid(), read_wazuh, lambda event: senses.taken(event, "wazuh"), lambda: senses.heard("wazuh")
        )
        await socket.start(place)
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(b"".join(changed(agent) + b"\n" for agent in ("w9", "w2", "w8")))
        writer.write_eof()
        # It hangs up when all of it was read.
        assert await reader.read() == b""
        writer.close()
        await socket.stop()
        await responder.rest()
        record.close()
        found.extend(heard)
        return socket.missed

    assert asyncio.run(run()) == 2
    assert hosts(found) == {"w2": 1}
