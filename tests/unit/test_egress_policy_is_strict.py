"""An egress policy has every member, each within its bounds; it is read back as it was written."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json, encode
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.egress.bits import Output
from strongroom.egress.policy import STRICT_MILLIBITS, EgressPolicy
from support.egress import ATLAS, policy

MADE = EgressPolicy.template(ATLAS, parameters=70 * 10**9, vocabulary=128256)


def read(value: Json) -> EgressPolicy:
    with Fields(value, "policy") as fields:
        return EgressPolicy.read(fields)


@given(st.integers(10**4, 10**14), st.integers(2, 10**6), st.sampled_from([STRICT_MILLIBITS, 400, 4000]))
def test_a_template_is_read_back(parameters: int, vocabulary: int, millibits: int) -> None:
    made = EgressPolicy.template(ATLAS, parameters=parameters, vocabulary=vocabulary, millibits_per_weight=millibits)
    assert EgressPolicy.parse(encode(made.to_json())) == made
    assert EgressPolicy.parse(encode(made.to_json())).digest == made.digest


def test_the_template_is_rands() -> None:
    assert MADE.effective_size == 28 * 10**9
    assert MADE.effective_millibits_per_weight == 4000 // 10
    assert MADE.min_days_to_steal == 365
    assert MADE.model_day_bits == 28 * 10**9 // 366
    assert MADE.lifetime_bits == 14 * 10**9
    assert MADE.workspace_year_bits == 280_000_000
    assert (MADE.quota_holders, MADE.warn_permille, MADE.outputs) == (50, (500, 800), (Output.TOKENS,))


@pytest.mark.parametrize("name", sorted(MADE.to_json()))
def test_no_member_has_a_default(name: str) -> None:
    told = MADE.to_json()
    del told[name]
    with pytest.raises(MalformedError, match=f"policy.{name}` is missing"):
        read(told)


def test_no_member_is_unknown() -> None:
    with pytest.raises(MalformedError):
        read({**MADE.to_json(), "burst": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("model", "At las"),
        ("parameters", 0),
        ("parameters", 10**14 + 1),
        ("vocabulary", 1),
        ("effective_millibits_per_weight", 0),
        ("effective_millibits_per_weight", 4001),
        ("min_days_to_steal", 0),
        ("model_day_bits", 0),
        ("principal_day_bits", 0),
        ("principal_day_bits", MADE.model_day_bits + 1),
        ("fleet_day_bits", 0),
        ("lifetime_permille", 0),
        ("lifetime_permille", 1001),
        ("warn_permille", []),
        ("warn_permille", [800, 500]),
        ("warn_permille", [500, 500]),
        ("warn_permille", [0]),
        ("warn_permille", [1000]),
        ("warn_permille", [True]),
        ("warn_permille", ["500"]),
        ("warn_permille", list(range(1, 10))),
        ("residual_millibits_per_token", 0),
        ("residual_millibits_per_token", MADE.token_millibits + 1),
        ("verified_by", {}),
        ("verified_by", "second"),
        ("verified_by", {"image": "se cond", "replay_permille": 1, "differences_per_million": 1}),
        ("verified_by", {"image": "second", "replay_permille": 0, "differences_per_million": 1}),
        ("verified_by", {"image": "second", "replay_permille": 1001, "differences_per_million": 1}),
        ("verified_by", {"image": "second", "replay_permille": 1, "differences_per_million": 0}),
        ("verified_by", {"image": "second", "replay_permille": 1, "differences_per_million": 100_001}),
        ("outputs", []),
        ("outputs", ["tokens", "tokens"]),
        ("outputs", ["logits"]),
        ("quota_holders", 51),
        ("workspace_year_permille", 11),
        ("workspace_person_bits", MADE.workspace_year_bits + 1),
        ("workspace_person_bits", -1),
    ],
)
def test_members_out_of_bounds_are_refused(name: str, value: Any) -> None:
    with pytest.raises(MalformedError):
        read({**MADE.to_json(), name: value})


def test_a_model_that_nothing_may_leave_has_no_template() -> None:
    with pytest.raises(MalformedError):
        EgressPolicy.template(ATLAS, parameters=900, vocabulary=1000)


def test_a_policy_in_another_spelling_is_no_signed_one() -> None:
    with pytest.raises(MalformedError):
        EgressPolicy.parse(encode(policy().to_json()) + b"\n")
