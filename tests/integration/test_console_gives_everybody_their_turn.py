"""The console's application alone, without a deployment: nobody's visits or slow forms take it from others."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlencode

import pytest

from strongroom.console import app as module
from strongroom.console.app import Console, make_app
from strongroom.console.door import IDLE_SECONDS, MAX_SESSIONS_OF_PERSON, SESSION_COOKIE, Client, Door, SignedIn
from strongroom.console.forms import FORM_TYPE
from strongroom.core.buckets import Rate
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import PersonId
from support.clocks import FixedClock

pytestmark = pytest.mark.integration
ORIGIN = "https://console.example"
HERE = Client(address="192.0.2.1", agent="a browser")
INSIDE = "https://192.0.2.80:8444"
MANY = 60
"""More than there are threads."""


class Broker:
    """What sessions and sign-ins ask. It holds up whoever it is told to, until it is told otherwise."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.asking = self.at_once = 0

    def ask(self, *_arguments: object) -> None:
        """Answer nobody, now or later."""
        self.asking += 1
        self.at_once = max(self.at_once, self.asking)
        assert self.go_on.wait(20)
        self.asking -= 1
        self.refuse()

    def refuse(self, *_arguments: object) -> None:
        """Answer nobody at once."""
        raise UnavailableError(f"no answer from `{INSIDE}`")


class Scene:
    """An application, and who is signed in."""

    def __init__(self, burst: int = 1000) -> None:
        self.text = ""
        self.clock, self.broker = FixedClock(1_800_000_000), Broker()
        numbers = iter(range(1000))
        self.door = Door(self.clock, lambda size: next(numbers).to_bytes(size, "big"))
        reception = SimpleNamespace(clock=self.clock, random_bytes=bytes, begin=self.broker.ask)
        self.app = make_app(
            Console(
                origin=ORIGIN,
                reception=cast("Any", reception),
                door=self.door,
                monotonic=lambda: 0.0,
                reader=cast("Any", None),
                note=lambda _event, _facts: None,
                visits=Rate(burst=burst),
            )
        )

    def sign_in(self, name: str, refresh: Callable[[], object]) -> str:
        """Let somebody in; returns their cookie."""
        signed_in = SignedIn(
            person=PersonId(name),
            keys=cast("Any", None),
            session=cast("Any", SimpleNamespace(refresh=refresh)),
            close=lambda: None,
            client=HERE,
            until=self.clock.at + 8 * 3600,
            form_secret=b"s" * 32,
            seen=self.clock.at,
        )
        return f"{SESSION_COOKIE}={self.door.enter(signed_in)}"

    async def call(self, path: str, cookie: str = "", *, receive: Callable[[], Awaitable[Any]] | None = None) -> int:
        """Make a visit, a form if ``receive`` brings one; returns the status."""
        told = [("host", ORIGIN.removeprefix("https://")), ("user-agent", HERE.agent), ("cookie", cookie)]
        told += [("origin", ORIGIN), ("content-type", FORM_TYPE)]
        scope = {
            "type": "http", "method": "GET" if receive is None else "POST", "path": path, "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in told], "scheme": "https",
            "client": (HERE.address, 1), "server": ("console.example", 443), "http_version": "1.1",
        }  # fmt: skip
        statuses: list[int] = []

        async def send(message: Any) -> None:
            statuses.extend([message["status"]] if "status" in message else [])
            self.text = message.get("body", b"").decode() or self.text

        await self.app(scope, receive or brings(b""), send)
        return statuses[0]


def brings(body: bytes) -> Callable[[], Awaitable[Any]]:
    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def while_others_wait(scene: Scene, others: Callable[[], Awaitable[int]], cookie: str) -> int:
    waiting = [asyncio.ensure_future(others()) for _ in range(MANY)]
    await asyncio.sleep(0)
    try:
        return await asyncio.wait_for(scene.call("/today", cookie), 10)
    finally:
        scene.broker.go_on.set()
        await asyncio.gather(*waiting)


def test_a_person_whose_visits_are_answered_slowly_holds_up_nobody_else() -> None:
    scene = Scene()
    dana, sam = scene.sign_in("dana", scene.broker.ask), scene.sign_in("sam", scene.broker.refuse)
    assert asyncio.run(while_others_wait(scene, lambda: scene.call("/today", dana), sam)) == 503


