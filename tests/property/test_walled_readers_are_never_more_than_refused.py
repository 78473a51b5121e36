"""Whatever a taken-over reader sends, the gate has an answer of the right form, a refusal, or an error of its own."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.intake.formats.identify import FileVerdict
from strongroom.intake.rules import IntakeRefusedError
from strongroom.intake.source import BytesSource
from strongroom.quarantine.adapters.channel import READ, Frame
from strongroom.quarantine.adapters.reading import Reader, ReaderError

SHOWN = {"a": BytesSource(bytes(range(10))), "b.bin": BytesSource(b"")}


class Said:
    """A reader that says these bytes, whatever it is asked, and ends."""

    def __init__(self, data: bytes) -> None:
        self.left = memoryview(data)
        self.asked = b""

    def recv_into(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self.left))
        buffer[:count] = self.left[:count]
        self.left = self.left[count:]
        return count

    def sendall(self, data: bytes, /) -> None:
        self.asked += data


def frame(kind: int, data: bytes) -> bytes:
    return bytes([kind]) + len(data).to_bytes(4, "little") + data


small = st.integers(0, 11)
bodies = (
    st.binary(max_size=40)
    | st.builds(READ.pack, st.integers(0, 3), small | st.integers(0, 1 << 63), small | st.integers(0, 1 << 21))
    | st.sampled_from(
        [
            b"{}",
            b'{"size":7}',
            b'{"size":9007199254740991}',
            b'{"a":{"facts":{},"format":"text"},"b.bin":{"facts":[],"format":"json"}}',
            b'{"a":{"facts":{},"format":"program"},"b.bin":{"facts":[],"format":"json"}}',
            b'{"message":"m","remedy":"","rule":"form"}',
            b'{"message":"m","remedy":"","rule":"withdrawn"}',
            b"[" * 1000,
            b"[]",
            b"7",
        ]
    )
)
frames = st.builds(frame, st.sampled_from([*Frame, 0, 7, 255]), bodies)
talks = st.lists(frames | st.binary(max_size=8), max_size=6).map(b"".join)


def asked(data: bytes, what: Callable[[Reader], object]) -> object:
    said = Said(data)
    with suppress(ReaderError, IntakeRefusedError):
        return what(Reader(said, SHOWN))
    return None


@given(talks)
def test_a_verdict_is_of_each_file_and_of_no_other(data: bytes) -> None:
    found = asked(data, Reader.judge)
    if found is not None:
        assert isinstance(found, dict)
        assert [*found] == [*SHOWN]
        assert all(isinstance(one, FileVerdict) for one in found.values())


@given(talks)
def test_a_size_is_no_more_than_the_file_can_become(data: bytes) -> None:
    size = asked(data, lambda reader: reader.convert("b.bin"))
    assert size is None or size == 7


@given(talks, st.integers(0, 50))
def test_pieces_are_as_many_bytes_as_were_said(data: bytes, size: int) -> None:
    made = asked(data, lambda reader: b"".join(reader.pieces("a", size)))
    assert made is None or (isinstance(made, bytes) and len(made) == size)


@given(talks)
def test_no_byte_is_handed_out_but_of_the_files_that_are_shown(data: bytes) -> None:
    said = Said(data)
    with suppress(ReaderError, IntakeRefusedError):
        Reader(said, SHOWN).judge()
    _ask, _begin, handed = said.asked.partition(b'"name":""}')
    while handed:
        length = int.from_bytes(handed[1:5], "little")
        assert handed[0] == Frame.DATA
        assert handed[5 : 5 + length] in SHOWN["a"].read(0, 10)
        handed = handed[5 + length :]


class OnABadDisk(BytesSource):
    """A file whose disk reports an error."""

    def read(self, offset: int, length: int) -> bytes:
        raise OSError(errno.EIO, f"input/output error: {length} bytes at {offset}")


def test_an_error_of_the_gates_own_disk_isnt_told_as_the_readers_end() -> None:
    said = Said(frame(Frame.READ, READ.pack(0, 0, 4)))
    with pytest.raises(OSError, match="input/output error") as failed:
        Reader(said, {"a": OnABadDisk(bytes(10))}).judge()
    assert failed.value.errno == errno.EIO
