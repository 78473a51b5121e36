"""What comes out of a machine, or goes into it, is hostile: it is one of few messages, bounded, or it is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.enclave.vm.messages import (
    MAX_ENTRY,
    MAX_METERED,
    MAX_OUTPUT,
    Booted,
    ForAgent,
    ForMachine,
    FramesOut,
    FromAgent,
    FromMachine,
    MeterOpened,
    OrdersIn,
    Output,
    Stopped,
    Stream,
    Vouched,
    hear,
    listen,
    say,
    tell,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "said",
    [
        Booted(pcrs={4: "00" * 32, 14: "11" * 32}, event_log=b"log", milliseconds=7),
        FromAgent({"ask": {"platform": "p"}}),
        FromAgent(None),
        Output(Stream.ERR, b"\0\xff"),
        FramesOut(bytes(10)),
        FramesOut(bytes(MAX_METERED)),
        Stopped(),
    ],
)
def test_each_message_is_heard_as_it_was_told(said: FromMachine) -> None:
    assert hear(tell(said)) == said


@pytest.mark.parametrize(
    "said",
    [
        ForAgent({"lease": {}}),
        MeterOpened(512),
        Vouched(b"{}"),
        Vouched(bytes(MAX_ENTRY)),
        OrdersIn(b"\1"),
        OrdersIn(bytes(MAX_METERED)),
    ],
)
def test_each_message_for_the_machine_is_heard_as_it_was_said(said: ForMachine) -> None:
    assert listen(say(said)) == said


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"agent": 1, "stopped": {}},
        {"stopped": {"more": 1}},
        {"output": {"stream": "other", "data": ""}},
        {"output": {"stream": "out", "data": to_base64(bytes(MAX_OUTPUT + 1))}},
        {"frames": ""},
        {"frames": to_base64(bytes(7))},
        {"frames": to_base64(bytes(MAX_METERED + 5))},
        {"booted": {"pcrs": {"24": ""}, "event_log": "", "milliseconds": 1}},
        {"booted": {"pcrs": {"04": ""}, "event_log": "", "milliseconds": 1}},
        {"booted": {"pcrs": {}, "event_log": "", "milliseconds": -1}},
        [],
        "stopped",
    ],
)
def test_anything_else_is_refused(message: Json) -> None:
    with pytest.raises(MalformedError):
        hear(message)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"order": {}},
        {"agent": 1, "orders": ""},
        {"meter": {"vocabulary": -1}},
        {"meter": {"vocabulary": 512, "more": 1}},
        {"vouched": to_base64(bytes(MAX_ENTRY + 1))},
        {"orders": to_base64(bytes(MAX_METERED + 1))},
        {"orders": "?"},
        [],
        None,
    ],
)
def test_anything_else_for_the_machine_is_refused(message: Json) -> None:
    with pytest.raises(MalformedError):
        listen(message)


NAMES = ["agent", "output", "frames", "booted", "stopped", "meter", "vouched", "orders"]


@given(message=JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=2))
def test_hearing_is_total(message: Json) -> None:
    for read in (hear, listen):
        with contextlib.suppress(StrongroomError):
            read(message)
