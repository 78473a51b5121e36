"""Whatever host and engine send, in whatever order: what passed the meter inside is within what the keeper signed.

What passed is weighed here from its own bytes, by what they can tell, and not by what the meter says of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.core.signature import Ed25519Signer
from strongroom.egress.bits import Output
from strongroom.egress.governor import Governor, Served
from strongroom.egress.odometer import Odometer, OdometerEntry
from strongroom.enclave.gateway.meter import Ask, Meter
from strongroom.enclave.metered import ENDS, FRAME, OPENING, Code, Frame, Kind, Order
from strongroom.enclave.taximeter import Taximeter, TaximeterError
from support.gateways import roomy
from support.logs import AT, GENESIS
from support.odometer_entries import MODEL, REQUEST, USE, odometer_entry

VOCABULARY = 1000
STRANGER = Ed25519Signer.from_seed(b"S" * 32)
FOREIGN: dict[str, Callable[[int], bytes]] = {
    "another request's": lambda bits: odometer_entry(bits, request=Digest.of(b"other")),
    "another use's": lambda bits: odometer_entry(bits, use=USE + 1),
    "another model's": lambda bits: odometer_entry(bits, model=ModelId("other")),
    "another run's": lambda bits: odometer_entry(bits, run=2),
    "a stranger's": lambda bits: odometer_entry(bits, signer=STRANGER),
    "a changed one": lambda bits: odometer_entry(bits).replace(b'"through":', b'"through":9'),
    "no entry at all": lambda bits: bytes(bits % 100),
}
ANSWERS = st.integers(0, 3)
ORDERS = st.builds(
    lambda answer, most, kind: Order(kind=kind, answer=answer, most=most, prompt=(1,)).to_bytes(),
    ANSWERS,
    st.integers(1, 6),
    st.sampled_from([Kind.GENERATE, Kind.GENERATE, Kind.EMBED]),
)
CANCELS = ANSWERS.map(lambda answer: Order(kind=Kind.CANCEL, answer=answer).to_bytes())
CODES = [Code.TOKEN] * 8 + [Code.VALUE] * 4 + [Code.AGREED, Code.STOPPED, Code.LENGTH, Code.CANCELLED, Code.FAILED]
FRAMES = st.builds(
    lambda answer, code, token: Frame(
        answer, code, token if code in {Code.TOKEN, Code.VALUE, Code.AGREED} else 0
    ).to_bytes(),
    ANSWERS,
    st.sampled_from(CODES),
    st.integers(0, VOCABULARY - 1),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ordered"), ORDERS | CANCELS),
        st.tuples(st.just("said"), FRAMES),
        st.tuples(st.just("said"), FRAMES),
        st.tuples(st.just("said"), st.binary(max_size=12)),
        st.tuples(st.just("ordered"), st.binary(max_size=30)),
        st.tuples(st.just("vouched"), st.integers(0, 400)),
        st.tuples(st.just("foreign"), st.sampled_from(sorted(FOREIGN))),
    ),
    max_size=40,
)


class Weighed:
    """A meter, what its host was given, and what the bytes that passed can tell."""

    def __init__(self) -> None:
        self.meter = Taximeter(genesis=GENESIS, request=REQUEST, model=MODEL)
        self.meter.released(USE)
        self.meter.begin(VOCABULARY)
        self.signed = 0
        self.most: dict[int, Order] = {}
        self.told = 0.0
        """Bits."""

    def vouched(self, through: int) -> None:
        self.signed = max(self.signed, through)
        self.meter.vouch(odometer_entry(through))

    def foreign(self, which: str) -> None:
        self.meter.vouch(FOREIGN[which](10_000))

    def ordered(self, data: bytes) -> None:
        before = len(self.meter._under)
        passed = self.meter.ordered(data)
        assert passed in {data, b""}
        if passed and passed[0] != Kind.CANCEL:
            assert len(self.meter._under) == before + 1
            answer, most = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:6], "big")
            self.most[answer] = Order(kind=Kind(data[0]), answer=answer, most=most, prompt=(1,))
            # Where it ends, and how, are told once, in one of so many ways.
            self.told += math.log2(4 * (most + 1))

    def said(self, data: bytes) -> None:
        passed = self.meter.said(data)
        assert len(passed) % FRAME == 0
        for at in range(0, len(passed), FRAME):
            frame = Frame.parse(passed[at : at + FRAME])
            if frame.answer != OPENING and frame.code not in ENDS:
                vector = self.most[frame.answer].kind is Kind.EMBED
                assert (frame.code is Code.VALUE) == vector
                assert vector or frame.token < VOCABULARY
                self.told += 16 if vector else math.log2(VOCABULARY)


@given(STEPS, st.integers(0, 400))
def test_no_bit_passes_that_was_not_vouched_for(steps: list[tuple[str, object]], first: int) -> None:
    weighed = Weighed()
    weighed.vouched(first)
    broken = False
    for name, value in steps:
        before = weighed.told
        try:
            getattr(weighed, name)(value)
            assert not broken
        except TaximeterError:
            broken = True
            assert weighed.told == before
        assert weighed.told <= weighed.signed


@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("known", [0, 100])
def test_entries_of_others_help_nobody(make: Callable[[int], bytes], known: int) -> None:
    weighed = Weighed()
    weighed.vouched(known)
    with pytest.raises(
        TaximeterError, match=r"isn't an odometer entry|another run|isn't signed|not a log entry|JSON|canonical"
    ):
        weighed.meter.vouch(make(10_000))
    assert weighed.meter.through == known
    # And from then on the host's own true entries don't help either.
    with pytest.raises(TaximeterError):
        weighed.vouched(500)


def test_older_entries_take_nothing_back_and_add_nothing() -> None:
    weighed = Weighed()
    for through in (300, 100, 300, 0):
        weighed.vouched(through)
    assert weighed.meter.through == 300


def test_the_first_entry_binds_the_meter_to_its_run() -> None:
    meter = Weighed().meter
    meter.vouch(odometer_entry(50, run=2))
    with pytest.raises(TaximeterError) as refused:
        meter.vouch(odometer_entry(1000, run=3))
    assert refused.value.reason == "taximeter.foreign-entry"


def odometer(through: int) -> OdometerEntry:
    return OdometerEntry(
        model=MODEL,
        epoch=1,
        run=1,
        through=through,
        settled=0,
        tokens=0,
        verified=0,
        total=through,
        recent=0,
        limit=1 << 50,
        day=1 << 50,
        at=AT,
    )


def test_a_machine_that_answers_replays_nothing() -> None:
    meter = Taximeter(genesis=GENESIS, request=REQUEST, model=MODEL)
    meter.released(USE)
    meter.begin(VOCABULARY)
    meter.vouch(odometer_entry(10**6))
    with pytest.raises(TaximeterError) as caught:
        meter.ordered(Order(kind=Kind.REPLAY, answer=0, most=1, prompt=(1, 2)).to_bytes())
    assert caught.value.reason == "taximeter.malformed-order"
    # And a count that an engine slips among its tokens isn't one.
    other = Taximeter(genesis=GENESIS, request=REQUEST, model=MODEL)
    other.released(USE)
    other.begin(VOCABULARY)
    other.vouch(odometer_entry(10**6))
    other.ordered(Order(kind=Kind.GENERATE, answer=0, most=2, prompt=(1,)).to_bytes())
    with pytest.raises(TaximeterError, match="can't have"):
        other.said(Frame(0, Code.AGREED, 1).to_bytes())


ASKS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40), st.booleans()), min_size=1, max_size=12)


@given(ASKS, st.sampled_from([2, 512, 1000, 128_256]))
def test_what_an_honest_governor_lets_pass_passes(asks: list[tuple[int, int, bool]], vocabulary: int) -> None:
    rules = roomy(vocabulary=vocabulary, residual_millibits_per_token=1)
    opening = odometer(0)
    governor = Governor([Served(policy=rules, odometer=Odometer(opening, block_bits=100), recent=0)], AT)
    meter, inside = Meter(governor, MODEL, vocabulary), Taximeter(genesis=GENESIS, request=REQUEST, model=MODEL)
    inside.released(USE)
    inside.begin(vocabulary)
    inside.vouch(odometer_entry(0))
    meter.received(inside.said(Frame(OPENING, Code.READY).to_bytes()), AT)
    through = 0
    for most, units, cancels in asks:
        through = max(through, inside.settled + rules.cost(Output.TOKENS, most, most=most))
        inside.vouch(odometer_entry(through))
        governor.mirrored(odometer(through), AT)
        begun = meter.begin("dana", Ask(prompt=(1,), most=most, temperature=0, top_p=1000), seed=0, now=AT)
        assert inside.ordered(begun.order) == begun.order
        said = min(units, most)
        end = Code.LENGTH if said == most else Code.STOPPED
        if cancels:
            inside.ordered(meter.cancel(begun.answer, AT) or b"")
            end = Code.CANCELLED
        frames = b"".join(Frame(begun.answer, Code.TOKEN, vocabulary - 1).to_bytes() for _ in range(said))
        assert meter.received(inside.said(frames + Frame(begun.answer, end).to_bytes()), AT)
        assert inside.settled == governor.level(MODEL, AT).settled


SPOKEN = st.lists(
    st.tuples(st.integers(1, 5), st.integers(0, 5), st.sampled_from([Kind.GENERATE, Kind.GENERATE, Kind.EMBED])),
    min_size=1,
    max_size=4,
)


def frames_of(answer: int, most: int, said: int, kind: Kind) -> list[bytes]:
    units = min(most, said) if kind is Kind.GENERATE else most * 2
    code = Code.TOKEN if kind is Kind.GENERATE else Code.VALUE
    end = Code.LENGTH if kind is Kind.EMBED or units == most else Code.STOPPED
    told = [Frame(answer, code, answer * 100 + at).to_bytes() for at in range(units)]
    return [*told, Frame(answer, end).to_bytes()]


@given(SPOKEN, st.data())
def test_how_an_engine_interleaves_answers_tells_nothing(
    spoken: list[tuple[int, int, Kind]], data: st.DataObject
) -> None:
    passed = []
    for _ in range(2):
        meter = Weighed().meter
        meter.vouch(odometer_entry(10_000))
        queues = {}
        for answer, (most, said, kind) in enumerate(spoken):
            meter.ordered(Order(kind=kind, answer=answer, most=most, prompt=(1,)).to_bytes())
            queues[answer] = frames_of(answer, most, said, kind)
        out = b""
        while queues:
            answer = data.draw(st.sampled_from(sorted(queues)))
            out += meter.said(queues[answer].pop(0))
            queues = {number: rest for number, rest in queues.items() if rest}
        assert len(meter._under) == 0
        passed.append(out)
    assert passed[0] == passed[1]
    assert len(passed[0]) == sum(len(frames_of(at, *one)) for at, one in enumerate(spoken)) * FRAME


def test_an_answer_does_not_wait_for_those_that_ended() -> None:
    meter = Weighed().meter
    meter.vouch(odometer_entry(10_000))
    for answer in (0, 1):
        meter.ordered(Order(kind=Kind.GENERATE, answer=answer, most=3, prompt=(1,)).to_bytes())
    first, second = Frame(0, Code.TOKEN, 7).to_bytes(), Frame(1, Code.TOKEN, 8).to_bytes()
    assert meter.said(first) == b""
    assert meter.said(second) == first + second
    stopped = Frame(1, Code.STOPPED).to_bytes()
    assert meter.said(stopped + first) == first + stopped
    last = Frame(0, Code.TOKEN, 9).to_bytes()
    # With its last token an answer's end is certain; the two leave together.
    assert meter.said(last) == b""
    assert meter.said(Frame(0, Code.LENGTH).to_bytes()) == last + Frame(0, Code.LENGTH).to_bytes()
