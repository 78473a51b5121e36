"""Small promises of the gateway: where it listens, whose keys it knows, how long answers may take."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.errors import MalformedError, NotFoundError, UnavailableError, UsageError
from strongroom.core.ids import ImageId
from strongroom.egress.bits import Output, end_bits
from strongroom.egress.errors import Limit, LimitReachedError
from strongroom.enclave.agent.wiring import metered_channel
from strongroom.enclave.engine.schedule import Schedule
from strongroom.enclave.gateway.answers import problem, retry_headers
from strongroom.enclave.gateway.errors import ChannelBreachError, EngineGoneError, FieldRefusedError, UnknownKeyError
from strongroom.enclave.gateway.keys import PREFIX, ApiKeys, digest_of, entry
from strongroom.enclave.gateway.meter import ANSWER_SECONDS, CANCEL_SECONDS, MAX_UNHEARD, Ask, Meter
from strongroom.enclave.gateway.wiring import engine_image
from strongroom.enclave.metered import (
    MAX_ANSWERS,
    MAX_BACKLOG,
    MAX_PROMPT,
    OPENING,
    OUTPUT,
    Code,
    Frame,
    Kind,
    Order,
    Orders,
)
from support.egress import ATLAS, governor, policy
from support.gateways import Counting, roomy, serving, words
from support.logs import AT

ASK = Ask(prompt=(1,), most=4, temperature=0, top_p=1000)


def opened() -> Meter:
    meter = Meter(governor(), ATLAS, 1024)
    meter.received(Frame(OPENING, Code.READY).to_bytes(), AT)
    return meter


def test_addresses_that_others_reach_take_tls(tmp_path: Path) -> None:
    made = serving(tmp_path)
    made.check()
    for host in ("0.0.0.0", "192.0.2.1", "strongroom.example", "::"):
        with pytest.raises(UsageError, match="in the clear"):
            replace(made, host=host).check()
    with pytest.raises(UsageError, match="certificate and its key"):
        replace(made, certificate=tmp_path).check()


def test_a_tokenizer_with_more_tokens_than_are_counted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="charged too little"):
        replace(serving(tmp_path), tokenizer=words(513)).check()


def test_that_the_output_is_metered_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metered = engine_image(ImageId("engine"), tmp_path).profile
    free = replace(metered, environment=tuple(one for one in metered.environment if one != OUTPUT))
    assert metered.digest != free.digest
    assert metered_channel(free) is None
    # A launcher that passes no channel gets no command, and not one that prints.
    monkeypatch.delenv("STRONGROOM_FD_METER", raising=False)
    with pytest.raises(NotFoundError):
        metered_channel(metered)


def test_keys_are_known_by_their_digest_alone() -> None:
    key = PREFIX + "x" * 43
    file = json.dumps({"v": 1, "keys": [entry(key, "dana")]}).encode()
    assert key.encode() not in file
    keys = ApiKeys.parse(file)
    assert keys.principal(f"Bearer {key}") == "dana"
    for other in ("", key, f"Basic {key}", "Bearer", "Bearer ", f"Bearer {key}x", f"Bearer {digest_of(key)}"):
        with pytest.raises(UnknownKeyError):
            keys.principal(other)
    for wrong in ([], [entry(key, "dana")] * 2, [{"sha256": "00", "principal": "dana"}]):
        with pytest.raises(MalformedError):
            ApiKeys.parse(json.dumps({"v": 1, "keys": wrong}).encode())


def test_nothing_is_asked_before_the_model_is_open() -> None:
    meter = Meter(governor(), ATLAS, 1024)
    with pytest.raises(EngineGoneError):
        meter.begin("dana", ASK, seed=0, now=AT)
    # And nothing may come before it says so.
    with pytest.raises(ChannelBreachError, match="nobody is waiting"):
        meter.received(Frame(0, Code.TOKEN, 1).to_bytes(), AT)


def test_prompts_are_checked_before_anything_is_reserved() -> None:
    meter = opened()
    for prompt in ((), (1024,), (-1,)):
        with pytest.raises((UsageError, MalformedError)):
            meter.begin("dana", replace(ASK, prompt=prompt), seed=0, now=AT)
    assert meter.governor.level(ATLAS, AT).held == 0


def test_long_prompts_wait_outside_until_the_engine_has_taken_others() -> None:
    # An engine that leaves 16 MiB of orders unread is ended: whoever asks for much must not bring that on.
    meter = Meter(governor(roomy()), ATLAS, 512)
    meter.received(Frame(OPENING, Code.READY).to_bytes(), AT)
    long = replace(ASK, prompt=(1,) * MAX_PROMPT)
    size = len(Order(kind=Kind.GENERATE, answer=0, most=4, prompt=long.prompt).to_bytes())
    begun = [meter.begin("dana", long, seed=0, now=AT).answer for _ in range(MAX_UNHEARD // size)]
    held = meter.governor.level(ATLAS, AT).held
    with pytest.raises(UnavailableError) as caught:
        meter.begin("dana", long, seed=0, now=AT)
    assert caught.value.reason == "egress-answers"
    assert meter.governor.level(ATLAS, AT).held == held
    assert 1 < len(begun) < MAX_ANSWERS
    assert MAX_UNHEARD + size < MAX_BACKLOG
    # What is short still goes in, and the first word of one answer makes room for another.
    meter.begin("sam", ASK, seed=0, now=AT)
    meter.received(Frame(begun[0], Code.TOKEN, 1).to_bytes(), AT)
    meter.begin("dana", long, seed=0, now=AT)


def test_slow_answers_are_cancelled_and_engines_that_ignore_it_ended() -> None:
    meter = opened()
    begun = meter.begin("dana", ASK, seed=0, now=AT)
    late = AT + ANSWER_SECONDS + 1
    assert meter.overdue(late - 1) == ()
    assert meter.overdue(late) == (begun.answer,)
    assert meter.cancel(begun.answer, late) == Order(kind=Kind.CANCEL, answer=begun.answer).to_bytes()
    assert meter.cancel(begun.answer, late) is None
    meter.check(pending=0, now=late + CANCEL_SECONDS)
    with pytest.raises(ChannelBreachError) as caught:
        meter.check(pending=0, now=late + CANCEL_SECONDS + 1)
    assert caught.value.found == "cancel-ignored"


def test_numbers_are_given_out_lowest_first_and_only_when_free() -> None:
    meter = opened()
    assert [meter.begin("dana", ASK, seed=0, now=AT).answer for _ in range(3)] == [0, 1, 2]
    meter.received(Frame(1, Code.STOPPED).to_bytes(), AT)
    assert [meter.begin("dana", ASK, seed=0, now=AT).answer for _ in range(2)] == [1, 3]


def test_bytes_that_the_kernel_holds_count() -> None:
    meter = opened()
    meter.check(pending=0, now=AT)
    with pytest.raises(ChannelBreachError) as caught:
        meter.check(pending=1, now=AT)
    assert caught.value.found == "bytes-without-demand"


def test_what_an_answer_may_still_send_may_lie_unread_and_no_more() -> None:
    meter = opened()
    begun = meter.begin("dana", ASK, seed=0, now=AT)
    meter.check(pending=5 * (ASK.most + 1), now=AT)
    meter.received(Frame(begun.answer, Code.TOKEN, 1).to_bytes(), AT)
    meter.check(pending=5 * ASK.most, now=AT)
    with pytest.raises(ChannelBreachError) as caught:
        meter.check(pending=5 * ASK.most + 1, now=AT)
    assert caught.value.found == "unexplained-bytes"


def test_what_is_wrong_inside_is_not_told_outside() -> None:
    told = problem(ChannelBreachError("no-demand", "a detail of the engine"))
    assert "detail" not in json.dumps(told) or told["error"]["type"] == "invalid_request_error"
    assert problem(EngineGoneError("a detail"))["error"]["message"] == "the model can't answer now"
    assert problem(FieldRefusedError("seed", "no"))["error"]["param"] == "seed"
    assert retry_headers(EngineGoneError("gone"), AT) == {}


def test_what_others_left_of_a_shared_limit_is_not_told() -> None:
    own = LimitReachedError(Limit.PRINCIPAL_DAY, seen=123, wanted=456, passes_at=AT + 7)
    assert "123 bits left" in problem(own)["error"]["message"]
    assert retry_headers(own, AT)["retry-after"] == "7"
    for limit in (Limit.MODEL_DAY, Limit.FLEET_DAY, Limit.LIFETIME):
        told = set()
        for seen, later in ((0, 7), (123, 5000), (99_999, 80_000)):
            error = LimitReachedError(limit, seen=seen, wanted=10**6, passes_at=AT + later)
            told.add((json.dumps(problem(error)), json.dumps(retry_headers(error, AT))))
        # Whatever is left, and whenever it passes, the same is said; and no number with it but the constant time.
        (((said, headers)),) = told
        assert not re.search(r"\d", said)
        assert json.loads(headers) == {"retry-after": "3600", "x-should-retry": "false"}
    never = LimitReachedError(Limit.LIFETIME, seen=5, wanted=6, passes_at=None)
    assert retry_headers(never, AT) == {"x-should-retry": "false"}


def test_a_number_is_counted_whole_with_its_first_half() -> None:
    meter = Meter(governor(policy(outputs=(Output.VALUES,))), ATLAS, 1024)
    meter.received(Frame(OPENING, Code.READY).to_bytes(), AT)
    begun = meter.begin("dana", Ask(prompt=(1,), most=2, output=Output.VALUES), seed=7, now=AT)
    (order,) = Orders().feed(begun.order)
    assert (order.kind, order.most, order.seed, order.temperature) == (Kind.EMBED, 2, 0, 0)
    meter.check(pending=5 * 5, now=AT)
    meter.received(Frame(begun.answer, Code.VALUE, 1).to_bytes(), AT)
    meter.check(pending=5 * 4, now=AT)
    meter.cancel(begun.answer, AT)
    (ended,) = meter.received(Frame(begun.answer, Code.CANCELLED).to_bytes(), AT)
    assert ended.settled is not None
    assert (ended.settled.units, ended.settled.bits) == (1, 32 + end_bits(2))


def test_a_schedule_gives_everybody_a_token_in_turn() -> None:
    schedule = Schedule(Counting())
    for number in (0, 1):
        schedule.take(Order(kind=Kind.GENERATE, answer=number, most=2, prompt=(number * 100,)))
    assert schedule.round() == (Frame(0, Code.TOKEN, 1), Frame(1, Code.TOKEN, 101))
    assert schedule.take(Order(kind=Kind.CANCEL, answer=0)) == (Frame(0, Code.CANCELLED),)
    assert schedule.take(Order(kind=Kind.CANCEL, answer=0)) == ()
    assert schedule.round() == (Frame(1, Code.TOKEN, 102), Frame(1, Code.LENGTH))
    assert schedule.idle
