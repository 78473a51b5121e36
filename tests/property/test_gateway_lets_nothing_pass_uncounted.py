"""Whatever bytes an engine sends, however they are cut: what goes on was reserved, counted, and is charged."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.egress.bits import Output, end_bits
from strongroom.enclave.gateway.errors import ChannelBreachError
from strongroom.enclave.gateway.meter import Ask, Meter
from strongroom.enclave.gateway.texts import TextStream
from strongroom.enclave.metered import OPENING, Code, Frame, halves_of, values_of
from support.egress import ATLAS, governor, policy
from support.logs import AT

VOCABULARY = 1024
CODES = st.sampled_from(
    [Code.TOKEN] * 6 + [Code.VALUE] * 4 + [Code.AGREED, Code.STOPPED, Code.LENGTH, Code.CANCELLED, Code.FAILED]
)
FRAMES = st.builds(
    lambda answer, code, token: Frame(
        answer, code, token if code in {Code.TOKEN, Code.VALUE, Code.AGREED} else 0
    ).to_bytes(),
    st.integers(0, 3),
    CODES,
    st.integers(0, VOCABULARY),
)
STEPS = st.lists(
    st.one_of(
        st.integers(1, 8).map(lambda most: ("ask", most)),
        st.integers(1, 3).map(lambda most: ("embed", most)),
        st.integers(0, 3).map(lambda answer: ("cancel", answer)),
        FRAMES.map(lambda data: ("say", data)),
        st.binary(max_size=12).map(lambda data: ("say", data)),
        st.just(("look", 0)),
    ),
    max_size=40,
)


BUDGET = 400


class Seen:
    """A meter, and what was seen to pass it."""

    def __init__(self) -> None:
        rules = policy(
            model_day_bits=BUDGET,
            fleet_day_bits=BUDGET,
            principal_day_bits=BUDGET,
            outputs=(Output.TOKENS, Output.VALUES),
        )
        self.governor = governor(rules)
        self.meter = Meter(self.governor, ATLAS, VOCABULARY)
        self.meter.received(Frame(OPENING, Code.READY).to_bytes(), AT)
        self.most: dict[int, int] = {}
        """Frames that an answer may have before its end."""
        self.said: dict[int, int] = {}
        self.vectors: set[int] = set()
        self.bits = self.charged = 0
        """Bits that went on, and bits that were charged."""

    def ask(self, most: int) -> None:
        begun = self.meter.begin("dana", Ask(prompt=(1,), most=most, temperature=0, top_p=1000), seed=0, now=AT)
        self.said[begun.answer], self.most[begun.answer] = 0, most
        self.vectors.discard(begun.answer)

    def embed(self, most: int) -> None:
        begun = self.meter.begin("dana", Ask(prompt=(1,), most=most, output=Output.VALUES), seed=9, now=AT)
        self.said[begun.answer], self.most[begun.answer] = 0, 2 * most
        self.vectors.add(begun.answer)

    def cancel(self, answer: int) -> None:
        self.meter.cancel(answer, AT)

    def look(self, _nothing: int) -> None:
        self.meter.check(pending=0, now=AT)

    def say(self, data: bytes) -> None:
        for heard in self.meter.received(data, AT):
            vector = heard.answer in self.vectors
            if heard.token is not None:
                assert heard.token < (1 << 16 if vector else VOCABULARY)
                self.said[heard.answer] += 1
                self.bits += 16 if vector else 10
                assert self.said[heard.answer] <= self.most[heard.answer]
            if heard.settled is not None:
                frames = self.said.pop(heard.answer)
                units = -(-frames // 2) if vector else frames
                assert heard.settled.units == units
                assert heard.settled.bits == units * (32 if vector else 10) + end_bits(heard.settled.reservation.most)
                self.charged += heard.settled.bits


@given(STEPS)
def test_an_engine_says_no_more_than_was_reserved(steps: list[tuple[str, int | bytes]]) -> None:
    seen = Seen()
    for name, value in steps:
        try:
            getattr(seen, name)(value)
        except ChannelBreachError:
            assert seen.meter.broken is not None
        except StrongroomError:
            pass  # a limit, most of the time
        held = seen.governor.level(ATLAS, AT).held
        assert seen.charged + held <= BUDGET
        assert seen.bits <= seen.charged + held
    if seen.meter.broken is not None:
        for name, value in (("say", b""), ("look", 0), ("ask", 1)):
            with pytest.raises(ChannelBreachError):
                getattr(seen, name)(value)


@given(st.lists(st.floats(width=32), max_size=8))
def test_numbers_cross_bit_by_bit(values: list[float]) -> None:
    halves = halves_of(values)
    assert all(0 <= half < 1 << 16 for half in halves)
    frames = [Frame.parse(Frame(1, Code.VALUE, half).to_bytes()).token for half in halves]
    assert struct.pack(f">{len(values)}f", *values_of(frames)) == struct.pack(f">{len(values)}f", *values)


TEXTS = st.text(max_size=60)
CUTS = st.lists(st.integers(1, 5), max_size=40)
STOPS = st.lists(st.text(min_size=1, max_size=3), max_size=4)


@given(TEXTS, CUTS, STOPS)
def test_pieces_of_text_are_the_whole_text_up_to_a_stop(text: str, cuts: list[int], stops: list[str]) -> None:
    data = list(text.encode(errors="replace"))

    def decode(tokens: Sequence[int]) -> str:
        return bytes(tokens).decode(errors="replace")

    stream, at, said = TextStream(decode, stops), 0, ""
    for cut in [*cuts, len(data)]:
        if at < len(data):
            said += stream.push(data[at : at + cut])
            at += cut
    said += stream.finish()
    whole = decode(data)
    found = [place for stop in stops if (place := whole.find(stop)) >= 0]
    assert said == whole[: min(found, default=len(whole))]
    assert stream.stopped == bool(found)
