"""What is sealed opens to the same bytes, whatever its size; read whole, in order, or from anywhere."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strongroom.sealing.header import HEADER_LENGTH, Geometry
from strongroom.sealing.open import ObjectReader
from strongroom.sealing.seal import SealedFacts, seal_object
from strongroom.sealing.source import BytesSource
from support.sealed import (
    ROOM,
    SEGMENT,
    CountedRandom,
    content,
    data_key,
    expectation,
    opened_bytes,
    prelude,
    sealed_bytes,
)

SIZES = st.integers(0, 4 * ROOM)


@given(size=SIZES)
@example(size=0)
@example(size=1)
@example(size=ROOM - 1)
@example(size=ROOM)
@example(size=ROOM + 1)
@example(size=3 * ROOM)
@settings(max_examples=40, deadline=None)
def test_any_size_comes_back(size: int) -> None:
    plain = content(size)
    sealed, facts = sealed_bytes(plain)
    assert opened_bytes(sealed, facts) == plain
    assert facts.plain_size == size
    assert facts.size == len(sealed) == Geometry.of_plaintext(size, SEGMENT).size
    assert Geometry.of_object(len(sealed), SEGMENT) == Geometry.of_plaintext(size, SEGMENT)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_range_comes_back(data: st.DataObject) -> None:
    size = data.draw(SIZES)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    plain = content(size)
    sealed, facts = sealed_bytes(plain)
    buffer = bytearray(end - start)
    with ObjectReader(BytesSource(sealed), expectation(facts), data_key()) as reader:
        reader.read_into(start, memoryview(buffer))
    assert buffer == plain[start:end]


class _Dribble(io.RawIOBase):
    """A source that gives less than was asked for, as pipes and network file systems do."""

    def __init__(self, data: bytes, most: int) -> None:
        self._source, self._most = io.BytesIO(data), most

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        return self._source.readinto(buffer[: self._most])


@given(size=SIZES, most=st.integers(1000, ROOM))
@settings(max_examples=15, deadline=None)
def test_short_reads_are_not_the_end(size: int, most: int) -> None:
    plain = content(size)
    out = io.BytesIO()
    facts = seal_object(
        _Dribble(plain, most), out.write, prelude=prelude(), data_key=data_key(), random_bytes=CountedRandom()
    )
    assert (out.getvalue(), facts) == sealed_bytes(plain)


@pytest.mark.parametrize("size", [0, 5, ROOM, 20 * ROOM + 3])
def test_threads_change_nothing(size: int) -> None:
    plain, out = content(size), io.BytesIO()
    done: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        facts: SealedFacts = seal_object(
            io.BytesIO(plain),
            out.write,
            prelude=prelude(),
            data_key=data_key(),
            random_bytes=CountedRandom(),
            pool=pool,
            progress=done.append,
        )
        assert (out.getvalue(), facts) == sealed_bytes(plain)
        assert sum(done) == size
        buffer = bytearray(size)
        with ObjectReader(BytesSource(out.getvalue()), expectation(facts), data_key(), pool=pool) as reader:
            reader.read_all(memoryview(buffer), facts.plain_digest)
            assert b"".join(bytes(chunk) for chunk in reader.segments()) == plain
    assert buffer == plain


def test_ciphertext_does_not_show_equal_plaintext() -> None:
    sealed, _facts = sealed_bytes(bytes(4 * ROOM))
    segments = {sealed[i + 16 : i + SEGMENT] for i in range(HEADER_LENGTH, len(sealed), SEGMENT)}
    assert len(segments) == 4
    assert bytes(64) not in sealed[HEADER_LENGTH:]
