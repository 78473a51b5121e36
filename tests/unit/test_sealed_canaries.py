"""A canary tells a model that answers as it did when it was sealed from any other answer."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.sealing.canary import MAX_TOKENS, Canary
from strongroom.sealing.errors import CanaryMismatchError

TOKENS = Canary.of_tokens("greeting", [1, 2], [3, 4, 5])
VECTOR = Canary.of_vector("embedding", [1], [0.6, 0.8], tolerance=1000)


def _read(value: Json) -> Canary:
    with Fields(value, "canary") as fields:
        return Canary.read(fields)


@pytest.mark.parametrize("canary", [TOKENS, VECTOR])
def test_a_canary_reads_back(canary: Canary) -> None:
    assert _read(decode(encode(canary.to_json()))) == canary


def test_the_same_answer_passes() -> None:
    TOKENS.check_tokens([3, 4, 5])
    VECTOR.check_vector([0.6, 0.8])
    # Only the direction counts, within the tolerance.
    VECTOR.check_vector([6.0, 8.0])
    VECTOR.check_vector([0.61, 0.79])


@pytest.mark.parametrize("found", [[], [3, 4], [3, 4, 5, 6], [3, 5, 4], [0, 0, 0]])
def test_other_tokens_are_refused(found: list[int]) -> None:
    with pytest.raises(CanaryMismatchError, match="greeting"):
        TOKENS.check_tokens(found)


@pytest.mark.parametrize(
    "found",
    [
        [],
        [0.6],
        [0.6, 0.8, 0.0],
        [0.8, 0.6],
        [-0.6, -0.8],
        [0.0, 0.0],
        [math.nan, 0.8],
        [0.6, math.nan],
        [math.nan, math.nan],
        [math.inf, 0.8],
        [math.inf, math.inf],
        [-math.inf, math.inf],
        [1e308, 1e308],
        [-1e308, 1.7e308],
    ],
)
def test_a_vector_of_another_direction_length_or_kind_is_refused(found: Sequence[float]) -> None:
    with pytest.raises(CanaryMismatchError, match="embedding"):
        VECTOR.check_vector(found)


def test_a_canary_is_compared_as_what_it_is() -> None:
    with pytest.raises(CanaryMismatchError):
        TOKENS.check_vector([3.0, 4.0, 5.0])
    with pytest.raises(CanaryMismatchError):
        VECTOR.check_tokens([])


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=8).filter(any))
def test_any_vector_passes_as_itself(vector: list[float]) -> None:
    if math.hypot(*vector) < 1e-6:
        return
    Canary.of_vector("any", [], vector, tolerance=1).check_vector(vector)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "checksum"},
        {"name": ""},
        {"name": "n" * 65},
        {"output": []},
        {"output": [-1]},
        {"output": [True]},
        {"output": ["3"]},
        {"output": [0] * (MAX_TOKENS + 1)},
        {"input": [2**31]},
        {"vector": ""},
        {"tolerance": 1},
    ],
)
def test_another_form_is_refused(change: dict[str, Json]) -> None:
    value = TOKENS.to_json()
    assert isinstance(value, dict)
    with pytest.raises(MalformedError):
        _read(value | change)


@pytest.mark.parametrize("vector", [b"", b"abc", struct.pack("<f", math.nan), struct.pack("<2f", 0, 0)])
def test_a_vector_that_compares_nothing_is_refused(vector: bytes) -> None:
    with pytest.raises(MalformedError):
        _read({**_members(), "vector": to_base64(vector)})
    with pytest.raises(MalformedError):
        _read({**_members(), "tolerance": 1_000_001})


def _members() -> dict[str, Json]:
    value = VECTOR.to_json()
    assert isinstance(value, dict)
    return value
