"""Receivers of incidents over real HTTP: PagerDuty, Alertmanager's form, signed webhooks; told until they took it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from simulators.receiver import Received, Receiver, answering, signature, silent
from strongroom.broker.webhooks import WebhookConfigError
from strongroom.core.canonical import parse
from strongroom.core.errors import MalformedError
from strongroom.core.fields import reading
from strongroom.responder.adapters.case_files import CaseFiles
from strongroom.responder.adapters.telling import Teller, open_line
from strongroom.responder.cases import Case
from strongroom.responder.response_settings import Form, ResponseSettings
from strongroom.responder.response_settings import Receiver as Settings
from strongroom.response.entries import Happened
from strongroom.response.grading import Certainty, Severity
from strongroom.response.incident import Alert
from strongroom.response.subjects import Subject
from support.respondings import GENESIS, TestClock

pytestmark = pytest.mark.integration
SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()
ROUTING_KEY = "R0UT1NGKEY0000000000000000000000"


def receiver_of(folder: Path, port: int, form: Form) -> Settings:
    secret = folder / f"{form.value}.secret"
    secret.write_text(ROUTING_KEY if form is Form.PAGERDUTY else SECRET)
    return Settings(name=form.value, form=form, url=f"http://127.0.0.1:{port}/hook", secret=str(secret))


async def opened(folder: Path, clock: TestClock) -> Case:
    alert = Alert(
        rule="decoy-shard-opened",
        certainty=Certainty.SURE,
        subject=Subject.parse("model:atlas"),
        at=clock.now(),
        event=GENESIS,
    )
    store = CaseFiles(folder)
    return await Case.open(alert, Severity.CRITICAL, store=store, clock=clock, by="machine:warden", token=None, began=0)


def teller(folder: Path, port: int, *forms: Form, clock: TestClock) -> Teller:
    lines = [open_line(receiver_of(folder, port, form), clock) for form in forms]
    return Teller(lines, genesis=GENESIS, source="test", clock=clock, rest=0.0, chance=lambda: 0.0)


async def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("form", Form)
def test_each_receiver_gets_its_own_form(form: Form, tmp_path: Path) -> None:
    async def told(receiver: Receiver) -> None:
        clock = TestClock()
        case, telling = await opened(tmp_path, clock), teller(tmp_path, receiver.port, form, clock=clock)
        assert telling.told(case) is False
        telling.tell(case)
        await until(lambda: telling.told(case) is True)
        await telling.close()
        check(form, receiver.got[0], case.id)

    with Receiver() as receiver:
        asyncio.run(told(receiver))


def check(form: Form, got: Received, incident: str) -> None:
    body = got.json
    match form:
        case Form.PAGERDUTY:
            assert (body["routing_key"], body["dedup_key"], body["event_action"]) == (ROUTING_KEY, incident, "trigger")
            assert body["payload"]["severity"] == "critical"
        case Form.ALERTMANAGER:
            assert (body["version"], body["status"]) == ("4", "firing")
            assert body["alerts"][0]["labels"]["incident"] == incident
        case Form.WEBHOOK:
            assert got.headers["webhook-signature"] == signature(SECRET, got.headers, got.body)
            assert (body["type"], body["data"]["incident"]) == ("incident.opened", incident)


def test_a_receiver_that_fails_is_tried_again_under_the_same_id_and_holds_up_no_other(tmp_path: Path) -> None:
    async def told(bad: Receiver, good: Receiver) -> None:
        clock = TestClock()
        case = await opened(tmp_path, clock)
        lines = [
            open_line(receiver_of(tmp_path, bad.port, Form.WEBHOOK), clock),
            open_line(receiver_of(tmp_path, good.port, Form.ALERTMANAGER), clock),
        ]
        telling = Teller(lines, genesis=GENESIS, source="test", clock=clock, rest=0.0, chance=lambda: 0.0)
        telling.tell(case)
        await until(lambda: bool(good.got) and len(bad.got) >= 2)
        bad.answer = answering(200)
        await until(lambda: case.told.get("webhook") == case.incident.size)
        assert len({one.headers["webhook-id"] for one in bad.got}) == 1
        assert len(good.got) == 1
        await telling.close()

    with Receiver(answering(503)) as bad, Receiver() as good:
        asyncio.run(told(bad, good))


def test_of_a_flood_the_newest_standing_is_told_and_a_restart_tells_the_rest(tmp_path: Path) -> None:
    async def told(receiver: Receiver) -> None:
        clock = TestClock()
        case = await opened(tmp_path, clock)
        telling = teller(tmp_path, receiver.port, Form.WEBHOOK, clock=clock)
        telling.tell(case)
        await until(lambda: bool(receiver.got))
        for _ in range(50):
            await case.note(Happened.NOTE_ADDED, {"note": str(GENESIS)}, by="person:dana")
            telling.tell(case)
        # It was killed while its receiver said nothing: nothing is known to be taken.
        await telling.close()
        (stored,) = CaseFiles(tmp_path).load()[0]
        assert stored.told == {}
        again = Case.read(stored, store=CaseFiles(tmp_path), clock=clock, by="machine:warden")
        receiver.answer = answering(200)
        telling = teller(tmp_path, receiver.port, Form.WEBHOOK, clock=clock)
        telling.tell(again)
        await until(lambda: again.told.get("webhook") == 51)
        assert len(receiver.got) == 2
        await telling.close()

    with Receiver(silent) as receiver:
        asyncio.run(told(receiver))


def test_with_nobody_to_tell_nobody_is_said_to_be_told(tmp_path: Path) -> None:
    async def told() -> None:
        clock = TestClock()
        case, telling = await opened(tmp_path, clock), teller(tmp_path, 1, clock=clock)
        telling.tell(case)
        assert telling.told(case) is None

    asyncio.run(told())


def test_a_secret_that_isn_t_one_refuses_the_start(tmp_path: Path) -> None:
    wanted = receiver_of(tmp_path, 1, Form.WEBHOOK)
    Path(wanted.secret).write_text("hello")
    with pytest.raises(WebhookConfigError):
        open_line(wanted, TestClock())
    Path(wanted.secret).unlink()
    with pytest.raises(WebhookConfigError):
        open_line(wanted, TestClock())


WHOLE = {"v": 1, "receivers": [], "platforms": {}, "users": []}
RECEIVER = {"name": "team", "form": "webhook", "url": "https://hooks.example/x", "secret": "/s"}


@pytest.mark.parametrize(
    "wrong",
    [
        {**WHOLE, "more": 1},
        {**WHOLE, "users": [True]},
        {**WHOLE, "platforms": {"w1": ["tpm-1"]}},
        {**WHOLE, "platforms": {"W1": []}},
        {**WHOLE, "receivers": [{**RECEIVER, "name": "log"}]},
        {**WHOLE, "receivers": [RECEIVER, RECEIVER]},
        {**WHOLE, "receivers": [{**RECEIVER, "url": "http://hooks.example/x"}]},
        {**WHOLE, "receivers": [{**RECEIVER, "secret": "relative"}]},
        {**WHOLE, "receivers": [{**RECEIVER, "form": "fax"}]},
    ],
)
def test_settings_are_read_strictly(wrong: dict[str, object]) -> None:
    def read(value: object) -> ResponseSettings:
        with reading(parse(json.dumps(value).encode()), "response") as fields:
            return ResponseSettings.read(fields)

    assert read(WHOLE) == ResponseSettings()
    with pytest.raises(MalformedError):
        read(wrong)
