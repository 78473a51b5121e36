"""Whatever stands in an egress policy, a block, an entry or a configuration: it is read, or refused by name."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.cli.egress_model import model_facts
from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields, reading
from strongroom.egress.bound import theft_bound
from strongroom.egress.odometer import Block
from strongroom.egress.policies import EgressPolicies, changes, only_tightens
from strongroom.egress.policy import EgressPolicy
from strongroom.release.metering import Metered, breach_cause, read_reading, read_resumption, read_seen
from support.egress import ATLAS, BOREAS, policy
from support.logs import GENESIS, KEEPER
from support.metered import policies

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("read", [EgressPolicy.read, Block.read])
@given(data=st.data())
def test_objects_are_read_or_refused(read: Callable[[Fields], object], data: st.DataObject) -> None:
    base: dict[str, Json] = {"model": "atlas", "run": 1, "through": 1, "settled": 1, "tokens": 1, "verified": 1}
    if read == EgressPolicy.read:
        base = policy().to_json()
    changed = data.draw(st.dictionaries(st.sampled_from([*base, "other"]), values, max_size=3))
    with contextlib.suppress(StrongroomError), reading({**base, **changed}, "fuzz") as fields:
        read(fields)


@given(data=st.data())
def test_documents_are_read_or_refused(data: st.DataObject) -> None:
    base = json.loads(policies(GENESIS, policy(), policy(BOREAS)).to_bytes())
    changed = data.draw(st.dictionaries(st.sampled_from([*base, "other"]), values, max_size=2))
    inner = data.draw(st.dictionaries(st.sampled_from([*base["policies"][0], "other"]), values, max_size=2))
    base["policies"][data.draw(st.integers(0, 1))] |= inner
    with contextlib.suppress(StrongroomError):
        parsed = EgressPolicies.parse(encode({**base, **changed}))
        assert EgressPolicies.parse(parsed.to_bytes()) == parsed
        only_tightens(changes({}, parsed.by_model))
        parsed.check()


@given(st.binary(max_size=400))
def test_answers_of_an_odometer_are_read_or_refused(data: bytes) -> None:
    metered = Metered(request=Digest.of(b"request"), use=1, model=ATLAS)
    for read in (
        lambda: read_reading(data, KEEPER.public_key, metered=metered),
        lambda: read_resumption(data, KEEPER.public_key, ATLAS),
        lambda: read_seen(data, KEEPER.public_key, ATLAS),
        lambda: breach_cause(data.decode("latin-1")),
        lambda: EgressPolicies.parse(data),
    ):
        with contextlib.suppress(StrongroomError):
            read()


@given(st.binary(max_size=400))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(StrongroomError):
        EgressPolicy.parse(data)


@given(
    st.dictionaries(st.sampled_from([*policy().to_json()]), st.integers(0, 2**53), max_size=3), st.integers(0, 2**60)
)
def test_every_policy_that_is_read_has_a_bound(changes: dict[str, int], spent: int) -> None:
    with contextlib.suppress(StrongroomError), reading({**policy().to_json(), **changes}, "fuzz") as fields:
        bound = theft_bound(EgressPolicy.read(fields), spent=spent)
        assert all(0 <= row.seconds_left <= row.seconds for row in bound.rows)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values, st.binary(max_size=40))
def test_models_are_counted_or_refused(tmp_path: Path, config: Json, weights: bytes) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(weights)
    with contextlib.suppress(StrongroomError):
        model_facts(tmp_path, None)
    text = json.dumps({"__metadata__": {}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with contextlib.suppress(StrongroomError):
        assert model_facts(tmp_path, None).parameters == 0
