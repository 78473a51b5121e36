"""A model that answers otherwise than when it was sealed serves nothing, and outside only one word of it is heard."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.ids import ImageId
from strongroom.enclave.agent import wiring as agent
from strongroom.enclave.agent.ending import told_ending
from strongroom.enclave.engine.canaries import (
    CANARY_FILE,
    MISMATCH_EXIT,
    RECORDED_TOKENS,
    compare,
    record_tokens,
    record_vector,
)
from strongroom.enclave.engine.schedule import Agreed, Generating, Model, Schedule, Vector
from strongroom.enclave.gateway.wiring import engine_image
from strongroom.enclave.metered import OUTPUT, Code, Frame, Kind, Order, halves_of
from strongroom.enclave.runner import ExitStatus
from strongroom.sealing.canary import Canary, canaries_to_bytes, read_canaries
from strongroom.sealing.errors import CanaryMismatchError
from support.gateways import Counting
from support.sealed import data_key, seal_model, verified, write_model

TOKENS: Final = Canary.of_tokens("count", [7], [8, 9, 10])
VECTOR: Final = Canary.of_vector("mean", [1], [0.6, 0.8], tolerance=100)


class Saying:
    """A model that says what it is told to, then stops."""

    def __init__(self, *tokens: int) -> None:
        self._tokens = tokens

    def begin(self, _order: Order) -> Generating | None:
        return _Says(list(self._tokens))


class _Says:
    def __init__(self, left: list[int]) -> None:
        self._left = left

    def step(self) -> int | None:
        return self._left.pop(0) if self._left else None


class Embedding:
    """A model that makes one vector."""

    def __init__(self, *values: float) -> None:
        self._values = values

    def begin(self, order: Order) -> Vector | None:
        return Vector(self._values) if order.kind is Kind.EMBED else None


class Nothing:
    """A model that can't take what it is asked."""

    def begin(self, _order: Order) -> None:
        return None


def test_the_same_answers_pass() -> None:
    compare(Counting(), [TOKENS])
    compare(Saying(8, 9, 10), [TOKENS])
    compare(Embedding(0.6, 0.8), [VECTOR])
    compare(Nothing(), [])


@pytest.mark.parametrize(
    "garbage",
    [
        Saying(),
        Saying(8, 9),
        Saying(8, 9, 11),
        Saying(0, 0, 0),
        Nothing(),
        Embedding(8.0, 9.0, 10.0),
    ],
)
def test_a_model_that_says_other_tokens_is_found(garbage: Model) -> None:
    with pytest.raises(CanaryMismatchError):
        compare(garbage, [TOKENS])


@pytest.mark.parametrize(
    "garbage",
    [
        Embedding(0.8, 0.6),
        Embedding(0.0, 0.0),
        Embedding(math.nan, math.nan),
        Embedding(0.6, 0.8, 0.0),
        Embedding(),
        Saying(1, 2),
        Nothing(),
    ],
)
def test_a_model_that_makes_other_vectors_is_found(garbage: Model) -> None:
    with pytest.raises(CanaryMismatchError):
        compare(garbage, [VECTOR])


def test_one_of_several_is_enough() -> None:
    with pytest.raises(CanaryMismatchError):
        compare(Counting(), [TOKENS, replace(TOKENS, output=(8, 9, 11))])
    # A question that can't even be asked isn't passed over.
    with pytest.raises(CanaryMismatchError, match="isn't one for this model"):
        compare(Counting(), [replace(TOKENS, input=())])


def test_what_was_recorded_passes_and_is_read_back() -> None:
    made = [record_tokens(Counting(), "count", [3]), record_tokens(Saying(5), "short", [1])]
    assert len(made[0].output) == RECORDED_TOKENS
    compare(Counting(), made[:1])
    assert made[1].output == (5,)
    vector = record_vector(Embedding(0.25, -0.5), "mean", [1], 2)
    compare(Embedding(0.25, -0.5), [vector])
    assert read_canaries(canaries_to_bytes([*made, vector])) == (*made, vector)
    for silent in (Saying(), Nothing()):
        with pytest.raises(UsageError):
            record_tokens(silent, "silent", [1])
    with pytest.raises(UsageError):
        record_vector(Counting(), "none", [1], 2)


