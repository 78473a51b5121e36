"""Lines that others recorded from osquery, Wazuh and Canarytokens are read as what they tell, or counted by kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from strongroom.detection.sensors.readers import READERS
from support.vectors import vectors_folder

SHIPPED = Path(__file__).resolve().parent / "sensors"
STARTED = {"event": "host:process:started", "host": "w1", "uid": 1002}
OPENED = {"event": "host:login:opened", "host": "w1", "person": "dana", "method": "ssh"}
FAILED = {"event": "identity:login:failed", "host": "w1", "person": "root", "client": "192.0.2.7"}
USED = {"event": "identity:credential:used", "decoy": True, "client": "192.0.2.7"}
EXPECTED: dict[str, list[Mapping[str, object] | str]] = {
    "osquery": [
        "a file that was CREATED",
        {**STARTED, "exe": "/usr/bin/python3"},
        {**STARTED, "exe": "/usr/bin/bash"},
        "bpf_socket_events",
        "pack_it-compliance_mounts: removed",
        "pack_osquery-monitoring_schedule",
        "pack_fleet_50: snapshot",
    ],
    "wazuh": [
        OPENED,
        "rule 5402",
        # A session that sudo opened is no login, though the rule's group says so.
        "rule 5501",
        "rule 533",
        {**FAILED, "person": "postgres", "cause": "wazuh-5710"},
        {**FAILED, "cause": "wazuh-5716"},
        {**FAILED, "cause": "wazuh-5720"},
        "a change of inode, mtime alone",
        OPENED,
    ],
    "canarytokens": [
        {**USED, "credential": "0", "client": "127.0.0.1"},
        {**USED, "credential": "debugtoken"},
        {**USED, "credential": "Website Accessed"},
    ],
}


@pytest.mark.parametrize("sensor", EXPECTED)
def test_recorded_lines_are_read_as_what_they_tell(sensor: str) -> None:
    read = READERS[sensor]()
    for line, wanted in zip(
        (SHIPPED / f"{sensor}-recorded.jsonl").read_bytes().splitlines(), EXPECTED[sensor], strict=True
    ):
        told = read(line)
        if isinstance(wanted, str):
            assert (told.events, told.unknown) == ((), wanted)
        else:
            assert told.events == ({**wanted, "source": sensor},)


@pytest.mark.parametrize("sensor", EXPECTED)
def test_lines_that_may_not_stand_here_are_read_too(sensor: str) -> None:
    """``sensors/NAME.jsonl`` of the vectors made by others: none is refused, and not all are passed over."""
    file = vectors_folder("sensors") / f"{sensor}.jsonl"
    if not file.is_file():
        pytest.skip(f"no recorded lines `{file.name}` among the vectors")
    read = READERS[sensor]()
    told = [read(line) for line in file.read_bytes().splitlines() if line.strip()]
    assert any(one.events for one in told)
    assert all(one.events or one.unknown for one in told)
