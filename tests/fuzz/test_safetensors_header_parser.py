"""Hostile bytes where a safetensors header should be: refused with one error, or read as the library reads them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from strongroom.core.safetensors_header import LENGTH_BYTES, SafetensorsError, header_length, parse_header

safetensors = pytest.importorskip("safetensors")

GOOD = (
    b'{"__metadata__":{"format":"pt"},"a.b":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},'
    b'"c":{"dtype":"U8","shape":[],"data_offsets":[8,9]}}'
)
GOOD_FILE = len(GOOD).to_bytes(LENGTH_BYTES, "little") + GOOD + bytes(9)


def refused_or_read_alike(data: bytes) -> None:
    try:
        length = header_length(data, file_size=len(data))
        found = parse_header(data[LENGTH_BYTES : LENGTH_BYTES + length], file_size=len(data))
    except SafetensorsError:
        return
    assert set(found.tensors) == {name for name, _ in safetensors.deserialize(data)}


@given(st.binary(max_size=200))
@example(b"")
@example(bytes(8))
def test_any_bytes(data: bytes) -> None:
    refused_or_read_alike(data)


@given(st.binary(max_size=200))
def test_any_bytes_as_the_text(text: bytes) -> None:
    refused_or_read_alike(len(text).to_bytes(LENGTH_BYTES, "little") + text)


@given(st.integers(0, len(GOOD_FILE) - 1), st.binary(min_size=1, max_size=3), st.integers(0, 3))
def test_a_file_that_was_good(at: int, put: bytes, drop: int) -> None:
    refused_or_read_alike(GOOD_FILE[:at] + put + GOOD_FILE[at + drop :])


@given(
    st.integers(0, len(GOOD) - 1), st.sampled_from([b"0", b"9", b"-", b'"', b"[", b"]", b"{", b"}", b",", b"\\", b" "])
)
def test_a_text_that_was_good(at: int, put: bytes) -> None:
    text = GOOD[:at] + put + GOOD[at + 1 :]
    refused_or_read_alike(len(text).to_bytes(LENGTH_BYTES, "little") + text + bytes(9))


def test_the_good_file_is_read() -> None:
    length = header_length(GOOD_FILE, file_size=len(GOOD_FILE))
    found = parse_header(GOOD_FILE[LENGTH_BYTES : LENGTH_BYTES + length], file_size=len(GOOD_FILE))
    assert list(found.tensors) == ["a.b", "c"]
