"""The real broker tells people who wait, and webhooks, what the log has; across kills, nothing is missed."""

from __future__ import annotations

import fcntl
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from click.testing import CliRunner

from simulators.receiver import Receiver, signature, silent
from strongroom.broker.adapters.webhooks import LOCK, WebhookFiles
from strongroom.broker.routes.notices import MOST_WAITING
from strongroom.broker.webhooks import Webhook
from strongroom.cli.main import main
from strongroom.core.canonical import Json
from support.brokers import RunningBroker, approval, broker, request

pytestmark = pytest.mark.integration
ROUNDS = 20


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningBroker]:
    with broker(tmp_path) as started:
        yield started


def measured(text: str) -> None:
    print(f"\n{text}")  # noqa: T201 - what was measured, for who looks


def items(answer: dict[str, Json], name: str) -> list[dict[str, Json]]:
    """Return a list of objects out of an answer."""
    found = answer[name]
    assert isinstance(found, list)
    return [item for item in found if isinstance(item, dict)]


def notify(running: RunningBroker, *arguments: str) -> dict[str, Json]:
    """Run ``strongroom notify`` on the broker's home."""
    result = CliRunner().invoke(main, ["notify", *arguments, "--home", str(running.home), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert isinstance(told, dict)
    return told


def hear(running: RunningBroker, receiver: Receiver, *kinds: str) -> str:
    """Add a receiver, wait until the broker knows it, and return its secret."""
    chosen = [word for kind in kinds for word in ("--kind", kind)]
    told = notify(running, "add", "pager", "--url", f"http://127.0.0.1:{receiver.port}/", *chosen)
    deadline = time.monotonic() + 60
    while not (running.home / "broker" / "webhooks" / "pager.place").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return str(told["secret"])


def test_a_waiting_person_is_told_of_a_new_request(running: RunningBroker) -> None:
    sam, dana = running.caller("sam"), running.caller("dana")
    place = sam.get("/v1/notices").json["after"]
    asked = request(running.genesis)
    heard: list[tuple[float, dict[str, Json]]] = []

    def wait() -> None:
        heard.append((0.0, sam.get(f"/v1/notices?after={place}&wait=20").json))
        heard[0] = (time.monotonic(), heard[0][1])

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    began = time.monotonic()
    index = dana.post("/v1/requests", {"request": asked.to_json()}).json["index"]
    waiting.join(20)
    at, answer = heard[0]
    measured(f"a waiting person is told {1000 * (at - began):.1f} ms after the request is sent")
    (notice,) = items(answer, "notices")
    assert notice == {
        "kind": "request-created",
        "index": index,
        "at": notice["at"],
        "priority": "normal",
        "request": str(asked.digest),
        "action": "freeze",
        "model": "atlas",
        "requester": "dana",
        "text": f"request-created: freeze of atlas, asked by dana; review with: strongroom approve {asked.digest}",
    }
    assert answer["after"] == index


def test_notices_are_for_people_and_their_queries_bounded(running: RunningBroker) -> None:
    assert running.caller("e1", enclave=True).get("/v1/notices").status == 403
    dana = running.caller()
    for query in ("wait=26", "wait=-1", "after=-1", "after=x", "request=x&after=0", "before=1", "after=0&wait=s3cret"):
        answer = dana.get(f"/v1/notices?{query}")
        assert answer.status == 400, query
        assert "s3cret" not in answer.text
    assert dana.get("/v1/notices?after=99999").status == 400


def test_one_person_can_not_take_every_place(running: RunningBroker) -> None:
    place = running.caller().get("/v1/notices").json["after"]
    callers = [running.caller() for _ in range(MOST_WAITING + 1)]
    statuses: list[int] = []

    def wait(number: int) -> None:
        statuses.append(callers[number].get(f"/v1/notices?after={place}&wait=3").status)

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(MOST_WAITING + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [200] * MOST_WAITING + [429]
    assert running.caller().get(f"/v1/notices?after={place}").status == 200


def test_a_stop_keeps_nobody_waiting(running: RunningBroker) -> None:
    sam = running.caller("sam")
    answered: list[int] = []
    with Receiver(silent) as receiver:
        hear(running, receiver, "request-created")
        asked = request(running.genesis)
        assert running.caller("dana").post("/v1/requests", {"request": asked.to_json()}).status == 200
        receiver.wait(1)
        place = sam.get("/v1/notices").json["after"]
        waiting = threading.Thread(target=lambda: answered.append(sam.get(f"/v1/notices?after={place}&wait=25").status))
        waiting.start()
        time.sleep(1)
        assert running.process is not None
        began = time.monotonic()
        running.process.terminate()
        waiting.join(60)
        assert running.process.wait(60) == 0
        # It waited for neither: the receiver has 15 seconds for its answer, and the person 25.
        assert time.monotonic() - began < 12
    assert answered == [200]


def test_a_webhook_is_told_within_the_moment(running: RunningBroker) -> None:
    times: list[float] = []
    dana = running.caller("dana")
    with Receiver() as receiver:
        secret = hear(running, receiver, "request-created")
        for number in range(ROUNDS):
            time.sleep(0.05)
            began = time.monotonic()
            assert dana.post("/v1/requests", {"request": request(running.genesis).to_json()}).status == 200
            times.append(1000 * (receiver.wait(number + 1)[-1].at - began))
        for got in receiver.got:
            assert got.headers["webhook-signature"] == signature(secret, got.headers, got.body)
            assert "T-1" not in got.body.decode()
    ordered = sorted(times)
    measured(
        f"from a request sent to its webhook received, {ROUNDS} times: median {median(times):.1f} ms, "
        f"most {ordered[-1]:.1f} ms"
    )


def test_nothing_is_missed_across_kills(running: RunningBroker) -> None:
    dana = running.caller("dana")
    with Receiver() as receiver:
        hear(running, receiver)
        expected = []
        for number in range(3):
            asked = request(running.genesis)
            expected.append(dana.post("/v1/requests", {"request": asked.to_json()}).json["index"])
            body: Json = {"envelope": approval(asked).to_json()}
            expected.append(dana.post(f"/v1/requests/{asked.digest}/approvals", body).json["index"])
            if number < 2:
                assert running.process is not None
                running.process.send_signal(signal.SIGKILL)
                running.process.wait(10)
                running.stop()
                running.start()
                dana = running.caller("dana")
        deadline = time.monotonic() + 60
        while {got.json["data"]["index"] for got in list(receiver.got)} != set(expected):
            assert time.monotonic() < deadline, (expected, [got.json["data"] for got in receiver.got])
            time.sleep(0.05)
        # Twice is allowed after a kill, under the same id; another id for the same thing isn't.
        ids = {got.headers["webhook-id"] for got in receiver.got}
        assert len(ids) == len(expected)
        assert {got.json["data"]["requester"] for got in receiver.got} == {"dana"}


def test_a_slow_webhook_slows_no_request(running: RunningBroker) -> None:
    dana = running.caller("dana")

    def took(count: int) -> float:
        times = []
        for _ in range(count):
            began = time.monotonic()
            assert dana.post("/v1/requests", {"request": request(running.genesis).to_json()}).status == 200
            times.append(1000 * (time.monotonic() - began))
        return median(times)

    took(5)
    without = took(30)
    with Receiver(silent) as receiver:
        hear(running, receiver)
        told = took(30)
        receiver.wait(1)
        assert len(receiver.got) == 1
    measured(f"a request takes {without:.2f} ms (median) without a webhook, {told:.2f} ms with one that hangs")
    assert told < 20 * without + 100


def test_a_list_that_can_not_be_read_keeps_the_broker_from_starting(running: RunningBroker) -> None:
    running.stop()
    (running.home / "broker" / "webhooks.toml").write_text('[[webhook]]\nname = "x"\n')
    with pytest.raises(
        AssertionError, match=r"WebhookConfigError: `webhooks.toml`: .*`webhooks.webhook\[0\].url` is missing"
    ):
        running.start()
    assert running.stop() == 1


def test_two_commands_that_change_the_list_wait_for_each_other(
    running: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one added, the other would else leave out when it writes the list."""
    lock, whole, held = running.home / "broker" / LOCK, WebhookFiles.webhooks, list[bool]()

    def read(files: WebhookFiles) -> tuple[Webhook, ...]:
        with lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(False)
            except BlockingIOError:
                held.append(True)
        return whole(files)

    with monkeypatch.context() as patched:
        patched.setattr(WebhookFiles, "webhooks", read)
        notify(running, "add", "pager", "--url", "https://hooks.example/")
        notify(running, "rm", "pager")
    assert held
    assert all(held)


def test_an_authority_that_has_no_end_is_refused(running: RunningBroker) -> None:
    chosen = ["--url", "https://hooks.example/", "--authority", "/dev/zero"]
    refused = CliRunner().invoke(main, ["notify", "add", "pager", *chosen, "--home", str(running.home), "--json"])
    assert json.loads(refused.output)["code"] == "usage"
    assert notify(running, "ls")["webhooks"] == []


def test_the_commands_add_list_try_and_remove(running: RunningBroker) -> None:
    with Receiver() as receiver:
        secret = hear(running, receiver, "model-frozen")
        (listed,) = items(notify(running, "ls"), "webhooks")
        assert listed["name"] == "pager"
        assert listed["kinds"] == ["model-frozen"]
        assert secret not in json.dumps(notify(running, "ls"))
        notify(running, "test", "pager")
        (got,) = receiver.wait(1)
        assert (got.json["type"], got.headers["webhook-signature"]) == (
            "test",
            signature(secret, got.headers, got.body),
        )
        kept = running.home / "broker" / "webhooks" / "pager.secret"
        assert kept.stat().st_mode & 0o777 == 0o600
        assert (running.home / "broker" / "webhooks.toml").stat().st_mode & 0o777 == 0o600
        again = ["notify", "add", "pager", "--url", "https://hooks.example/", "--home", str(running.home), "--json"]
        assert json.loads(CliRunner().invoke(main, again).output)["code"] == "conflict"
        assert kept.read_text().strip() == secret
        notify(running, "rm", "pager")
        assert not kept.exists()
        assert notify(running, "ls")["webhooks"] == []
        gone = CliRunner().invoke(main, ["notify", "test", "pager", "--home", str(running.home), "--json"])
        assert json.loads(gone.output)["code"] == "not-found"
