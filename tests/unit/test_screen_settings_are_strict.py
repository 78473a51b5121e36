"""What decides about screens: settings read strictly, the worst word, and windows that leave nothing unjudged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError
from strongroom.enclave.gateway.screen_settings import (
    MAX_SCREENS,
    ClassifierSettings,
    HttpScreenSettings,
    LabelRule,
    ScreenSettings,
)
from strongroom.enclave.gateway.screens import Category, Direction, OutputWindow, Ruling, Verdict, worst
from strongroom.enclave.gateway.suspension import BlockLimit

BOTH: Final = frozenset(Direction)
ROOT: Final = Path(__file__).resolve().parents[2]


@given(st.lists(st.text(max_size=12), max_size=12), st.integers(1, 20), st.integers(0, 20))
def test_every_short_word_is_judged_as_a_whole_before_its_end_goes_out(
    pieces: list[str], size: int, overlap: int
) -> None:
    window, passages, out = OutputWindow(size=size, overlap=overlap), [], ""
    for piece in pieces:
        window.push(piece)
        if window.full:
            passages.append(window.passage)
            out += window.release()
    if not window.empty:
        passages.append(window.passage)
        out += window.release()
    text = "".join(pieces)
    assert out == text
    for length in range(1, min(overlap + 1, len(text)) + 1):
        for at in range(len(text) - length + 1):
            assert any(text[at : at + length] in passage for passage in passages)


@given(st.lists(st.sampled_from(list(Ruling)), max_size=6))
def test_the_worst_word_counts(rulings: list[Ruling]) -> None:
    verdicts = [Verdict(one, None if one is Ruling.ALLOW else Category.OTHER) for one in rulings]
    order = list(Ruling)
    assert worst(verdicts).ruling is order[max((order.index(one) for one in rulings), default=0)]


def test_a_verdict_has_a_category_exactly_if_it_does_not_allow() -> None:
    for ruling, category in ((Ruling.ALLOW, Category.HARM), (Ruling.BLOCK, None), (Ruling.FLAG, None)):
        with pytest.raises(MalformedError):
            Verdict(ruling, category)


def test_a_probability_that_is_no_number_blocks() -> None:
    rule = LabelRule(category=Category.HARM, flag=300, block=700)
    assert [rule.verdict(p).ruling for p in (0.0, 0.299, 0.3, 0.699, 0.7, 1.0, math.nan)] == [
        Ruling.ALLOW,
        Ruling.ALLOW,
        Ruling.FLAG,
        Ruling.FLAG,
        Ruling.BLOCK,
        Ruling.BLOCK,
        Ruling.BLOCK,
    ]


HTTP: Final[dict[str, Any]] = {
    "kind": "http",
    "name": "guard",
    "directions": ["input", "output"],
    "url": "https://guard.example/judge",
    "milliseconds": 2000,
}
LOCAL: Final[dict[str, Any]] = {
    "kind": "classifier",
    "name": "local",
    "directions": ["input"],
    "folder": "/srv/guard",
    "labels": {"INJECTION": {"category": "injection", "flag": 500, "block": 900}},
}
FILE: Final[dict[str, Any]] = {
    "v": 1,
    "suspend": {"blocks": 5, "seconds": 3600},
    "output": {"window": 400, "overlap": 200},
    "screens": [HTTP, LOCAL],
}


def parse(value: object) -> ScreenSettings:
    return ScreenSettings.parse(json.dumps(value).encode())


def test_settings_say_what_they_say() -> None:
    made = parse(FILE)
    assert made.limit == BlockLimit(blocks=5, seconds=3600)
    assert (made.window, made.overlap) == (400, 200)
    http, local = made.screens
    assert isinstance(http, HttpScreenSettings)
    assert isinstance(local, ClassifierSettings)
    assert http.directions == BOTH
    assert (http.authority, http.token) == (None, None)
    assert local.labels == {"INJECTION": LabelRule(category=Category.INJECTION, flag=500, block=900)}
    for url in ("http://127.0.0.1:9/x", "http://[::1]:9", "http://localhost/"):
        parse(FILE | {"screens": [HTTP | {"url": url}]})


WRONG_HTTP: Final[tuple[dict[str, Any], ...]] = (
    {"kind": "regex"},
    {"name": "Guard"},
    {"name": ""},
    {"directions": []},
    {"directions": ["sideways"]},
    {"url": "http://guard.example/judge"},
    {"url": "ftp://guard.example"},
    {"url": "https://"},
    {"url": "https://me@guard.example"},
    {"url": "https://guard.example:port"},
    {"url": "https://guard.example/#part"},
    {"milliseconds": 0},
    {"milliseconds": 10**6},
    {"authority": "ca.pem"},
    {"folder": "/srv"},
)
WRONG_LOCAL: Final[tuple[dict[str, Any], ...]] = (
    {"folder": "guard"},
    {"labels": {}},
    {"labels": {"X": {"category": "spam", "flag": 1, "block": 2}}},
    {"labels": {"X": {"category": "harm", "flag": 900, "block": 500}}},
    {"labels": {"X": {"category": "harm", "flag": 0, "block": 500}}},
    {"labels": {"X": {"category": "harm", "flag": 1, "block": 1001}}},
    {"url": "https://guard.example"},
)


@pytest.mark.parametrize(
    "wrong",
    [
        {"v": 2},
        {"screens": []},
        {"screens": [HTTP, HTTP]},
        {"screens": [HTTP | {"name": f"n{n}"} for n in range(MAX_SCREENS + 1)]},
        {"more": 1},
        {"suspend": {"blocks": 0, "seconds": 3600}},
        {"suspend": {"blocks": 5}},
        {"output": {"window": 0, "overlap": 0}},
        *({"screens": [HTTP | change]} for change in WRONG_HTTP),
        *({"screens": [LOCAL | change]} for change in WRONG_LOCAL),
    ],
)
def test_settings_of_another_form_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        parse(FILE | wrong)


def test_the_page_s_example_is_read_and_names_every_word() -> None:
    page = (ROOT / "docs" / "operate" / "screens.md").read_text(encoding="utf-8")
    example = page.split("<!-- example: screens -->")[1].split("```")[1].removeprefix("json")
    made = ScreenSettings.parse(example.encode())
    assert {type(one) for one in made.screens} == {HttpScreenSettings, ClassifierSettings}
    for word in (*Category, *Ruling):
        assert f"`{word.value}`" in page
