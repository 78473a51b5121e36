"""The console's parts that need no server: forms of any bytes, tokens, cookies' sessions, and pages of long lists."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.console.adapters.console_folder import NAMES, load_names
from strongroom.console.door import (
    IDLE_SECONDS,
    MAX_PENDING,
    MAX_SESSIONS,
    MAX_SESSIONS_OF_PERSON,
    PENDING_SECONDS,
    Client,
    Door,
    Pending,
    SignedIn,
)
from strongroom.console.errors import ForeignFormError, FormError, SignInFailedError
from strongroom.console.forms import FORM_TYPE, MAX_FORM, check_origin, check_token, read_form, token_for
from strongroom.console.visits import ROWS, page_of
from strongroom.console.wiring import Places, make_console
from strongroom.console.words import short, size
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.ids import PersonId
from support.clocks import FixedClock

if TYPE_CHECKING:
    from strongroom.client.service import Session
    from strongroom.client.wallet import SecurityKeys

HERE = Client(address="192.0.2.1", agent="a browser")
ORIGIN = "https://console.example"


@given(st.binary(max_size=400), st.sampled_from([FORM_TYPE, f"{FORM_TYPE}; charset=utf-8", "text/plain", ""]))
def test_a_form_of_any_bytes_is_read_or_refused(data: bytes, kind: str) -> None:
    with suppress(FormError):
        assert all(isinstance(value, str) for value in read_form(data, kind).values())


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=8))
def test_a_form_says_what_was_sent(fields: dict[str, str]) -> None:
    from urllib.parse import urlencode  # noqa: PLC0415 - what a browser does, beside what is tested

    assert read_form(urlencode(fields).encode("utf-8"), FORM_TYPE) == fields


@pytest.mark.parametrize("data", [b"a=1&a=2", b"a", b"&&", b"a=%ff", b"x=" + b"y" * MAX_FORM])
def test_forms_that_can_be_read_in_two_ways_are_refused(data: bytes) -> None:
    with pytest.raises(FormError):
        read_form(data, FORM_TYPE)


def test_a_token_is_good_for_one_session_and_one_address() -> None:
    secret, other = b"s" * 32, b"o" * 32
    check_token(secret, "/a", {"csrf": token_for(secret, "/a")})
    for wrong in ({}, {"csrf": ""}, {"csrf": token_for(secret, "/b")}, {"csrf": token_for(other, "/a")}):
        with pytest.raises(ForeignFormError):
            check_token(secret, "/a", wrong)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": f"{ORIGIN}:444"},
        {"origin": "http://console.example"},
        {"origin": ORIGIN, "sec-fetch-site": "cross-site"},
        {"origin": ORIGIN, "sec-fetch-site": "none"},
    ],
)
def test_a_form_whose_origin_is_not_said_or_another_is_refused(headers: dict[str, str]) -> None:
    check_origin({"origin": ORIGIN}, ORIGIN)
    with pytest.raises(ForeignFormError):
        check_origin(headers, ORIGIN)


def _pending(clock: FixedClock) -> Pending:
    return Pending(
        genesis=Digest.of(b"genesis"),
        person=PersonId("dana"),
        challenge=b"c",
        keys=None,
        session_key=b"k",
        request=b"r",
        client=HERE,
        until=clock.at + PENDING_SECONDS,
        errand=None,
    )


def _door(clock: FixedClock) -> Door:
    number = iter(range(10**6))
    return Door(clock, lambda size: next(number).to_bytes(size, "big"))


def test_a_sign_in_is_answered_once_in_time_and_by_whoever_began_it() -> None:
    clock = FixedClock(1000)
    door = _door(clock)
    token = door.begin(_pending(clock))
    with pytest.raises(SignInFailedError):
        door.pending(token, replace(HERE, agent="another"))
    with pytest.raises(SignInFailedError):
        door.pending("made up", HERE)
    assert door.take(token, HERE).person == "dana"
    with pytest.raises(SignInFailedError):
        door.take(token, HERE)
    late = door.begin(_pending(clock))
    clock.at += PENDING_SECONDS
    with pytest.raises(SignInFailedError):
        door.pending(late, HERE)


def test_a_flood_of_sign_ins_is_bounded() -> None:
    clock = FixedClock(1000)
    door = _door(clock)
    tokens = [door.begin(_pending(clock)) for _ in range(MAX_PENDING + 10)]
    with pytest.raises(SignInFailedError):
        door.pending(tokens[0], HERE)
    door.pending(tokens[-1], HERE)


def test_a_flood_of_sign_ins_from_one_address_ends_its_own_alone() -> None:
    clock = FixedClock(1000)
    door = _door(clock)
    other = replace(HERE, address="192.0.2.2")
    kept = door.begin(replace(_pending(clock), client=other))
    for _ in range(2 * MAX_PENDING):
        door.begin(_pending(clock))
    assert door.pending(kept, other).client == other


def test_a_sign_in_that_was_answered_does_not_come_back() -> None:
    clock = FixedClock(1000)
    door = _door(clock)
    token = door.begin(_pending(clock))
    further = replace(door.pending(token, HERE), id_token="t")
    door.take(token, HERE)
    with pytest.raises(SignInFailedError):
        door.go_on(token, further)
    with pytest.raises(SignInFailedError):
        door.pending(token, HERE)


def _signed_in(name: str, at: int, close: Callable[[], None]) -> SignedIn:
    return SignedIn(
        person=PersonId(name),
        keys=cast("SecurityKeys", None),
        session=cast("Session", None),
        close=close,
        client=HERE,
        until=at + 10 * IDLE_SECONDS,
        form_secret=b"s",
        seen=at,
    )


def test_sessions_that_are_over_are_closed_though_nobody_comes_back_to_them() -> None:
    clock = FixedClock(1000)
    door = _door(clock)
    closed: list[str] = []
    door.enter(_signed_in("dana", clock.at, lambda: closed.append("dana")))
    clock.at += IDLE_SECONDS
    door.enter(_signed_in("sam", clock.at, lambda: closed.append("sam")))
    assert closed == ["dana"]


def test_who_signs_in_again_and_again_ends_their_own_sessions_alone() -> None:
    clock = FixedClock(1000)
    door = _door(clock)
    closed: list[int] = []
    sam = door.enter(_signed_in("sam", clock.at, lambda: closed.append(-1)))
    tokens = [
        door.enter(_signed_in("dana", clock.at, lambda number=number: closed.append(number)))  # type: ignore[misc]
        for number in range(MAX_SESSIONS)
    ]
    assert closed == [*range(MAX_SESSIONS - MAX_SESSIONS_OF_PERSON)]
    assert door.find(tokens[0], HERE) is None
    assert door.find(tokens[-1], HERE) is not None
    assert door.find(sam, HERE) is not None


def test_names_of_nobodys_credentials_are_the_same_after_a_restart(tmp_path: Path) -> None:
    first = load_names(tmp_path, os.urandom)
    assert load_names(tmp_path, os.urandom) == first
    (tmp_path / NAMES).write_bytes(first[:-1])
    with pytest.raises(MalformedError):
        load_names(tmp_path, os.urandom)


@pytest.mark.parametrize(
    "origin",
    ["http://localhost:8445", "https://localhost:8445/", "https://Localhost", "https://localhost:443", "localhost", ""],
)
def test_an_origin_that_no_browser_would_send_is_refused_at_the_start(tmp_path: Path, origin: str) -> None:
    places = Places(broker="https://127.0.0.1:1", identity="https://127.0.0.1:2", origin=origin)
    with pytest.raises(UsageError, match="isn't an origin"):
        make_console(tmp_path, places, FixedClock(1000))


@given(st.text(max_size=50))
def test_a_made_up_token_is_nobodys(token: str) -> None:
    assert _door(FixedClock(1000)).find(token, HERE) is None


@given(st.sets(st.text(min_size=1, max_size=6), max_size=3 * ROWS))
def test_a_long_list_is_shown_whole_page_by_page(names: set[str]) -> None:
    items, after = sorted(names), ""
    seen: list[str] = []
    while True:
        shown, after = page_of(items, str, after)
        assert len(shown) <= ROWS
        seen += shown
        if not after:
            break
    assert seen == items


@given(st.integers(min_value=0, max_value=10**20))
def test_sizes_are_written_in_a_unit(bits: int) -> None:
    assert size(bits).split()[1] in {"bytes", "kB", "MB", "GB", "TB", "PB"}


def test_ids_are_cut_and_short_names_are_not() -> None:
    assert short("sha256:" + "a" * 64) == "a" * 12 + "…"
    assert short("dana") == "dana"
