"""A stream of frames, in whatever pieces it comes: the same frames come out, in the same order."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import MalformedError
from strongroom.ipc.frames import HEADER, MAX_FRAME, FrameCutter

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=20)


def stream(bodies: list[bytes]) -> bytes:
    return b"".join(len(body).to_bytes(HEADER, "big") + body for body in bodies)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


def cut(data: list[bytes], found: list[bytes]) -> FrameCutter:
    """Cut pieces into frames, and put these into ``found``."""
    cutter = FrameCutter()
    for piece in data:
        cutter.feed(piece)
        while (body := cutter.cut()) is not None:
            found.append(body)
    return cutter


@given(BODIES, st.lists(st.integers(0, 10_000), max_size=30))
def test_the_same_frames_come_out(bodies: list[bytes], cuts: list[int]) -> None:
    found: list[bytes] = []
    assert not cut(pieces(stream(bodies), cuts), found).begun
    assert found == bodies


@given(BODIES, st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 10_000), max_size=30))
def test_what_stood_before_a_bad_length_is_still_given_out(bodies: list[bytes], rest: bytes, cuts: list[int]) -> None:
    bad = stream(bodies) + (MAX_FRAME + 1).to_bytes(HEADER, "big") + rest
    found: list[bytes] = []
    with pytest.raises(MalformedError):
        cut(pieces(bad, cuts), found)
    assert found == bodies
