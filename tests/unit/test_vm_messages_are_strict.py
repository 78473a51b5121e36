"""What comes out of a machine is hostile: it is one of four messages, bounded, or it is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.enclave.vm.messages import MAX_OUTPUT, Booted, FromAgent, Output, Stopped, Stream, hear, tell

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
        Stopped(),
    ],
)
def test_each_message_is_heard_as_it_was_told(said: Booted | FromAgent | Output | Stopped) -> None:
    assert hear(tell(said)) == said


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"agent": 1, "stopped": {}},
        {"stopped": {"more": 1}},
        {"output": {"stream": "other", "data": ""}},
        {"output": {"stream": "out", "data": to_base64(bytes(MAX_OUTPUT + 1))}},
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


@given(message=JSON | st.dictionaries(st.sampled_from(["agent", "output", "booted", "stopped"]), JSON, max_size=2))
def test_hearing_is_total(message: Json) -> None:
    with contextlib.suppress(StrongroomError):
        hear(message)
