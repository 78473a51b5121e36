"""What is sealed opens to the same bytes, whatever its size; read whole, in order, or from anywhere."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strongroom.sealing.header import HEADER_LENGTH, Geometry, SealedHeader
from strongroom.sealing.open import ObjectReader
from strongroom.sealing.plan import Part
from strongroom.sealing.seal import ObjectSealer, Stream
from strongroom.sealing.source import BytesSource
from strongroom.sealing.spread import Engine
from strongroom.sealing.tree import leaf
from support.examples import examples
from support.sealed import (
    ROOM,
    SEGMENT,
    CountedRandom,
    content,
    data_key,
    expectation,
    opened_bytes,
    prelude,
    seal_object,
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
@settings(max_examples=examples(40), deadline=None)
def test_any_size_comes_back(size: int) -> None:
    plain = content(size)
    sealed, facts = sealed_bytes(plain)
    assert opened_bytes(sealed, facts) == plain
    assert facts.plain_size == size
    assert facts.size == len(sealed) == Geometry.of_plaintext(size, SEGMENT).size
    assert Geometry.of_object(len(sealed), SEGMENT) == Geometry.of_plaintext(size, SEGMENT)


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
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


class _Written:
    """Takes segments from any thread, in any order."""

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}

    def put(self, offset: int, data: memoryview) -> None:
        assert offset not in self._pieces
        self._pieces[offset] = bytes(data)

    def getvalue(self) -> bytes:
        whole = b""
        for offset in sorted(self._pieces):
            assert offset == len(whole)
            whole += self._pieces[offset]
        return whole


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
    out = _Written()
    facts = seal_object(
        _Dribble(plain, most), out.put, prelude=prelude(), data_key=data_key(), random_bytes=CountedRandom()
    )
    assert (out.getvalue(), facts) == sealed_bytes(plain)


@pytest.mark.parametrize("size", [0, 5, ROOM, 20 * ROOM + 3])
def test_threads_change_nothing(size: int) -> None:
    plain, out = content(size), _Written()
    done: list[int] = []
    random = CountedRandom()
    with ThreadPoolExecutor(3) as pool:
        stream = Stream.begun(prelude(), data_key(), random)
        with ObjectSealer(out.put, stream, random_bytes=random, pool=pool, progress=done.append) as sealer:
            sealer.fill(io.BytesIO(plain))
            facts = sealer.finish()
        assert (out.getvalue(), facts) == sealed_bytes(plain)
        assert sum(done) == size
        buffer, again = bytearray(size), bytearray(size)
        source = BytesSource(out.getvalue())
        with ObjectReader(source, expectation(facts), data_key(), engine=Engine(pool=pool, threads=3)) as reader:
            reader.read_parts_of_whole([Part(0, memoryview(buffer))])
            reader.read_into(0, memoryview(again))
            assert b"".join(bytes(chunk) for chunk in reader.segments()) == plain
    assert buffer == again == plain


@given(size=SIZES, cuts=st.lists(st.integers(0, 4 * ROOM), max_size=8))
@settings(max_examples=25, deadline=None)
def test_however_plaintext_is_pushed_the_object_is_the_same(size: int, cuts: list[int]) -> None:
    plain, out, random = content(size), _Written(), CountedRandom()
    ends = sorted({min(cut, size) for cut in cuts} | {size})
    stream = Stream.begun(prelude(), data_key(), random)
    with ObjectSealer(out.put, stream, random_bytes=random) as sealer:
        begin = 0
        for number, end in enumerate(ends):
            if number % 2:
                sealer.fill(io.BytesIO(plain[begin:end]))
            else:
                sealer.write(plain[begin:end])
            begin = end
        facts = sealer.finish()
    assert (out.getvalue(), facts) == sealed_bytes(plain)


@given(size=SIZES, kept=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_an_object_goes_on_after_its_good_segments(size: int, kept: int) -> None:
    plain = content(size)
    sealed, facts = sealed_bytes(plain)
    segments = [sealed[i : i + SEGMENT] for i in range(HEADER_LENGTH, len(sealed), SEGMENT)]
    kept = min(kept, len(segments) - 1)
    out, random = _Written(), CountedRandom(b"after the interruption")
    stream = Stream.resumed(SealedHeader.parse(sealed[:HEADER_LENGTH]), data_key(), [leaf(s) for s in segments[:kept]])
    with ObjectSealer(out.put, stream, random_bytes=random) as sealer:
        sealer.write(plain[kept * ROOM :])
        again = sealer.finish()
    for position, segment in enumerate(segments[:kept]):
        out.put(HEADER_LENGTH + position * SEGMENT, memoryview(segment))
    assert again.header == facts.header
    assert (again.size, again.plain_size) == (facts.size, facts.plain_size)
    assert opened_bytes(out.getvalue(), again) == plain
    # A segment that is made again gets another nonce: no nonce is used for two plaintexts.
    assert out.getvalue()[HEADER_LENGTH + kept * SEGMENT + 4 :][:12] != segments[kept][4:16]


def test_ciphertext_does_not_show_equal_plaintext() -> None:
    sealed, _facts = sealed_bytes(bytes(4 * ROOM))
    segments = {sealed[i + 16 : i + SEGMENT] for i in range(HEADER_LENGTH, len(sealed), SEGMENT)}
    assert len(segments) == 4
    assert bytes(64) not in sealed[HEADER_LENGTH:]
