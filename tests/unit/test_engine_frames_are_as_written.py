"""The metered channel's bytes: vectors, the page's example, and every refusal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from strongroom.core.errors import MalformedError
from strongroom.enclave.metered import Code, Frame, Frames, Kind, Order, Orders, halves_of

ROOT: Final = Path(__file__).resolve().parents[2]
VECTORS: Final[dict[str, list[dict[str, Any]]]] = json.loads((ROOT / "tests/vectors/metered-channel.json").read_text())


def named(kind: str) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in VECTORS[kind]]


def order_of(vector: dict[str, Any]) -> Order:
    return Order(
        kind=Kind(vector["kind"]),
        answer=vector["answer"],
        most=vector["most"],
        temperature=vector["temperature"],
        top_p=vector["top_p"],
        seed=int(vector["seed"]),
        prompt=tuple(vector["prompt"]),
    )


@pytest.mark.parametrize("vector", named("frames"))
def test_frames(vector: dict[str, Any]) -> None:
    frame = Frame(vector["answer"], Code[vector["code"]], vector["token"])
    assert frame.to_bytes().hex() == vector["bytes"]
    assert Frame.parse(bytes.fromhex(vector["bytes"])) == frame


@pytest.mark.parametrize("vector", named("refused_frames"))
def test_refused_frames(vector: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Frame.parse(bytes.fromhex(vector["bytes"]))


@pytest.mark.parametrize("vector", named("orders"))
def test_orders(vector: dict[str, Any]) -> None:
    order = order_of(vector)
    assert order.to_bytes().hex() == vector["bytes"]
    assert Orders().feed(bytes.fromhex(vector["bytes"])) == (order,)


@pytest.mark.parametrize("vector", named("refused_orders"))
def test_refused_orders(vector: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        Orders().feed(bytes.fromhex(vector["bytes"]))


def test_bytes_may_come_in_any_pieces() -> None:
    frames = [Frame(n, Code.TOKEN, n * 1000) for n in range(5)]
    whole, cut = b"".join(frame.to_bytes() for frame in frames), Frames()
    assert [one for at in range(len(whole)) for one in cut.feed(whole[at : at + 1])] == frames
    orders, reader = [order_of(vector) for vector in VECTORS["orders"]], Orders()
    data = b"".join(order.to_bytes() for order in orders)
    assert [one for at in range(0, len(data), 7) for one in reader.feed(data[at : at + 7])] == orders


def example(name: str, file: str = "metered-channel.md") -> tuple[list[Frame], tuple[Order, ...]]:
    """Return what goes out and in, in an example of the page."""
    page = (ROOT / "docs/spec" / file).read_text()
    lines = page.split(f"<!-- example: {name} -->")[1].split("```")[1].splitlines()
    out = [Frame.parse(bytes.fromhex(line.split()[1])) for line in lines if line.startswith("<")]
    into = bytes.fromhex("".join(line[2:] for line in lines if line.startswith(">")))
    return out, Orders().feed(into)


def test_the_page_s_examples_are_true() -> None:
    assert example("channel") == (
        [Frame(0xFFF, Code.READY), Frame(0, Code.TOKEN, 42), Frame(0, Code.TOKEN, 43), Frame(0, Code.LENGTH)],
        (Order(kind=Kind.GENERATE, answer=0, most=2, prompt=(1, 128000, 7)),),
    )
    assert example("replay", "sampling.md") == (
        [Frame(0, Code.AGREED, 2), Frame(0, Code.LENGTH)],
        (Order(kind=Kind.REPLAY, answer=0, most=2, temperature=700, top_p=900, seed=9, prompt=(5, 42, 43)),),
    )
    halves = halves_of([1.5])
    assert example("vector") == (
        [*(Frame(1, Code.VALUE, half) for half in halves), Frame(1, Code.LENGTH)],
        (Order(kind=Kind.EMBED, answer=1, most=1, prompt=(101, 102)),),
    )
