"""The identity listener asks for no certificate and gives logins alone; a session ends when its person is out."""

from __future__ import annotations

import json
import sqlite3
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from strongroom.broker import standing
from strongroom.broker.app import openapi
from strongroom.broker.identity_listener import CERTIFICATES, CHALLENGES, LOGIN_ROUTES, MAX_LOGIN_BODY, TERMS
from strongroom.broker.login import LoginError
from strongroom.client.adapters.session_files import new_session
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.login import LoginApi, open_session
from strongroom.core.canonical import Json
from strongroom.core.errors import DeniedError
from strongroom.personnel.roster import Person
from support.brokers import Answer, Caller, RunningBroker, broker
from support.forked import completed
from support.identity import adopt, body_of, log_in, no_provider, session_caller, stranger, wallet
from support.logins import SAM, listed

pytestmark = pytest.mark.integration
MARK: Final = "s3cret-Marker"


def with_logins(home: Path) -> Path:
    """Let a home's broker take logins without a provider."""
    (home / "broker").mkdir(mode=0o700)
    (home / "broker" / "oidc.toml").write_text("required = false\nsession = 3600\n")
    return home


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    home = with_logins(tmp_path_factory.mktemp("home"))
    with broker(home, identity=True) as started:
        yield started
        assert MARK not in (home / "broker.err").read_text()


