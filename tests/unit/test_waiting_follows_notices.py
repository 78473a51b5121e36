"""Whoever waits for approvals asks again when the log has something new, and doesn't wait past the request's end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from strongroom.cli.request import notice_json, notice_line, watch
from strongroom.client.api import NOTICE_SECONDS, BrokerApi
from strongroom.client.service import Session
from strongroom.client.told import NoticePage
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.errors import DeniedError, MalformedError, PendingError, UnavailableError
from support.clocks import FixedClock

AT = 1_795_471_717
REQUEST = Digest.of(b"request")
MISSING: Json = {"reason": "quorum-not-met", "remedy": "one more approval"}


def told(index: int, **other: Json) -> dict[str, Json]:
    """Return a notice as the broker tells it."""
    return {
        "kind": "request-approved",
        "index": index,
        "at": "2026-11-23T22:08:37Z",
        "priority": "normal",
        "request": str(REQUEST),
        "action": "seal",
        "model": "atlas",
        "requester": "dana",
        "text": "look",
        **other,
    }


class Server:
    """Answers notices and explanations as told, in order, and notes the queries."""

    def __init__(self, pages: list[list[dict[str, Json]]], reasons: list[list[Json]] | None = None) -> None:
        self.pages = pages
        self.reasons = reasons or []
        self.queries: list[dict[str, str | int]] = []
        self.end = 7

    def call(self, _method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None) -> Json:
        assert body is None
        if path.endswith("/explanation"):
            others = self.reasons.pop(0)
            return {"allowed": not others, "checks": [], "others": others}
        self.queries.append(dict(query or {}))
        page: list[dict[str, Json]] = []
        if "after" in self.queries[-1]:
            if not self.pages:
                raise UnavailableError("gone")
            page = self.pages.pop(0)
            self.end += 1
        return {"notices": [*page], "after": self.end}


def waited(server: Server, *, expires: int = AT + 3600) -> list[str]:
    """Wait; returns what was told meanwhile."""
    said: list[str] = []
    session = Session(BrokerApi(server), None, FixedClock(AT))  # type: ignore[arg-type]  # waiting needs no wallet
    request: Any = SimpleNamespace(digest=REQUEST, expires=expires)
    session.wait_for_approvals(request, told=said.append)
    return said


def test_it_asks_the_keeper_again_when_something_was_recorded() -> None:
    server = Server([[told(8)], [], [told(9)]], [[MISSING], [MISSING], [MISSING], []])
    assert waited(server) == ["one more approval"]
    about = {"request": str(REQUEST)}
    assert server.queries == [
        {"wait": 0},
        {"wait": NOTICE_SECONDS, "after": 7, **about},
        # The broker may not have stored yet what the log has: soon again, once.
        {"wait": 1, "after": 8, **about},
        {"wait": NOTICE_SECONDS, "after": 9, **about},
    ]


def test_nothing_recorded_before_the_first_look_is_lost() -> None:
    # The place is taken before the keeper is asked, so an approval in between is behind it.
    server = Server([[told(8)]], [[MISSING], []])
    waited(server)
    assert server.queries[0] == {"wait": 0}
    assert server.queries[1]["after"] == 7


def test_it_does_not_wait_past_the_requests_end() -> None:
    expired: Json = {"reason": "request-expired", "remedy": ""}
    server = Server([[]], [[MISSING], [expired]])
    with pytest.raises(PendingError, match="expired"):
        waited(server, expires=AT + 3)
    assert server.queries[1]["wait"] == 3


def test_a_refusal_that_approvals_can_not_mend_ends_it() -> None:
    with pytest.raises(DeniedError):
        waited(Server([[]], [[MISSING], [MISSING, {"reason": "request-denied", "remedy": ""}]]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda notice: notice.pop("text"),
        lambda notice: notice.update(button="approve"),
        lambda notice: notice.update(text="x" * 600),
        lambda notice: notice.update(text="\x1b[2J"),
        lambda notice: notice.update(request="sha256:00"),
        lambda notice: notice.update(index=-1),
    ],
)
def test_a_notice_of_another_form_is_refused(spoil: Callable[[dict[str, Json]], object]) -> None:
    notice = told(8)
    spoil(notice)
    with pytest.raises(MalformedError):
        BrokerApi(Server([[notice]])).notices(7)


def test_a_place_never_goes_back() -> None:
    server = Server([[]])
    server.end = 3
    with pytest.raises(MalformedError):
        BrokerApi(server).notices(7)


def test_a_line_for_a_terminal_carries_nothing_that_it_acts_on() -> None:
    page: NoticePage = BrokerApi(Server([[told(8, priority="page", text="a\u202eb")]])).notices(7)
    assert notice_line(page.notices[0]) == "2026-11-23T22:08:37Z  PAGE  a\\u202eb"
    assert "text" not in notice_json(page.notices[0])


@pytest.mark.parametrize("as_json", [False, True])
def test_watch_prints_each_notice_once_as_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, as_json: bool
) -> None:
    server = Server([[told(8), told(9, kind="person-suspended", request=None, action=None)], [], [told(10)]])

    class Opened:
        def __enter__(self) -> Any:
            return SimpleNamespace(api=BrokerApi(server))

        def __exit__(self, *_exc: object) -> None:
            return

    monkeypatch.setattr("strongroom.cli.request.session", lambda _wallet: Opened())
    result = CliRunner().invoke(watch, ["--as", str(tmp_path), *(["--json"] if as_json else [])])
    assert isinstance(result.exception, UnavailableError)
    lines = result.output.splitlines()
    assert len(lines) == 3
    if as_json:
        assert [json.loads(line)["index"] for line in lines] == [8, 9, 10]
        assert json.loads(lines[1])["request"] is None
    assert [query.get("after") for query in server.queries] == [None, 7, 8, 9, 10]
