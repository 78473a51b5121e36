"""A token is a function of logits, sampling and seed: defined to the bit, and the same in both engines."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.enclave.engine.adapters.numpy_llama import NumpyLlama
from strongroom.enclave.engine.sampling import agreement, choose, noise
from strongroom.enclave.engine.schedule import Agreed, Model, Vector
from strongroom.enclave.metered import MILLI, Kind, Order
from support import tiny_llama

MASK: Final = (1 << 64) - 1
SEEDS = st.integers(0, MASK)
SAMPLING = st.tuples(st.integers(0, 2 * MILLI), st.integers(1, MILLI))


def philox(counter: int, key: tuple[int, int]) -> list[int]:
    """Return one block of Philox4x64-10, written from the paper."""
    words = [counter, 0, 0, 0]
    low, high = key
    for _round in range(10):
        first, second = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [second >> 64 ^ words[1] ^ low, second & MASK, first >> 64 ^ words[3] ^ high, first & MASK]
        low, high = low + 0x9E3779B97F4A7C15 & MASK, high + 0xBB67AE8584CAA73B & MASK
    return words


def words(seed: int, position: int) -> Iterator[int]:
    for counter in itertools.count(1):
        yield from philox(counter, (seed, position))


def order(**members: Any) -> Order:
    return Order(**{"kind": Kind.GENERATE, "answer": 0, "most": 1, "prompt": (1,), **members})


def test_the_generator_is_the_published_one() -> None:
    # Random123's own answer for a key and a counter of zeros.
    assert [f"{word:016x}" for word in philox(0, (0, 0))] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]


@given(SEEDS, st.integers(0, 1 << 24))
def test_the_noise_is_the_spec_s(seed: int, position: int) -> None:
    made = noise(np, seed, position, 9)
    for value, word in zip(made, words(seed, position), strict=False):
        uniform = ((word >> 12) + 0.5) / 2**52
        assert 0 < uniform < 1
        assert value == pytest.approx(-math.log(-math.log(uniform)), rel=1e-12)


def test_the_ends_of_the_range_are_finite() -> None:
    for word in (0, MASK):
        uniform = ((word >> 12) + 0.5) * 2.0**-52
        assert math.isfinite(-math.log(-math.log(uniform)))


def test_tokens_are_as_likely_as_the_model_says() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype="float32"))
    said = Counter(choose(np, logits, order(temperature=MILLI, seed=seed), 3) for seed in range(4000))
    # 4,000 draws: no share is further off than five standard deviations.
    for token, chance in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert abs(said[token] / 4000 - chance) < 5 * math.sqrt(chance * (1 - chance) / 4000)
    held = {choose(np, logits, order(temperature=MILLI, seed=seed, top_p=700), 3) for seed in range(400)}
    assert held == {0, 1}


def test_equals_are_decided_by_their_ids() -> None:
    logits = np.array([1, 7, 7, 7], dtype="float32")
    assert choose(np, logits, order(), 0) == 1
    assert choose(np, logits, order(temperature=1000, top_p=1), 0) == 1


@given(SEEDS, SAMPLING, st.integers(0, 100), st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40))
def test_it_depends_on_nothing_else(seed: int, sampling: tuple[int, int], position: int, scores: list[float]) -> None:
    logits = np.array(scores, dtype="float32")
    asked = order(temperature=sampling[0], top_p=sampling[1], seed=seed)
    token = choose(np, logits, asked, position)
    assert token == choose(np, logits.copy(), asked, position)
    assert 0 <= token < len(scores)
    if sampling[0] == 0 or sampling[1] == 1:
        assert scores[token] == max(logits.tolist())


@given(st.lists(st.integers(0, 7), min_size=1, max_size=12), st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_what_agrees_is_counted_up_to_the_first_difference(honest: list[int], said: list[int]) -> None:
    looked: list[int] = []

    def rows() -> Iterator[Any]:
        for token in honest:
            looked.append(token)
            yield np.eye(8, dtype="float32")[token]

    honest = (honest * len(said))[: len(said)]
    asked = order(kind=Kind.REPLAY, most=len(said), prompt=(3, *said))
    expected = next((n for n, (one, other) in enumerate(zip(honest, said, strict=True)) if one != other), len(said))
    assert agreement(np, rows(), asked) == expected
    assert len(looked) <= expected + 1


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(((0, 1000, 7), (1000, 500, MASK), (2000, 1000, 7)), id="some"),
        pytest.param(
            tuple(itertools.product((0, 300, 1000, 2000), (1, 500, 1000), (7, MASK))), id="all", marks=pytest.mark.heavy
        ),
    ],
)
def test_the_engines_say_the_same_tokens(tmp_path: Path, settings: tuple[tuple[int, int, int], ...]) -> None:
    pytest.importorskip("transformers")
    from strongroom.enclave.engine.adapters.transformers_model import TransformersModel  # noqa: PLC0415 - it is rare

    folder = tiny_llama.make(tmp_path)
    engines: tuple[Model, Model] = TransformersModel(folder), NumpyLlama(folder)
    verdicts = []
    for temperature, top_p, seed in settings:
        asked = order(most=40, temperature=temperature, top_p=top_p, seed=seed, prompt=(5, 9, seed % 512))
        for first, second in (engines, engines[::-1]):
            generating = first.begin(asked)
            assert generating is not None
            assert not isinstance(generating, Agreed | Vector)
            said = tuple(generating.step() or 0 for _ in range(40))
            shown = order(
                kind=Kind.REPLAY,
                most=40,
                temperature=temperature,
                top_p=top_p,
                seed=seed,
                prompt=(*asked.prompt, *said),
            )
            verdict = second.begin(shown)
            assert isinstance(verdict, Agreed)
            verdicts.append(verdict.tokens)
            # And a token of another's choosing is found where it stands.
            wrong = (*asked.prompt, *said[:20], (said[20] + 1) % 512, *said[21:])
            caught = second.begin(
                order(kind=Kind.REPLAY, most=40, temperature=temperature, top_p=top_p, seed=seed, prompt=wrong)
            )
            assert isinstance(caught, Agreed)
            assert caught.tokens == min(20, verdict.tokens)
    # Floats round differently in the two; hardly ever so that another token wins.
    assert sum(verdicts) > 0.99 * 40 * len(verdicts)


def test_a_replay_longer_than_the_context_is_turned_down(tmp_path: Path) -> None:
    model = NumpyLlama(tiny_llama.make(tmp_path))
    assert model.begin(order(kind=Kind.REPLAY, most=5, prompt=(1,) * 513)) is None
    assert model.begin(order(kind=Kind.REPLAY, most=5, prompt=(1,) * 9 + (512,))) is None
    assert isinstance(model.begin(order(kind=Kind.REPLAY, most=1, prompt=(1,) * 512)), Agreed)
