"""The console against strangers: other origins' forms, planted and stolen sessions, other people's keys."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from strongroom.client.wallet import MAX_SECURITY_KEYS
from strongroom.console.adapters.connections import MAX_OF_ADDRESS
from strongroom.console.door import PENDING_COOKIE, SESSION_COOKIE
from strongroom.console.headers import HEADERS
from strongroom.keys.recipient import RecipientKey
from support.consoles import RunningConsole, console, random_token

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    with console(tmp_path_factory.mktemp("console")) as running:
        yield running


def test_nobody_sees_a_page_without_a_session(live: RunningConsole) -> None:
    stranger = live.visitor()
    for path in ("/today", "/people", "/audit/0.json", "/requests/new"):
        answer = stranger.get(path)
        assert (answer.status, answer.headers["location"].partition("?")[0]) == (303, "/sign-in")
    assert stranger.get("/nowhere").status == 404


def test_every_answer_carries_the_hard_headers(live: RunningConsole) -> None:
    stranger = live.visitor()
    for path in ("/sign-in", "/today", "/nowhere", "/static/console.js", "/static/console.css"):
        headers = stranger.get(path).headers
        assert {name: headers.get(name) for name, _value in HEADERS} == dict(HEADERS), path
        assert "server" not in headers


def test_a_session_that_was_planted_opens_nothing(live: RunningConsole) -> None:
    dana = live.visitor()
    planted = random_token()
    dana.cookies[SESSION_COOKIE] = planted
    dana.sign_in()
    assert dana.cookies[SESSION_COOKIE] != planted
    thief = live.visitor()
    thief.cookies[SESSION_COOKIE] = planted
    assert thief.get("/today").status == 303


def test_a_stolen_session_ends_in_another_browser(live: RunningConsole) -> None:
    dana = live.inside()
    thief = live.visitor()
    thief.agent = "another browser"
    thief.cookies = dict(dana.cookies)
    assert thief.get("/today").status == 303
    assert dana.get("/today").status == 303


def test_signing_out_ends_the_session(live: RunningConsole) -> None:
    dana = live.visitor()
    page = dana.sign_in()
    kept = dict(dana.cookies)
    assert dana.post(page, "/sign-out").headers["location"] == "/sign-in"
    dana.cookies = kept
    assert dana.get("/today").status == 303


def test_cookies_are_host_only_and_strict(live: RunningConsole) -> None:
    begun = live.visitor().call("POST", "/sign-in", {"person": "dana", "next": ""})
    (cookie,) = begun.cookies
    assert cookie.startswith(f"{PENDING_COOKIE}=__Host-"[: len(PENDING_COOKIE) + 1])
    for word in ("httponly", "secure", "samesite=strict", "path=/"):
        assert word in cookie.lower()
    assert "domain" not in cookie.lower()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_of_another_origin_is_refused(live: RunningConsole, headers: dict[str, str]) -> None:
    answer = live.visitor().call("POST", "/sign-in", {"person": "dana", "next": ""}, headers)
    assert answer.status == 403
    assert "foreign-form" in answer.text


def test_a_form_without_this_sessions_token_is_refused(live: RunningConsole) -> None:
    dana, sam = live.visitor(), live.visitor("sam")
    dana.sign_in()
    page = sam.sign_in()
    others = page.forms()["/sign-out"]["fields"]["csrf"]
    for token in ("", others, "é"):
        assert dana.call("POST", "/requests/new", {"csrf": token}).status == 403
    # A token is good for one address alone.
    own = dana.get("/today").forms()["/sign-out"]["fields"]["csrf"]
    assert dana.call("POST", "/requests/new", {"csrf": own}).status == 403


def test_another_host_name_is_not_served(live: RunningConsole) -> None:
    answer = live.visitor().call("GET", "/sign-in", headers={"Host": "elsewhere.example"})
    assert answer.status == 421


@pytest.mark.parametrize(
    "wanted", ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere", "/today/../x", "today", "/today\n"]
)
def test_a_sign_in_sends_nobody_elsewhere(live: RunningConsole, wanted: str) -> None:
    dana = live.visitor()
    begun = dana.call("POST", "/sign-in", {"person": "dana", "next": wanted})
    page = dana.follow(begun)
    answer = dana.post(page, "/sign-in/key", next=wanted)
    assert (answer.status, answer.headers["location"]) == (303, "/today")


def test_another_persons_key_signs_nobody_in(live: RunningConsole) -> None:
    dana = live.visitor()
    begun = dana.call("POST", "/sign-in", {"person": "dana", "next": ""})
    form = dana.follow(begun).forms()["/sign-in/key"]
    answer = dana.call("POST", "/sign-in/key", dana.signed(form, by="sam"))
    assert answer.status == 403
    assert "sign-in-failed" in answer.text
    assert "sign-in refused" in (live.folder.parent / "console.err").read_text()
    # It was answered: the same challenge isn't signed a second time.
    assert dana.call("POST", "/sign-in/key", dana.signed(form)).status == 403


def test_a_signature_of_one_login_opens_no_other(live: RunningConsole) -> None:
    dana, again = live.visitor(), live.visitor()
    first = dana.follow(dana.call("POST", "/sign-in", {"person": "dana", "next": ""})).forms()["/sign-in/key"]
    again.follow(again.call("POST", "/sign-in", {"person": "dana", "next": ""}))
    answer = again.call("POST", "/sign-in/key", dana.signed(first))
    assert answer.status == 403
    assert "sign-in-failed" in answer.text


def test_a_signature_that_another_origins_page_asked_for_is_refused(live: RunningConsole) -> None:
    dana = live.visitor()
    form = dana.follow(dana.call("POST", "/sign-in", {"person": "dana", "next": ""})).forms()["/sign-in/key"]
    # The key itself signs for every name below its relying party's, at any port.
    for origin in ("https://elsewhere.localhost", "https://localhost:1", "https://localhost"):
        answer = dana.call("POST", "/sign-in/key", dana.signed(form, origin=origin))
        assert answer.status == 400
        assert "another origin" in answer.text
        form = dana.follow(dana.call("POST", "/sign-in", {"person": "dana", "next": ""})).forms()["/sign-in/key"]


def test_made_up_signatures_do_not_tell_which_credentials_exist(live: RunningConsole) -> None:
    def answers(name: str) -> set[tuple[int, str]]:
        found = set()
        for place in range(MAX_SECURITY_KEYS):
            visitor = live.visitor(name)
            begun = visitor.call("POST", "/sign-in", {"person": name, "next": ""})
            form = visitor.follow(begun).forms()["/sign-in/key"]
            credential = str(form["told"]["data-credentials"]).split()[place]
            made = visitor.signed(form, by="dana") | {"credential": credential, "signature": "AAAA"}
            answer = visitor.call("POST", "/sign-in/key", made)
            found.add((answer.status, answer.text))
        return found

    assert len(answers("dana") | answers("ghost")) == 1


def test_a_stranger_does_not_learn_who_is_in_the_roster(live: RunningConsole) -> None:
    def asked(name: str) -> list[str]:
        visitor = live.visitor(name)
        begun = visitor.call("POST", "/sign-in", {"person": name, "next": ""})
        return str(visitor.follow(begun).forms()["/sign-in/key"]["told"]["data-credentials"]).split()

    assert [len(one) for one in asked("dana")] == [len(one) for one in asked("ghost")]
    assert asked("ghost") == asked("ghost")
    assert asked("ghost") != asked("another-ghost")


def test_forms_of_other_shapes_are_refused(live: RunningConsole) -> None:
    dana = live.visitor()
    for form in ({}, {"person": "dana"}, {"person": "dana", "next": "", "more": "1"}, {"person": "../x", "next": ""}):
        assert dana.call("POST", "/sign-in", form).status == 400
    answer = dana.call("POST", "/sign-in", {"person": "d" * 70_000, "next": ""})
    assert answer.status == 400
    json_form = {"Content-Type": "application/json"}
    assert dana.call("POST", "/sign-in", {"person": "dana", "next": ""}, json_form).status == 400
    assert dana.call("PUT", "/sign-in").status == 404


def test_an_approval_counts_only_as_its_signers(live: RunningConsole) -> None:
    request = live.occupied.ask_export(RecipientKey())
    path = f"/requests/{request.digest.value.hex()}"
    sam = live.inside("sam")
    form = sam.get(path).forms()[f"{path}/approve"]
    answer = sam.call("POST", f"{path}/approve", sam.signed(form, by="rina"))
    assert answer.status == 403
    # What was signed as a denial is no approval.
    denial = sam.get(path).forms()[f"{path}/deny"]
    signed = sam.signed(denial) | {"csrf": form["fields"]["csrf"]}
    assert sam.call("POST", f"{path}/approve", signed).status == 422
    assert sam.get(f"{path}.json").json["approved_by"] == []


def test_who_asks_too_often_is_told_to_wait(live: RunningConsole) -> None:
    stranger = live.visitor()
    statuses = [stranger.once("GET", "/sign-in").status for _ in range(90)]
    assert statuses.count(429) > 5
    # Who is signed in has a share of their own.
    dana = live.inside()
    [stranger.once("GET", "/sign-in") for _ in range(90)]
    assert dana.once("GET", "/today").status == 200


def test_one_address_takes_no_more_than_its_share_of_the_places(live: RunningConsole) -> None:
    def connect(source: str) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", live.port), timeout=10, source_address=(source, 0))
        return live.context.wrap_socket(plain, server_hostname="localhost")

    def answered(connection: ssl.SSLSocket) -> bool:
        try:
            connection.sendall(f"GET /sign-in HTTP/1.1\r\nHost: localhost:{live.port}\r\n\r\n".encode())
            return connection.recv(9) == b"HTTP/1.1 "
        except OSError:
            return False

    with ExitStack() as opened:
        held = [opened.enter_context(connect("127.0.0.2")) for _ in range(MAX_OF_ADDRESS)]
        assert answered(held[0])
        assert not answered(opened.enter_context(connect("127.0.0.2")))
        # Those that were there stay, and whoever comes from elsewhere is served.
        assert answered(held[1])
        assert answered(opened.enter_context(connect("127.0.0.3")))
