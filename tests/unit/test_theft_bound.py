"""Sizes are rounded down, costs up, and a policy under which a model could be stolen too soon is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import UsageError
from strongroom.egress.bits import (
    ENDINGS,
    MAX_VOCABULARY,
    Output,
    effective_bits,
    end_bits,
    token_millibits,
    verdict_bits,
    whole_bits,
)
from strongroom.egress.bound import MILLIBITS, SMALL_TOKENS, check_policy, theft_bound
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import BoundBrokenError
from strongroom.egress.policy import STRICT_MILLIBITS, EgressPolicy
from support.egress import ATLAS, VERIFIED_BY, policy


@given(st.integers(2, MAX_VOCABULARY))
def test_a_token_costs_its_logarithm_rounded_up_exactly(vocabulary: int) -> None:
    found = token_millibits(vocabulary)
    assert 2 ** (found - 1) < vocabulary**1000 <= 2**found
    assert abs(found / 1000 - math.log2(vocabulary)) < 0.0011


@pytest.mark.parametrize(("vocabulary", "millibits"), [(2, 1000), (1024, 10000), (32000, 14966), (128256, 16969)])
def test_tokens_of_known_vocabularies(vocabulary: int, millibits: int) -> None:
    assert token_millibits(vocabulary) == millibits


@pytest.mark.parametrize("vocabulary", [-1, 0, 1, MAX_VOCABULARY + 1])
def test_what_is_no_vocabulary_is_refused(vocabulary: int) -> None:
    with pytest.raises(UsageError):
        token_millibits(vocabulary)


@given(st.integers(2, 100_000), st.integers(1, 400))
def test_no_answer_says_more_than_it_costs(vocabulary: int, most: int) -> None:
    # Kraft's inequality over every answer that there can be: of each length up to the most, in each way to end.
    rules = EgressPolicy.template(ATLAS, parameters=10**9, vocabulary=vocabulary)
    kraft = sum(
        Fraction(ENDINGS * vocabulary**units, 2 ** rules.cost(Output.TOKENS, units, most=most))
        for units in range(most + 1)
    )
    assert kraft <= 1


@given(st.integers(2, 100_000), st.integers(1, 100), st.integers(1, 20_000))
def test_no_replayed_answer_says_more_beside_the_honest_one_than_it_costs(
    vocabulary: int, most: int, residual: int
) -> None:
    # Kraft's inequality over every answer, given the honest one: how far it is reproduced, and what comes after that.
    made = EgressPolicy.template(ATLAS, parameters=10**9, vocabulary=vocabulary)
    residual = min(residual, made.token_millibits)
    rules = replace(made, residual_millibits_per_token=residual, verified_by=VERIFIED_BY)
    kraft = sum(
        Fraction(
            ENDINGS * ((vocabulary - 1) * vocabulary ** (units - verified - 1) if verified < units else 1),
            2 ** rules.replayed_cost(units, verified=verified, most=most),
        )
        for units in range(most + 1)
        for verified in range(units + 1)
    )
    assert kraft <= 1


@given(st.sampled_from(Output), st.integers(1, 10**6), st.booleans(), st.data())
def test_the_most_is_never_exceeded_by_less(output: Output, most: int, verifies: bool, data: st.DataObject) -> None:  # noqa: FBT001 - drawn
    units = data.draw(st.integers(0, most))
    rules = policy(residual_millibits_per_token=75, verified_by=VERIFIED_BY if verifies else None)
    cost = rules.cost(output, units, most=most)
    assert end_bits(most) <= cost <= rules.cost(output, most, most=most) <= rules.reserved(output, most)
    if verifies and output is Output.TOKENS:
        verified = data.draw(st.integers(0, units))
        replayed = rules.replayed_cost(units, verified=verified, most=most)
        assert end_bits(most) + verdict_bits(most) <= replayed <= rules.reserved(output, most)


def test_costs_are_rounded_up_and_sizes_down() -> None:
    assert [whole_bits(millibits) for millibits in (0, 1, 999, 1000, 1001)] == [0, 1, 1, 1, 2]
    assert effective_bits(7, 160) == 1
    assert policy().cost(Output.VALUES, 3, most=3) == 96 + end_bits(3)
    assert policy().cost(Output.BYTES, 3, most=3) == 24 + end_bits(3)
    verified = policy(residual_millibits_per_token=75, verified_by=VERIFIED_BY)
    assert verified.replayed_cost(14, verified=14, most=14) == 2 + end_bits(14) + verdict_bits(14)


@given(st.integers(1, 10**13), st.integers(2, 10**6), st.sampled_from([400, STRICT_MILLIBITS, 4000]))
def test_a_template_holds_its_own_bound_and_one_bit_more_does_not(parameters: int, tokens: int, millibits: int) -> None:
    if parameters * millibits // 1000 < 366:
        return
    made = EgressPolicy.template(ATLAS, parameters=parameters, vocabulary=tokens, millibits_per_weight=millibits)
    check_policy(made)
    with pytest.raises(BoundBrokenError, match="could be stolen"):
        check_policy(replace(made, model_day_bits=made.model_day_bits + 1))
    assert theft_bound(made).seconds >= 365 * DAY


@given(st.integers(1, 10**6), st.integers(1, 10**10))
def test_the_time_to_steal_is_when_the_bucket_has_given_that_much(day: int, size: int) -> None:
    rules = policy(
        parameters=size, effective_millibits_per_weight=1000, model_day_bits=day, principal_day_bits=1,
        workspace_person_bits=0,
    )  # fmt: skip
    seconds = theft_bound(rules).seconds
    # What a full bucket gives within that time isn't more than the model, and a second later it is that or more.
    assert seconds == 0 or day * (DAY + seconds) <= size * DAY
    assert day * (DAY + seconds + 1) > size * DAY


def test_more_compression_is_sooner_and_what_is_spent_is_gone() -> None:
    rules = EgressPolicy.template(ATLAS, parameters=70 * 10**9, vocabulary=128256)
    fresh, half = theft_bound(rules), theft_bound(rules, spent=rules.lifetime_bits)
    assert [row.millibits for row in fresh.rows] == [*MILLIBITS] == [16000, 4000, 1000, 400, 160]
    assert [row.seconds for row in fresh.rows] == sorted((row.seconds for row in fresh.rows), reverse=True)
    assert all(row.seconds == row.seconds_left for row in fresh.rows)
    assert all(after.seconds_left < before.seconds_left for before, after in zip(fresh.rows, half.rows, strict=True))
    # Whoever compresses to 0.16 bits may have all of it by now, and the bound says so.
    assert half.rows[-1].seconds_left == 0
    assert half.rows[-1].before_stop_permille == 1250
    assert half.rows[3].before_stop_permille == 500
    assert half.holds


@pytest.mark.parametrize(("parameters", "small"), [(22 * 10**6, True), (8 * 10**9, True), (70 * 10**9, False)])
def test_a_model_too_small_for_caps_is_said_to_be(parameters: int, *, small: bool) -> None:
    bound = theft_bound(EgressPolicy.template(ATLAS, parameters=parameters, vocabulary=128256))
    assert bound.small is small is (bound.tokens_per_day < SMALL_TOKENS)
    # A budget that is too generous doesn't make a model larger.
    generous = replace(bound.policy, model_day_bits=bound.policy.model_day_bits * 1000)
    assert theft_bound(generous).small is small
