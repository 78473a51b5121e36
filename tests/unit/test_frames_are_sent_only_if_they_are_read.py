"""Whatever a sender takes, its reader reads: a frame that is refused would end the connection of everybody on it."""

from __future__ import annotations

import json

import pytest

from strongroom.access.policy import MAX_MODELS
from strongroom.client.adapters.http import MAX_ANSWER
from strongroom.core.canonical import MAX_DEPTH, MAX_INTEGER, Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.ids import PersonId
from strongroom.ipc import frames
from strongroom.personnel.lifecycle import MAX_SUSPENDED
from strongroom.release.precaution_ledger import MAX_PRECAUTIONS, Standing
from strongroom.release.precautions import PrecautionKind

_EMPTY = len(frames.call(1, "x", {"said": ""})) - frames.HEADER


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
        "a" * (frames.MAX_CALL - _EMPTY),
        "ü" * ((frames.MAX_CALL - _EMPTY) // 2),
        {"ü\U0001f512": "\x00\x7f\x85"},
    ],
    ids=["largest", "least", "deepest", "longest", "longest of two bytes", "names and controls"],
)
def test_what_is_sent_at_the_bound_is_read(said: Json) -> None:
    sent = frames.call(1, "x", {"said": said})
    assert frames.frame_length(sent[: frames.HEADER], frames.MAX_CALL) == len(sent) - frames.HEADER
    assert frames.read_call(sent[frames.HEADER :]).fields.value("said") == said


@pytest.mark.parametrize(
    "said",
    [
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        nested(MAX_DEPTH - 1),
        "a" * (frames.MAX_CALL - _EMPTY + 1),
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
        frames.call(1, "x", {"said": said})
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


def test_the_largest_state_that_there_may_be_fits() -> None:
    # Whoever may take precautions could else take so many that no part learns any more who is suspended.
    models: list[Json] = [f"m{number:063}" for number in range(MAX_MODELS)]
    person, digest, then = "p" * 64, str(Digest.of(b"")), format_instant(1_795_000_000)
    taken = [
        Standing(
            name=Digest.of(number.to_bytes(4, "big")),
            kind=PrecautionKind.HOLD,
            subject=f"s{number:063}",
            cause="statistics",
            incident=f"inc-{number:032x}",
            person=PersonId(person),
            taken=1_795_000_000,
            until=1_795_000_000,
        ).to_json()
        for number in range(MAX_PRECAUTIONS)
    ]
    status: dict[str, Json] = {
        "models": {
            str(model): {"version": 10**6, "manifest": digest, "data_key": "d" * 64, "frozen": True} for model in models
        },
        **dict.fromkeys(("frozen", "destroyed", "irrecoverable", "closed", "lost"), models),
        "suspended": [f"p{number:063}" for number in range(MAX_SUSPENDED)],
        "destructions": [
            {"request": digest, "requester": person, "model": model, "agreed": then, "effective": then, "expires": then}
            for model in models
        ],
        "precautions": taken,
    }
    said = frames.answer(1, status)
    assert frames.read_answer(said[frames.HEADER :])[1] == status
    # A client gets the documents in force with it.
    assert len(said) + 4 * (MAX_PAYLOAD * 4 // 3) < MAX_ANSWER