def test_a_person_takes_one_turn_and_one_share_in_however_many_browsers() -> None:
    scene = Scene()
    many = itertools.cycle([scene.sign_in("dana", scene.broker.ask) for _ in range(MAX_SESSIONS_OF_PERSON)])
    sam = scene.sign_in("sam", scene.broker.refuse)
    asyncio.run(while_others_wait(scene, lambda: scene.call("/today", next(many)), sam))
    assert scene.broker.at_once == 1
    scene = Scene(burst=2)
    scene.broker.go_on.set()
    two = [scene.sign_in("dana", scene.broker.ask) for _ in range(2)]
    assert [asyncio.run(scene.call("/today", cookie)) for cookie in two * 2] == [503, 503, 429, 429]


def test_strangers_whose_sign_ins_are_answered_slowly_hold_up_nobody_inside() -> None:
    scene = Scene()
    sam = scene.sign_in("sam", scene.broker.refuse)
    form = brings(urlencode({"person": "dana", "next": ""}).encode())
    assert asyncio.run(while_others_wait(scene, lambda: scene.call("/sign-in", receive=form), sam)) == 503


def test_one_address_begins_no_more_sign_ins_than_leave_the_broker_s_share_to_others() -> None:
    scene = Scene()
    scene.broker.go_on.set()
    form = brings(urlencode({"person": "dana", "next": ""}).encode())
    # Also from inside: a session is no way around it.
    cookies = ["", scene.sign_in("dana", scene.broker.refuse)] * MANY
    statuses = [asyncio.run(scene.call("/sign-in", cookie, receive=form)) for cookie in cookies]
    assert statuses == [503] * 60 + [429] * (2 * MANY - 60)


@pytest.mark.parametrize("path", ["/nowhere", "/sign-in", "/sign-in/nowhere.json", "/static/nowhere.js"])
def test_whoever_asks_for_what_is_no_page_is_told_to_wait_too(path: str) -> None:
    scene = Scene(burst=3)
    for cookie in ("", scene.sign_in("dana", scene.broker.refuse)):
        statuses = [asyncio.run(scene.call(path, cookie)) for _ in range(5)]
        assert 429 not in statuses[:3]
        assert statuses[3:] == [429, 429]


def test_the_files_that_a_page_brings_take_no_visit_from_who_is_inside() -> None:
    scene = Scene(burst=1)
    dana = scene.sign_in("dana", scene.broker.refuse)
    assert [asyncio.run(scene.call("/static/console.css", dana)) for _ in range(5)] == [200] * 5
    assert asyncio.run(scene.call("/today", dana)) == 503


def test_a_stranger_does_not_learn_addresses_inside() -> None:
    scene = Scene()
    scene.broker.go_on.set()
    form = brings(urlencode({"person": "dana", "next": ""}).encode())
    assert asyncio.run(scene.call("/sign-in", receive=form)) == 503
    assert "doesn&#39;t answer" in scene.text
    assert INSIDE not in scene.text
    # Who is inside reads the cause.
    asyncio.run(scene.call("/today", scene.sign_in("sam", scene.broker.refuse)))
    assert INSIDE in scene.text


def test_a_form_that_never_ends_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)

    async def drips() -> Any:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"a", "more_body": True}

    assert asyncio.run(asyncio.wait_for(Scene().call("/sign-in", receive=drips), 10)) == 400


def test_a_page_that_is_left_open_keeps_nobody_signed_in() -> None:
    scene = Scene()
    dana = scene.sign_in("dana", scene.broker.refuse)
    scene.clock.at += IDLE_SECONDS - 1
    # The page's script asks for its twin, again and again.
    assert asyncio.run(scene.call("/today.json", dana)) == 503
    scene.clock.at += 1
    assert asyncio.run(scene.call("/today.json", dana)) == 303
    sam = scene.sign_in("sam", scene.broker.refuse)
    for _ in range(2):
        scene.clock.at += IDLE_SECONDS - 1
        assert asyncio.run(scene.call("/today", sam)) == 503


def test_a_clock_that_was_set_back_keeps_nobody_signed_in() -> None:
    scene = Scene()
    dana = scene.sign_in("dana", scene.broker.refuse)
    scene.clock.at -= 3600
    assert asyncio.run(scene.call("/today.json", dana)) == 503
    scene.clock.at += IDLE_SECONDS
    assert asyncio.run(scene.call("/today.json", dana)) == 303
