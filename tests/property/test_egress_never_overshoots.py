"""Whatever order streams, restarts, clocks and the log come in: not one bit more leaves than the limits allow."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.egress.bits import Output
from strongroom.egress.buckets import DAY, Bucket
from strongroom.egress.errors import LimitReachedError, MirrorBehindError
from strongroom.egress.governor import Governor, Reservation
from support.egress import ATLAS, BOREAS, VERIFIED_BY, Log, governor, policy
from support.examples import examples
from support.logs import AT

PEOPLE = ("dana", "eli", "fay")
models = st.sampled_from([ATLAS, BOREAS])


@dataclass
class Answer:
    """What an outsider saw of one answer."""

    model: ModelId
    who: str
    most: int
    expires_at: int
    units: int = 0
    bits: int = 0


class Streams(RuleBasedStateMachine):
    """Two models, three people, a log for each model that answers late, and governors that die."""

    answers = Bundle("answers")

    @initialize(
        fleet=st.integers(1100, 1900),
        person=st.integers(750, 1000),
        life=st.integers(8, 60),
        residual=st.none() | st.integers(1, 10_000),
    )
    def begin(self, fleet: int, person: int, life: int, residual: int | None) -> None:
        self.policies = {
            model: policy(
                model,
                fleet_day_bits=fleet,
                principal_day_bits=person,
                lifetime_permille=life,
                residual_millibits_per_token=residual or 10_000,
                verified_by=VERIFIED_BY if residual else None,
            )
            for model in (ATLAS, BOREAS)
        }
        self.fleet, self.person = fleet, person
        self.logs = {model: Log(model) for model in self.policies}
        self.now = AT
        self.seen: list[Answer] = []
        self.open: dict[int, Answer] = {}
        self.answered = 0
        self.start()

    def start(self) -> None:
        served = [self.logs[model].served(rules, self.now) for model, rules in self.policies.items()]
        self.governor = Governor(served, self.now)
        self.open = {}
        self.answered = 0

    @rule(target=answers, model=models, who=st.sampled_from(PEOPLE), most=st.integers(1, 60), urgent=st.booleans())
    def reserve(self, model: ModelId, who: str, most: int, *, urgent: bool) -> int:
        reservation = self.asked(model, who, most)
        if reservation is None and urgent:
            self.mirror(model)
            reservation = self.asked(model, who, most)
        if reservation is None:
            return 0
        self.open[reservation.number] = Answer(model, who, most, reservation.expires_at)
        self.seen.append(self.open[reservation.number])
        self.answered += 1
        return reservation.number

    def asked(self, model: ModelId, who: str, most: int) -> Reservation | None:
        try:
            return self.governor.reserve(who, model, most, self.now)
        except (LimitReachedError, MirrorBehindError):
            return None

    @rule(number=answers, units=st.integers(0, 30))
    def emit(self, number: int, units: int) -> None:
        answer = self.open.get(number)
        if answer is None or answer.units + units > answer.most:
            return
        try:
            self.governor.emit(number, units, self.now)
        except StrongroomError:
            # Too late: the model is frozen, and this answer ended.
            self.start()
            return
        answer.units += units
        answer.bits = self.policies[answer.model].cost(Output.TOKENS, answer.units, most=answer.most)

    @rule(number=consumes(answers), verified=st.none() | st.integers(0, 60))
    def settle(self, number: int, verified: int | None = None) -> None:
        answer = self.open.pop(number, None)
        if answer is None:
            return
        if verified is not None and self.policies[answer.model].verified_by is not None:
            settled = self.governor.settle(number, self.now, verified=min(verified, answer.units))
        else:
            settled = self.governor.settle(number, self.now)
        answer.bits = settled.bits
        assert settled.units == answer.units
        assert settled.bits + settled.refunded == settled.reservation.bits

    @rule(model=models, asked=st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(10, 60)), min_size=1, max_size=4))
    def serve(self, model: ModelId, asked: list[tuple[str, int]]) -> None:
        for who, most in asked:
            number = self.reserve(model, who, most, urgent=True)
            self.emit(number, most)
            self.settle(number)

    @rule(model=models)
    def mirror(self, model: ModelId) -> None:
        for block in self.governor.wanted(self.now):
            if block.model == model:
                mirror, rules = self.logs[model].mirror, self.policies[model]
                asked = block.through - mirror._runs[-1].through
                # The log's side, which trusts no governor, never stands in the way of an honest one.
                assert min(asked, rules.lifetime_bits - mirror.total) <= mirror.room(rules.model_day_bits, self.now)
                try:
                    self.logs[model].answer(
                        self.governor, block, limit=self.policies[model].lifetime_bits, now=self.now
                    )
                except LimitReachedError:
                    assert self.logs[model].mirror.total == self.policies[model].lifetime_bits

    @rule(seconds=st.sampled_from([1, 60, 600, 1800, 3600, DAY // 4, DAY]))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        for number in [number for number, answer in self.open.items() if answer.expires_at <= self.now]:
            self.settle_now(number)

    def settle_now(self, number: int) -> None:
        self.open.pop(number).bits = self.governor.settle(number, self.now).bits

    @rule()
    @precondition(lambda self: self.answered > 2)
    def die(self) -> None:
        self.start()

    @invariant()
    def nothing_overshoots(self) -> None:
        if not hasattr(self, "now"):
            return
        days = 1 + Fraction(self.now - AT, DAY)
        assert sum(one.bits for one in self.seen) <= self.fleet * days
        for model, rules in self.policies.items():
            out = sum(one.bits for one in self.seen if one.model == model)
            assert out <= rules.model_day_bits * days
            assert out <= self.logs[model].mirror.total <= rules.lifetime_bits
            for who in PEOPLE:
                assert sum(one.bits for one in self.seen if (one.model, one.who) == (model, who)) <= self.person * days


Streams.TestCase.settings = settings(max_examples=examples(120), stateful_step_count=60, deadline=None)
TestStreams = Streams.TestCase


@given(
    st.integers(1, 10**6),
    st.lists(st.tuples(st.integers(-100, 2 * DAY), st.integers(0, 10**6), st.integers(0, 10**6)), max_size=40),
)
def test_a_bucket_gives_a_day_more_than_the_days_that_passed(per_day: int, steps: list[tuple[int, int, int]]) -> None:
    bucket, now, highest, out = Bucket(per_day, level=per_day, now=AT), AT, AT, 0
    under_way: list[int] = []
    for passed, take, back in steps:
        now += passed
        highest = max(highest, now)
        if under_way and take % 2:
            given = min(under_way.pop(), back)
            bucket.give_back(given, now)
            out -= given
        elif take <= bucket.left(now):
            bucket.take(take, now)
            under_way.append(take)
            out += take
        assert out * DAY <= per_day * (DAY + highest - AT)
        assert 0 <= bucket.left(now) <= per_day


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.sampled_from(["take", "back", "resize"]), st.integers(1, 1000)), max_size=30),
)
def test_a_bucket_that_is_made_another_size_refills_nothing(per_day: int, steps: list[tuple[str, int]]) -> None:
    bucket, out, largest = Bucket(per_day, level=per_day, now=AT), 0, per_day
    taken: list[int] = []
    for what, bits in steps:
        if what == "resize":
            bucket.resize(bits, AT)
            largest = max(largest, bits)
        elif what == "take" and bits <= bucket.left(AT):
            bucket.take(bits, AT)
            taken.append(bits)
            out += bits
        elif what == "back" and taken:
            back = min(bits, taken.pop())
            bucket.give_back(back, AT)
            out -= back
        assert bucket.left(AT) == max(0, bucket.per_day - out)
        assert out <= largest


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_bucket_says_exactly_when_it_will_have_enough(per_day: int, level: int, wanted: int) -> None:
    when = Bucket(per_day, level=level, now=AT).passes_at(wanted, AT)
    if when is None:
        assert wanted > per_day
        return
    assert Bucket(per_day, level=level, now=AT).left(when) >= wanted
    assert when == AT or Bucket(per_day, level=level, now=AT).left(when - 1) < wanted


@given(st.integers(300, 30_000), st.lists(st.tuples(st.integers(0, 63), st.integers(0, 9)), max_size=400), st.data())
def test_64_streams_at_once_share_a_budget_to_the_bit(
    budget: int, steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    rules = policy(parameters=10**9, model_day_bits=budget, fleet_day_bits=budget, principal_day_bits=budget)
    made, most = governor(rules), data.draw(st.integers(1, 200))
    numbers = []
    for stream in range(64):
        try:
            numbers.append(made.reserve(f"person-{stream}", ATLAS, most, AT).number)
        except LimitReachedError:
            break
    each = rules.cost(Output.TOKENS, most, most=most)
    # Every answer that fits is let through, and not one more.
    assert len(numbers) == min(64, budget // each)
    out = dict.fromkeys(numbers, 0)
    for stream, units in steps:
        if stream < len(numbers) and out[numbers[stream]] + units <= most:
            made.emit(numbers[stream], units, AT)
            out[numbers[stream]] += units
    charged = sum(made.settle(number, AT).bits for number in numbers)
    assert charged == sum(rules.cost(Output.TOKENS, units, most=most) for units in out.values()) <= budget
    assert made.level(ATLAS, AT).day_left == budget - charged