@pytest.fixture(scope="module")
def dana(running: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> WalletFolder:
    holder = wallet(running, tmp_path_factory.mktemp("wallets") / "dana")
    adopt(running, [owner(holder), listed("sam", SAM)])
    return holder


def owner(holder: WalletFolder) -> Person:
    """Return the wallet's owner as a roster lists them."""
    return replace(listed("dana", SAM), keys=(holder.identity.key,))


def test_who_has_no_certificate_is_heard(running: RunningBroker) -> None:
    caller = stranger(running)
    told = body_of(caller.get(TERMS))
    assert told == {"genesis": str(running.genesis.digest), "session": 3600, "provider": None}
    assert caller.connection.sock.version() == "TLSv1.3"


def test_tls_1_2_is_refused(running: RunningBroker) -> None:
    caller = stranger(running)
    caller.connection._context.maximum_version = ssl.TLSVersion.TLSv1_2  # type: ignore[attr-defined]  # the library's
    with pytest.raises(OSError, match=r"(?i)protocol"):
        caller.get(TERMS)


def patient(caller: Caller, method: str, path: str) -> Answer:
    """Call, and again as soon as the gate takes more calls: there are more routes than one second's share."""
    while (answer := caller.call(method, path)).status == 429:
        time.sleep(0.2)
    return answer


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[RunningBroker]:
    """A broker of its own, for a test that uses up what an address may ask."""
    with broker(with_logins(tmp_path), identity=True) as started:
        yield started


def test_no_route_of_the_api_is_reached_by_this_door(apart: RunningBroker) -> None:
    running, paths = apart, openapi()["paths"]
    assert len(paths) > 15
    insiders = running.context(running.authority().issue_person("dana", at=int(time.time())), name="insider")
    inside = stranger(running)
    inside.connection.close()
    for context in (running.context(None), insiders):
        caller = type(inside)(running.identity_port, context)
        for path, item in paths.items():
            for method in item:
                answer = patient(caller, method.upper(), path.replace("{", "x").replace("}", "x"))
                assert (answer.status, answer.json["code"]) == (404, "not-found"), path
        for path in (
            "/",
            "/login",
            "/login/v1",
            "/login/v1/terms/",
            "/login/v1/../../v1/state",
            "//v1/state",
            "/login/v1/terms%2f..",
            "/openapi.json",
            "/docs",
            "/scim/v2/Users",
            "/ssf/events",
        ):
            assert patient(caller, "GET", path).status == 404, path
        caller.connection.close()


def test_no_login_is_served_by_the_other_door(running: RunningBroker) -> None:
    caller = running.caller()
    for method, path in LOGIN_ROUTES:
        assert caller.call(method, path).status == 404


def test_the_listener_is_off_unless_asked_for(tmp_path: Path) -> None:
    with broker(tmp_path) as plain:
        assert plain.identity_port == 0


def test_other_methods_and_types_are_refused(running: RunningBroker) -> None:
    caller = stranger(running)
    answer = caller.call("DELETE", TERMS)
    assert (answer.status, answer.json["code"]) == (405, "method-not-allowed")
    for kind in ("text/plain", "application/x-www-form-urlencoded", MARK, "application/jsonx"):
        answer = caller.call("POST", CHALLENGES, raw=b"{}", headers={"content-type": kind})
        assert (answer.status, answer.json["code"]) == (415, "media-type-unknown")
    caller.call("POST", CHALLENGES, raw=b"{}", headers={"content-type": "application/json; charset=utf-8"})


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(running: RunningBroker, *, declared: bool) -> None:
    caller = stranger(running)
    body = b'{"x": "' + b"A" * MAX_LOGIN_BODY + b'"}'
    if declared:
        answer = caller.call("POST", CERTIFICATES, raw=body)
        assert (answer.status, answer.json["code"]) == (413, "body-too-large")
    else:
        headers = {"content-type": "application/json"}
        caller.connection.request("POST", CERTIFICATES, body=iter([body[:40000]] * 3), headers=headers)
        assert caller.connection.getresponse().status == 413
    caller.connection.close()


def test_a_session_opens_the_main_door_and_no_other_persons(running: RunningBroker, dana: WalletFolder) -> None:
    opened = log_in(running, dana)
    assert 3500 < opened.until - time.time() <= 3600
    assert session_caller(running, dana).get("/v1/state").status == 200


def test_a_challenge_is_spent_once(running: RunningBroker, dana: WalletFolder) -> None:
    sent: list[tuple[str, str, Json]] = []
    caller = stranger(running)

    class Recorder:
        def call(
            self, method: str, path: str, *, body: Json = None, query: Mapping[str, str | int] | None = None
        ) -> Json:
            assert query is None
            sent.append((method, path, body))
            return dict(body_of(caller.call(method, path, body)))

    open_session(
        LoginApi(Recorder()),
        dana,
        authority=dana.read("ca.crt"),
        request=new_session("dana").request,
        authenticate=no_provider,
        now=int(time.time()),
    )
    method, path, body = sent[-1]
    again = caller.call(method, path, body)
    assert (again.status, again.json["code"]) == (403, "login-denied")


def test_a_stranger_gets_no_session(running: RunningBroker, dana: WalletFolder, tmp_path: Path) -> None:
    assert dana.identity.person == "dana"
    with pytest.raises(DeniedError) as caught:
        log_in(running, wallet(running, tmp_path / "mallory", "dana"))
    assert caught.value.reason == LoginError.code


def test_a_suspension_closes_the_door_before_the_certificate_ends(
    running: RunningBroker, dana: WalletFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    log_in(running, dana)
    caller = session_caller(running, dana)
    assert caller.get("/v1/state").status == 200
    socket = caller.connection.sock
    running.keeper.suspended.add("dana")
    began = time.monotonic()
    try:
        while (answer := caller.get("/v1/health/live")).status == 200 and caller.get("/v1/state").status == 200:
            assert time.monotonic() - began < 20
            time.sleep(0.01)
        took = time.monotonic() - began
        answer = caller.get("/v1/state")
        assert (answer.status, answer.json["code"]) == (403, "barred")
        # The connection is the same, and so is its certificate, which still holds.
        assert caller.connection.sock is socket
        with pytest.raises(DeniedError) as caught:
            log_in(running, dana)
        assert caught.value.reason == "login-not-in-standing"
    finally:
        running.keeper.suspended.clear()
    with capsys.disabled():
        sys.stdout.write(f"\n  suspension to closed door: {took * 1000:.0f} ms\n")
    # What the promise of a second stands on: it asks so often, and the next request is refused.
    assert standing.LOOK_SECONDS <= 0.5


def test_who_left_by_the_roster_is_out_too(tmp_path: Path) -> None:
    with broker(tmp_path) as running:
        adopt(running, [listed("dana", SAM, active=False)])
        caller = running.caller("dana")
        ends = time.monotonic() + 60
        while caller.get("/v1/state").status == 200 and time.monotonic() < ends:
            time.sleep(0.05)
        assert caller.get("/v1/state").json["code"] == "barred"
        # And from the first request on, after a restart.
        running.stop()
        running.start()
        assert running.caller("dana").get("/v1/state").json["code"] == "barred"
        # A root holder isn't of the roster, and comes in.
        assert running.caller("root-1").get("/v1/state").status == 200


def test_a_store_that_hides_the_roster_lets_nobody_in_and_keeps_the_suspended_out(tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir(mode=0o700)
    (tmp_path / "broker" / "oidc.toml").write_text("required = false\n")
    with broker(tmp_path, identity=True) as running:
        holder = wallet(running, tmp_path / "wallet")
        adopt(running, [owner(holder)])
        log_in(running, holder)
        running.stop()
        with sqlite3.connect(running.database) as database:
            database.execute("DELETE FROM documents")
        running.start(identity=True)
        with pytest.raises(Exception, match="roster"):
            log_in(running, holder)
        running.keeper.suspended.add("sam")
        sam = running.caller("sam")
        ends = time.monotonic() + 60
        while sam.get("/v1/health/live").status == 200 and time.monotonic() < ends:
            if sam.get("/v1/genesis").status == 403:
                break
            time.sleep(0.05)
        assert sam.get("/v1/genesis").json["code"] == "barred"


def test_nothing_that_is_sent_comes_back(running: RunningBroker) -> None:
    caller = stranger(running)
    envelope = {"payloadType": MARK, "payload": "e30=", "signatures": [{"keyid": MARK, "sig": "AAAA"}]}
    for path in (CHALLENGES, CERTIFICATES):
        for raw in (
            MARK.encode(),
            b'{"%b": 1}' % MARK.encode(),
            b'{"login": 1.5, "%b": 2}' % MARK.encode(),
            json.dumps({"login": envelope, "certificate_request": "AAAA", "id_token": MARK}).encode(),
            json.dumps({"login": MARK, "certificate_request": MARK, "id_token": MARK}).encode(),
        ):
            answer = caller.call("POST", path, raw=raw)
            assert 400 <= answer.status < 500, answer.text
            assert MARK not in answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"


def test_a_flood_from_one_address_is_told_to_wait(apart: RunningBroker) -> None:
    caller = stranger(apart)
    statuses = [caller.get(TERMS).status for _ in range(300)]
    assert 429 in statuses
    time.sleep(0.5)
    assert caller.get(TERMS).status == 200


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose broker once ran and doesn't now; each test writes its settings anew."""
    home = tmp_path_factory.mktemp("stopped")
    with broker(home) as started:
        started.stop()
        yield home


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("issuer = 1", "issuer"),
        ('issuer = "http://login.example"\nclient_id = "x"', "https://"),
        ('issuer = "https://login.example"\nclient_id = "x"\nclient_secret = "s"', "doesn't know"),
        ('issuer = "https://login.example"\nclient_id = "x"\nrequired = false', "issuer"),
        ("", "issuer"),
        ("required = false\nsession = 86400", "session"),
        ("no toml", "TOML"),
        ('issuer = "https://login.example"\nclient_id = "x"\njwks_file = "none.json"', "none.json"),
        ('issuer = "https://login.example"\nclient_id = "x"\nalgorithms = ["HS256"]', "algorithms"),
        ('issuer = "https://login.example"\nclient_id = "x"\nscopes = ["profile"]', "scopes"),
    ],
)
def test_wrong_settings_stop_the_start(stopped: Path, settings: str, said: str) -> None:
    (stopped / "broker" / "oidc.toml").write_text(settings)
    options = ["--port", "0", "--identity-port", "0"]
    ended = completed("strongroom.broker.wiring", "--home", str(stopped), *options)
    assert ended.returncode != 0
    assert ended.stdout == ""
    assert said in ended.stderr.splitlines()[-1]


def test_without_settings_logins_are_refused_in_words(tmp_path: Path) -> None:
    with broker(tmp_path, identity=True) as running:
        for method, path in LOGIN_ROUTES:
            answer = stranger(running).call(method, path, {} if method == "POST" else None)
            assert (answer.status, answer.json["code"]) == (403, "login-not-configured")
