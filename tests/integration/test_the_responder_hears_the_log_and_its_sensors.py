"""The responder as it runs: it follows the log from where it was, hears its sensors, and its own silence is seen.

After a crash no alert is told twice, and none is left out. Without a heartbeat the keeper says so in the log.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.access.policy import DeadMan
from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, PersonId
from strongroom.detection.adapters.audit_netlink import AuditRecords, AuditUnavailableError
from strongroom.release.lease import LeaseAsk
from strongroom.responder.decoys import DecoyModel, Decoys
from strongroom.responder.wiring import DECOYS, PLACE
from support.custodians import entries_of
from support.deployment import MODEL, Deployment, signer
from support.responders import WARDEN, ResponderLab, responder_lab

pytestmark = pytest.mark.integration
VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "sensors"
LURE = ModelId("minilm-next")
SECRET = "a-path-that-nobody-guesses-0123456789"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponderLab]:
    folder = tmp_path_factory.mktemp("hearing")
    deployment = Deployment.found(folder / "home")
    watched = DeadMan(responders=(PersonId(WARDEN),), max_age_seconds=10)
    deployment.policy = replace(deployment.policy, dead_man=watched)
    with responder_lab(folder, deployment) as made:
        lure = DecoyModel(name=LURE, model=MODEL, planted=int(time.time()))
        made.state.mkdir(mode=0o700)
        envelope = Decoys(genesis=deployment.genesis.digest, models=(lure,)).sign(signer(WARDEN))
        (made.state / DECOYS).write_bytes(envelope.to_bytes())
        yield made


def until(found: Callable[[], object], lab: ResponderLab, *, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < ends, (lab.errors(), lab.facts()[-3:])
        time.sleep(0.1)


def alerts(lab: ResponderLab, rule: str) -> list[dict[str, Json]]:
    return [facts for facts in lab.facts() if facts.get("rule") == rule and "event" in facts]


def indexes(lab: ResponderLab) -> list[object]:
    """Return the entries that a decoy model's alerts are about."""
    events = [facts["event"] for facts in alerts(lab, "decoy-model-asked-for")]
    return [event["index"] for event in events if isinstance(event, dict)]


def logged(lab: ResponderLab, event: EventName) -> int:
    return sum(entry.event is event for entry in entries_of(lab.deployment))


def test_the_log_is_followed_from_where_it_was_and_nothing_is_told_twice(lab: ResponderLab) -> None:
    lab.start(acting=["log"])
    # Whoever names a decoy model in a request stops the model that it stands for.
    lab.deployment.request(Action.FREEZE, model=LURE)
    until(lab.frozen, lab)
    lab.done(1)
    (first,) = alerts(lab, "decoy-model-asked-for")
    assert (first["source"], first["why"], first["freezes"]) == ("log", "sure", [MODEL])
    lab.resume()
    lab.kill()
    # What happens while it is down is found when it is back; what was told before isn't told again.
    lab.deployment.request(Action.FREEZE, model=LURE)
    lab.start(acting=["log"])
    until(lambda: len(indexes(lab)) == 2 and lab.frozen(), lab)
    lab.resume()
    place = (lab.state / PLACE).read_bytes()
    until(lambda: (lab.state / PLACE).read_bytes() != place, lab)
    lab.kill()
    # As if the crash had come before the place was kept: the record knows what was told.
    (lab.state / PLACE).write_bytes(place)
    lab.start(acting=["log"])
    time.sleep(1.5)
    assert len(indexes(lab)) == len(set(map(str, indexes(lab)))) == 2
    assert not lab.frozen()
    assert lab.stop() == 0, lab.errors()


def renewal(lab: ResponderLab) -> str:
    """Return why a lease that nobody was given isn't renewed: whether somebody watches is asked first."""
    ask = LeaseAsk(use=1, recipient=Digest.of(b"nobody's"), serial=1, nonce=bytes(32))
    request = lab.deployment.request(Action.FREEZE)
    with pytest.raises(StrongroomError) as refused:
        lab.deployment.call("renew", request=request.to_json(), proof=None, **ask.to_json())
    return refused.value.reason


def post(path: str, secret: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("POST", f"/{secret}", body)
    status = connection.getresponse().status
    connection.close()
    return status


def kernel_audit() -> bool:
    try:
        AuditRecords().close()
    except AuditUnavailableError as error:
        print(f"without the kernel's audit records: {error.message}")  # noqa: T201 - says what wasn't tried
        return False
    return True


def test_webhooks_are_heard_and_a_silent_sensor_ends_the_heartbeat(lab: ResponderLab) -> None:
    hook, lines = str(lab.folder / "hook.sock"), str(lab.folder / "falco.sock")
    secret = lab.folder / "hook.secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET + "\n")
    lab.start(
        webhooks=[{"name": "tokens", "kind": "canarytokens", "address": hook, "secret": str(secret)}],
        sensors=[{"name": "falco", "kind": "falco", "socket": lines, "user": os.getuid(), "silent_seconds": 1}],
        kernel_audit=kernel_audit(),
    )
    body = (VECTORS / "canarytokens.jsonl").read_bytes().splitlines()[0]
    assert post(hook, "a-path-that-somebody-guessed-0123456789", body) == 404
    assert post(hook, SECRET, b"not JSON") == 400
    assert post(hook, SECRET, body) == 204
    until(lambda: alerts(lab, "decoy-credential-used"), lab)
    until(lambda: alerts(lab, "sensor-silent"), lab)
    assert alerts(lab, "sensor-silent")[0]["subject"] == "sensor:falco"
    until(lambda: logged(lab, EventName.RESPONDER_SILENT), lab)
    assert renewal(lab) == "responder-silent"
    heard = logged(lab, EventName.RESPONDER_HEARD)
    with socket.socket(socket.AF_UNIX) as sender:
        sender.connect(lines)

        def spoken() -> bool:
            with suppress(BlockingIOError):
                sender.sendall(json.dumps({"output_fields": {"evt.type": "connect"}}).encode() + b"\n")
            return logged(lab, EventName.RESPONDER_HEARD) > heard

        until(spoken, lab)
        assert renewal(lab) == "lease-unknown"
    assert lab.stop() == 0, lab.errors()
