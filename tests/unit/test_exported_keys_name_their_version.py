"""What the wallet says of an exported data key is read back as it was written, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.client.resealing import Exported
from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from support.deployment import publisher

KEPT = Exported(
    model=ModelId("atlas"), version=3, manifest=Digest.of(b"manifest"), publisher_key=publisher("dana").public_key
)


def test_it_is_read_back() -> None:
    assert Exported.parse(KEPT.to_bytes()) == KEPT


@pytest.mark.parametrize("change", [{"v": 2}, {"version": 0}, {"model": "../atlas"}, {"more": 1}, {"manifest": "x"}])
def test_another_form_is_refused(change: dict[str, object]) -> None:
    value = decode(KEPT.to_bytes())
    assert isinstance(value, dict)
    with pytest.raises(StrongroomError):
        Exported.parse(encode({**value, **change}))  # type: ignore[dict-item]


@given(st.binary(max_size=300))
def test_whatever_is_read_it_is_understood_or_refused(data: bytes) -> None:
    try:
        Exported.parse(data)
    except StrongroomError:
        return
    raise AssertionError("random bytes were understood")