def test_a_metered_command_s_end_says_one_of_three_words(tmp_path: Path) -> None:
    metered = engine_image(ImageId("engine"), tmp_path).profile
    told: set[tuple[object, object]] = set()
    for status in [ExitStatus(code, None) for code in range(256)] + [ExitStatus(None, n) for n in range(1, 65)]:
        try:
            told.add((told_ending(metered, status).code, told_ending(metered, status).signal))
        except CanaryMismatchError as error:
            told.add((error.reason, error.message))
    assert len(told) == 3
    assert {code for code, _ in told} == {0, 1, "canary-mismatch"}
    free = replace(metered, environment=tuple(one for one in metered.environment if one != OUTPUT))
    for status in (ExitStatus(MISMATCH_EXIT, None), ExitStatus(7, None), ExitStatus(None, 9)):
        assert told_ending(free, status) == status


def test_a_schedule_says_vectors_whole_and_only_where_one_was_asked_for() -> None:
    order = Order(kind=Kind.EMBED, answer=4, most=2, prompt=(1,))
    schedule = Schedule(Embedding(1.0, -2.5))
    assert schedule.take(order) == ()
    halves = halves_of((1.0, -2.5))
    assert schedule.round() == (*(Frame(4, Code.VALUE, half) for half in halves), Frame(4, Code.LENGTH))
    assert schedule.idle
    # A model that answers with the other kind, or with another length, says nothing of it.
    failed = (Frame(4, Code.FAILED),)
    assert Schedule(Counting()).take(order) == failed
    assert Schedule(Embedding(1.0)).take(order) == failed
    assert Schedule(Embedding(1.0)).take(Order(kind=Kind.GENERATE, answer=4, most=1, prompt=(1,))) == failed

    class Careless:
        def begin(self, _order: Order) -> Vector:
            return Vector((1.0, 2.0))

    assert Schedule(Careless()).take(Order(kind=Kind.GENERATE, answer=4, most=2, prompt=(1,))) == failed


def test_a_schedule_says_what_agreed_only_where_that_was_asked_for() -> None:
    order = Order(kind=Kind.REPLAY, answer=4, most=3, prompt=(1, 2, 3, 9))
    schedule = Schedule(Counting())
    assert schedule.take(order) == ()
    assert schedule.round() == (Frame(4, Code.AGREED, 2), Frame(4, Code.LENGTH))
    assert schedule.idle

    class Careless:
        def __init__(self, tokens: int) -> None:
            self.tokens = tokens

        def begin(self, _order: Order) -> Agreed:
            return Agreed(self.tokens)

    failed = (Frame(4, Code.FAILED),)
    assert Schedule(Careless(4)).take(order) == failed
    assert Schedule(Careless(1)).take(Order(kind=Kind.GENERATE, answer=4, most=3, prompt=(1,))) == failed
    assert Schedule(Embedding(1.0)).take(order) == failed


class Folder:
    """What the agent writes, kept."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.closed = False

    def write(self, name: str, chunks: Iterable[bytes | bytearray | memoryview]) -> int:
        assert not self.closed
        self.files[name] = b"".join(map(bytes, chunks))
        return len(self.files[name])

    def close(self) -> None:
        self.closed = True


class Leased:
    """A lease that goes on."""

    def between(self, chunks: Iterable[memoryview]) -> Iterable[memoryview]:
        return chunks


def opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canaries: list[Canary], files: dict[str, tuple[int, bytes]]
) -> tuple[Json, Folder]:
    """Seal files and have the agent open them."""
    sealed, folder = tmp_path / "sealed", Folder()
    manifest = verified(seal_model(write_model(tmp_path / "plain", files), sealed, canaries=canaries))
    monkeypatch.setattr(agent, "ModelFolder", SimpleNamespace(of=lambda _profile: folder))
    order = SimpleNamespace(sealed=str(sealed))
    return agent.open_weights(order, manifest, data_key(), None, Leased()), folder  # type: ignore[arg-type]


def test_the_agent_hands_the_sealed_canaries_to_the_command_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, folder = opened(tmp_path, monkeypatch, [TOKENS, VECTOR], {"config.json": (0o644, b"{}")})
    assert told == {"files": 1, "bytes": 2, "canaries": 2}
    assert read_canaries(folder.files[CANARY_FILE]) == (TOKENS, VECTOR)
    assert folder.closed


def test_no_canaries_are_none_and_a_model_cannot_bring_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told, folder = opened(tmp_path, monkeypatch, [], {"config.json": (0o644, b"{}")})
    assert told == {"files": 1, "bytes": 2, "canaries": 0}
    assert set(folder.files) == {"config.json"}
    own = {CANARY_FILE: (0o644, canaries_to_bytes([]))}
    with pytest.raises(MalformedError, match="name of its canaries"):
        opened(tmp_path / "other", monkeypatch, [TOKENS], own)
