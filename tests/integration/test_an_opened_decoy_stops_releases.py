"""Broker, keeper, log writer, responder and kernel as they are: who opens a decoy gets nothing, and nobody else either.

The open is denied, releases are refused, the gate drops everything, and both records are durable.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from pytest_socket import socket_allow_hosts

from strongroom.core.envelope import Envelope
from strongroom.enclave.gate.errors import GateFrozenError
from strongroom.enclave.gate.wiring import Gate
from strongroom.responder.decoys import Decoys
from strongroom.responder.wiring import DECOYS
from support.deployment import MODEL, Deployment, signer
from support.forked import reap
from support.gates import PEER, inside, listen, need_namespaces, say, settings, two_namespaces
from support.responders import WARDEN, ResponderLab, need_fanotify, opens, plant, responder_lab

pytestmark = pytest.mark.integration
VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "sensors"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponderLab]:
    folder = tmp_path_factory.mktemp("responder")
    need_fanotify(folder)
    with responder_lab(folder, Deployment.found(folder / "home")) as made:
        yield made


def test_who_opens_a_decoy_stops_every_release(lab: ResponderLab) -> None:
    (decoy,) = plant(lab, "m-00007.floe")
    lab.start()
    try:
        assert not lab.frozen()
        size = lab.deployment.head().size
        assert opens(decoy)["errno"] == errno.EPERM
        (done,) = lab.done(1)
        assert done["failed"] == {}, done
        frozen = done["frozen"]
        assert isinstance(frozen, dict)
        told = frozen[MODEL]
        assert isinstance(told, dict)
        assert told["index"] == size + 1
        assert lab.frozen()
        guarding, first = lab.facts()[:2]
        assert set(guarding) == {"guarded"}
        assert (first["rule"], first["why"], first["source"]) == ("decoy-shard-opened", "sure", "guard")
        event = first["event"]
        assert isinstance(event, dict)
        assert event["path"] == str(decoy)
        assert "python" in str(event["exe"])
        assert event["uid"] == os.getuid()
        # People see it where they look such things up.
        assert lab.broker.caller("dana").get(f"/v1/requests/{told['request']}").status == 200
        # A second opening is denied too, and brings no second freeze into the log. What the incident has recorded of
        # itself comes there when it comes.
        assert opens(decoy)["errno"] == errno.EPERM
        second = lab.done(2)[1]
        assert (second["failed"], second["frozen"]) == ({}, {MODEL: {"request": ANY, "index": None}})
        lab.resume()
        assert not lab.frozen()
        assert opens(decoy)["errno"] == errno.EPERM
        lab.done(3)
        assert lab.frozen()
        lab.resume()
    finally:
        assert lab.stop() == 0, lab.errors()


def test_what_leaves_the_enclave_is_dropped_and_the_mark_holds(lab: ResponderLab) -> None:
    need_namespaces()
    socket_allow_hosts(["127.0.0.1", PEER, "169.254.77.2"], allow_unix_socket=True)
    (decoy,) = plant(lab, "gated.floe")
    made, state = settings("resp"), lab.folder / "gates"
    (lab.folder / "gate.json").write_text(json.dumps(made.to_json()))

    with two_namespaces(made):
        gate = Gate(made, state)
        gate.open()
        before = len([facts for facts in lab.facts() if "times" in facts]) if lab.state.exists() else 0
        gates = [{"settings": str(lab.folder / "gate.json"), "state": str(state), "models": [MODEL]}]
        lab.start(gates=gates)
        try:
            with inside(made.world, listen) as listener:
                inside(made.enclave, say)
                assert listener.recv(16) == b"x"
                assert opens(decoy)["errno"] == errno.EPERM
                done = lab.done(before + 1)[-1]
                assert done["failed"] == {}, done
                inside(made.enclave, say)
                with pytest.raises(TimeoutError):
                    listener.recv(16)
            with pytest.raises(GateFrozenError):
                gate.open()
        finally:
            assert lab.stop() == 0, lab.errors()
    lab.resume()


def test_beyond_its_limit_a_sensor_freezes_nothing_and_is_told(lab: ResponderLab) -> None:
    (decoy,) = plant(lab, "limited.floe")
    before = len(lab.facts())
    lab.start(freezes_an_hour=1)
    try:
        opens(decoy)
        lab.done(len([facts for facts in lab.facts() if "times" in facts]))
        while not lab.frozen():
            time.sleep(0.05)
        time.sleep(0.2)
        lab.resume()
        assert opens(decoy)["errno"] == errno.EPERM
        ends = time.monotonic() + 10
        while "limited" not in {facts.get("why") for facts in lab.facts()[before:]}:
            assert time.monotonic() < ends, lab.facts()[before:]
            time.sleep(0.05)
        assert not lab.frozen()
    finally:
        assert lab.stop() == 0, lab.errors()


def test_a_guard_that_stands_still_is_ended_told_and_replaced(lab: ResponderLab) -> None:
    (decoy,) = plant(lab, "hung.floe")
    before = len(lab.facts())
    lab.start(acting=[])
    try:
        assert lab.process is not None
        children = Path(f"/proc/{lab.process.pid}/task/{lab.process.pid}/children").read_text().split()
        (guard,) = (int(child) for child in children)
        os.kill(guard, signal.SIGSTOP)
        # Whoever opens meanwhile is let go once the guard is ended: it doesn't hang.
        began = time.monotonic()
        opens(decoy)
        assert time.monotonic() - began < 10
        ends = time.monotonic() + 20
        while "sensor-silent" not in {facts.get("rule") for facts in lab.facts()[before:]}:
            assert time.monotonic() < ends, lab.facts()[before:]
            time.sleep(0.05)
        while opens(decoy)["errno"] != errno.EPERM:
            assert time.monotonic() < ends
            time.sleep(0.1)
    finally:
        assert lab.stop() == 0, lab.errors()


def test_another_sensor_s_word_freezes_only_where_the_settings_say_so(lab: ResponderLab) -> None:
    plant(lab, "heard.floe")
    path = lab.folder / "tokens.sock"
    body = (VECTORS / "canarytokens.jsonl").read_bytes().splitlines()[0]
    sensors = [{"name": "tokens", "kind": "canarytokens", "socket": str(path), "user": os.getuid()}]
    for acting, why in (([], "sensor-may-not-act"), (["tokens"], "sure")):
        before = len(lab.facts())
        lab.start(sensors=sensors, acting=acting)
        try:
            with socket.socket(socket.AF_UNIX) as sender:
                sender.connect(str(path))
                sender.sendall(b"not a line of theirs\n" + body + b"\n")
            ends = time.monotonic() + 10
            while why not in {facts.get("why") for facts in lab.facts()[before:]}:
                assert time.monotonic() < ends, lab.facts()[before:]
                time.sleep(0.05)
            while acting and not lab.frozen():
                assert time.monotonic() < ends
                time.sleep(0.05)
            assert lab.frozen() == bool(acting)
            # What wasn't read is told as well.
            while "state-evicted" not in {facts.get("rule") for facts in lab.facts()[before:]}:
                assert time.monotonic() < ends, lab.facts()[before:]
                time.sleep(0.05)
        finally:
            assert lab.stop() == 0, lab.errors()
    lab.resume()


def test_a_decoy_that_somebody_takes_away_is_told_unless_it_was_taken_off_the_list(lab: ResponderLab) -> None:
    gone, rotated, last = plant(lab, "gone.floe", "rotated.floe", "last.floe")
    before, newest = len(lab.facts()), (lab.state / DECOYS).read_bytes()
    lab.start()
    try:
        gone.unlink()
        until_gone(lab, before, [gone])
        # Taken off as `decoy rm` does it: the list first.
        listed = Decoys.parse(Envelope.parse(newest).payload)
        left = tuple(one for one in listed.decoys if one.path != str(rotated))
        shorter = replace(listed, serial=listed.serial + 1, decoys=left).sign(signer(WARDEN))
        (lab.state / DECOYS).write_bytes(shorter.to_bytes())
        rotated.unlink()
        time.sleep(1.5)
        # A list of before this one, which knows nothing of it, is no excuse.
        older = replace(listed, serial=listed.serial - 1, decoys=()).sign(signer(WARDEN))
        (lab.state / DECOYS).write_bytes(older.to_bytes())
        last.unlink()
        until_gone(lab, before, [gone, last])
        assert not lab.frozen()
    finally:
        (lab.state / DECOYS).write_bytes(newest)
        assert lab.stop() == 0, lab.errors()


def until_gone(lab: ResponderLab, before: int, paths: list[Path]) -> None:
    """Wait until these decoys, and no other, were told to be gone."""
    ends = time.monotonic() + 20
    while True:
        events = [facts["event"] for facts in lab.facts()[before:] if facts.get("rule") == "decoy-gone"]
        told = [(event["path"], event["model"]) for event in events if isinstance(event, dict)]
        if len(told) >= len(paths):
            break
        assert time.monotonic() < ends, lab.facts()[before:]
        time.sleep(0.05)
    assert told == [(str(path), MODEL) for path in paths]


def test_a_list_that_was_taken_away_is_missed(lab: ResponderLab) -> None:
    plant(lab, "old.floe")
    before = (lab.state / DECOYS).read_bytes()
    plant(lab, "new.floe")
    lab.start()
    assert lab.stop() == 0, lab.errors()
    newest = (lab.state / DECOYS).read_bytes()
    for left in (before, b""):
        (lab.state / DECOYS).unlink()
        if left:
            (lab.state / DECOYS).write_bytes(left)
        with pytest.raises(AssertionError, match="decoys-rolled-back"):
            lab.start()
        ended(lab)
        (lab.state / DECOYS).write_bytes(newest)


def ended(lab: ResponderLab) -> None:
    """Let go of a responder that didn't start."""
    assert lab.process is not None
    reap(lab.process)
    lab.process = None


def test_a_list_that_somebody_else_wrote_is_refused(lab: ResponderLab) -> None:
    plant(lab, "listed.floe")
    made = Decoys(genesis=lab.deployment.genesis.digest).sign(signer("somebody"))
    (lab.state / DECOYS).write_bytes(made.to_bytes())
    with pytest.raises(AssertionError, match="signature"):
        lab.start()
    ended(lab)
