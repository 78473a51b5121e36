"""Every difference between two documents of egress policies is told, and whatever lets more out is called looser."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ImageId
from strongroom.egress.bits import Output
from strongroom.egress.bound import theft_bound
from strongroom.egress.errors import BoundBrokenError
from strongroom.egress.policies import MAX_POLICIES, EgressPolicies, changes, only_tightens
from strongroom.egress.policy import EgressPolicy
from support.egress import ATLAS, BOREAS, VERIFIED_BY, policy
from support.logs import GENESIS
from support.metered import policies

BASE = policy(
    fleet_day_bits=2000,
    principal_day_bits=500,
    residual_millibits_per_token=5000,
    verified_by=VERIFIED_BY,
    outputs=(Output.TOKENS, Output.VALUES),
    quota_holders=10,
    workspace_year_permille=5,
    workspace_person_bits=1000,
    min_days_to_steal=200,
    warn_permille=(500, 800),
)
LOOSER: dict[str, Any] = {
    "parameters": 1_000_001,
    "vocabulary": 1023,
    "effective_millibits_per_weight": 401,
    "min_days_to_steal": 199,
    "principal_day_bits": 501,
    "model_day_bits": 1001,
    "fleet_day_bits": 2001,
    "lifetime_permille": 501,
    "warn_permille": (500,),
    "residual_millibits_per_token": 4999,
    "verified_by": replace(VERIFIED_BY, image=ImageId("third")),
    "outputs": (Output.TOKENS, Output.VALUES, Output.BYTES),
    "quota_holders": 11,
    "workspace_year_permille": 6,
    "workspace_person_bits": 1001,
}
TIGHTER: dict[str, Any] = {
    "parameters": 999_999,
    "vocabulary": 1025,
    "effective_millibits_per_weight": 399,
    "min_days_to_steal": 201,
    "principal_day_bits": 499,
    "model_day_bits": 999,
    "fleet_day_bits": 1999,
    "lifetime_permille": 499,
    "warn_permille": (500, 600, 800),
    "residual_millibits_per_token": 5001,
    "verified_by": None,
    "outputs": (Output.TOKENS,),
    "quota_holders": 9,
    "workspace_year_permille": 4,
    "workspace_person_bits": 999,
}


def told(before: EgressPolicy | None, after: EgressPolicy | None, *, metered: bool = False) -> list[bool]:
    found = changes(
        {ATLAS: before} if before else {}, {ATLAS: after} if after else {}, metered=(ATLAS,) if metered else ()
    )
    return [one.looser for one in found]


def test_every_member_is_weighed() -> None:
    members = {one.name for one in fields(EgressPolicy)} - {"model"}
    assert LOOSER.keys() == TIGHTER.keys() == members


@pytest.mark.parametrize("name", LOOSER)
def test_each_member_alone(name: str) -> None:
    assert told(BASE, replace(BASE, **{name: LOOSER[name]})) == [True]
    assert told(BASE, replace(BASE, **{name: TIGHTER[name]})) == [False]
    # Something tighter beside it makes it no less loose.
    other = "quota_holders" if name != "quota_holders" else "lifetime_permille"
    mixed = replace(BASE, **{name: LOOSER[name], other: TIGHTER[other]})
    assert sorted(told(BASE, mixed)) == [False, True]
    assert not only_tightens(changes({ATLAS: BASE}, {ATLAS: mixed}))


@pytest.mark.parametrize(("name", "less", "more"), [("replay_permille", 1, 999), ("differences_per_million", 9, 10)])
def test_more_that_is_verified_is_looser(name: str, less: int, more: int) -> None:
    changed: list[dict[str, Any]] = [{name: less}, {name: more}]
    low, high = (replace(BASE, verified_by=replace(VERIFIED_BY, **change)) for change in changed)
    assert told(low, high) == [True]
    assert told(high, low) == [False]
    assert told(replace(BASE, verified_by=None), low) == [True]


def test_models_that_come_and_go() -> None:
    assert told(BASE, BASE) == []
    assert told(BASE, None) == [True]
    assert told(None, BASE) == [False]
    # Left out once and taken in again: else that would be the way around a limit.
    assert told(None, BASE, metered=True) == [True]


@given(st.data())
def test_what_only_tightens_lets_nothing_out_sooner_nor_more(data: st.DataObject) -> None:
    names = data.draw(st.sets(st.sampled_from([*LOOSER]), min_size=1, max_size=5))
    chosen = {name: data.draw(st.sampled_from([LOOSER[name], TIGHTER[name]])) for name in names}
    after = replace(BASE, **chosen)
    if only_tightens(changes({ATLAS: BASE}, {ATLAS: after})):
        assert after.lifetime_bits <= BASE.lifetime_bits
        assert after.model_day_bits <= BASE.model_day_bits
        assert after.cost(Output.TOKENS, 7, most=9) >= BASE.cost(Output.TOKENS, 7, most=9)
        assert {*after.outputs} <= {*BASE.outputs}
        assert after.min_days_to_steal >= BASE.min_days_to_steal


def test_a_document_is_read_back_and_bounded() -> None:
    made = policies(GENESIS, BASE, replace(BASE, model=BOREAS))
    assert EgressPolicies.parse(made.to_bytes()) == made
    assert [*made.by_model] == [ATLAS, BOREAS]
    again = policies(GENESIS, *made.merged([replace(BASE, lifetime_permille=1)]), before=made)
    assert (again.epoch, again.predecessor) == (2, Digest.of(made.to_bytes()))
    assert [one.lifetime_permille for one in again.policies] == [1, 500]
    with pytest.raises(MalformedError):
        policies(GENESIS, BASE, BASE)
    with pytest.raises(MalformedError):
        policies(GENESIS, *(replace(BASE, model=f"m{n}") for n in range(MAX_POLICIES + 1)))  # type: ignore[arg-type]
    for data in (b"{}", made.to_bytes() + b" ", made.to_bytes().replace(b'"epoch":1', b'"epoch":0')):
        with pytest.raises(MalformedError):
            EgressPolicies.parse(data)


def test_a_model_that_could_be_stolen_too_soon_is_named() -> None:
    broken = replace(BASE, model=BOREAS, min_days_to_steal=1000)
    assert not theft_bound(broken).holds
    with pytest.raises(BoundBrokenError, match="boreas"):
        policies(GENESIS, BASE, broken).check()
