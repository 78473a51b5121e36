"""Whatever a sender takes, its reader reads: a frame that is refused would end the connection of everybody on it."""

from __future__ import annotations

import json

import pytest

from strongroom.core.canonical import MAX_DEPTH, MAX_INTEGER, Json
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.ipc import frames

_EMPTY = len(frames.frame({"id": 1, "op": "x", "said": ""})) - frames.HEADER


def nested(depth: int) -> Json:
    value: Json = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "said",
    [
        MAX_INTEGER,
        -MAX_INTEGER,
        nested(MAX_DEPTH - 2),
        "a" * (frames.MAX_FRAME - _EMPTY),
        "ü" * ((frames.MAX_FRAME - _EMPTY) // 2),
        {"ü\U0001f512": "\x00\x7f\x85"},
    ],
    ids=["largest", "least", "deepest", "longest", "longest of two bytes", "names and controls"],
)
def test_what_is_sent_at_the_bound_is_read(said: Json) -> None:
    sent = frames.frame({"id": 1, "op": "x", "said": said})
    assert frames.frame_length(sent[: frames.HEADER]) == len(sent) - frames.HEADER
    assert frames.read_call(sent[frames.HEADER :]).fields.value("said") == said


@pytest.mark.parametrize(
    "said",
    [
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        nested(MAX_DEPTH - 1),
        "a" * (frames.MAX_FRAME - _EMPTY + 1),
        "half a letter \ud800",
        {"\udcff": 1},
        0.5,
        float("nan"),
    ],
    ids=["too large", "too little", "too deep", "too long", "half a letter", "half in a name", "a float", "no number"],
)
def test_what_no_reader_takes_is_refused_where_it_is_sent(said: Json) -> None:
    whole: dict[str, Json] = {"id": 1, "op": "x", "said": said}
    with pytest.raises(MalformedError):
        frames.frame(whole)
    # It isn't stricter than its reader: that would refuse what could be asked.
    plain = json.dumps(whole).encode()
    with pytest.raises(MalformedError):
        frames.read_call(plain)


@pytest.mark.parametrize("text", ["\udcff" * 10, "\U0001f512" * 9000, "a\nb\x00\x7f", '"\\' * 9000])
def test_every_refusal_reaches_who_waits_for_it(text: str) -> None:
    sent = frames.refusal(7, UnavailableError(text, remedy=text, reason=text))
    number, told = frames.read_answer(sent[frames.HEADER :])
    assert number == 7
    assert isinstance(told, StrongroomError)
    assert told.message
