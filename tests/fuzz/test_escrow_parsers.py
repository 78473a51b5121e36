"""Whatever a custodian or a locked keeper is handed: read, or refused as ours; and one object has one form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets.escrow import ESCROW


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for target in ESCROW.values():
        target(data)


@pytest.mark.parametrize("name", sorted(ESCROW))
@given(st.data())
def test_any_change_of_a_good_one(name: str, data: st.DataObject) -> None:
    target = ESCROW[name]
    seed = data.draw(st.sampled_from(list(target.seeds())))
    at, length = data.draw(st.integers(0, len(seed))), data.draw(st.integers(0, 40))
    target(seed[:at] + data.draw(st.binary(max_size=40)) + seed[at + length :])
    target(seed)
