"""Whatever comes out of the enclave, or in from a client, is read or refused."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import StrongroomError
from strongroom.enclave.gateway.bodies import ChatBody, CompletionBody, EmbeddingBody, read
from strongroom.enclave.gateway.keys import ApiKeys
from strongroom.enclave.metered import FRAME, Frames, Orders

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=20,
)
NAMES = [
    "model",
    "prompt",
    "messages",
    "max_tokens",
    "temperature",
    "top_p",
    "n",
    "stream",
    "stop",
    "seed",
    "input",
    "dimensions",
]
FIELDS = st.dictionaries(st.sampled_from(NAMES), JSON)


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_frames(parts: list[bytes]) -> None:
    frames, whole = Frames(), b"".join(parts)
    with contextlib.suppress(StrongroomError):
        read_back = b"".join(frame.to_bytes() for part in parts for frame in frames.feed(part))
        # What was read is what came, to the bit: there is no second way to write a frame.
        assert read_back == whole[: len(whole) - len(whole) % FRAME]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_orders(parts: list[bytes]) -> None:
    orders = Orders()
    with contextlib.suppress(StrongroomError):
        found = [order for part in parts for order in orders.feed(part)]
        assert b"".join(parts).startswith(b"".join(order.to_bytes() for order in found))


@given(st.binary(max_size=200) | (JSON | FIELDS).map(lambda value: json.dumps(value).encode()))
def test_bodies(data: bytes) -> None:
    with contextlib.suppress(StrongroomError):
        read(ChatBody, data)
    with contextlib.suppress(StrongroomError):
        read(CompletionBody, data)
    with contextlib.suppress(StrongroomError):
        read(EmbeddingBody, data)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_key_files(data: bytes) -> None:
    with contextlib.suppress(StrongroomError):
        ApiKeys.parse(data)
