"""Headers of safetensors files: whatever is accepted here, the library of the format accepts, and reads alike.

The other way round it needn't: names that come twice, members without meaning, numbers beyond any file are refused.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from strongroom.core.safetensors_header import (
    BITS,
    LENGTH_BYTES,
    MAX_HEADER,
    METADATA,
    SafetensorsError,
    SafetensorsHeader,
    header_length,
    make_header,
    parse_header,
)

safetensors = pytest.importorskip("safetensors")

BYTE = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
NEXT = '{"dtype":"U8","shape":[],"data_offsets":[1,2]}'
WHOLE_BYTES = sorted(kind for kind, bits in BITS.items() if bits % 8 == 0)


def whole(text: bytes | str, body: bytes = b"") -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(LENGTH_BYTES, "little") + raw + body


def ours(data: bytes) -> SafetensorsHeader:
    length = header_length(data, file_size=len(data))
    return parse_header(data[LENGTH_BYTES : LENGTH_BYTES + length], file_size=len(data))


def theirs(data: bytes) -> dict[str, Any]:
    return dict(safetensors.deserialize(data))


def check_agreement(data: bytes) -> bool:
    """Hold that what we accept is read alike by the library; says whether we do."""
    try:
        found = ours(data)
    except SafetensorsError:
        return False
    read = theirs(data)
    assert set(found.tensors) == set(read)
    for name, entry in found.tensors.items():
        assert (entry.dtype, list(entry.shape)) == (read[name]["dtype"], read[name]["shape"])
        begin = found.data_start + entry.begin
        assert data[begin : begin + entry.size] == bytes(read[name]["data"])
    return True


texts = st.text(max_size=6).filter(lambda text: text != METADATA)
shapes = st.lists(st.integers(0, 3), max_size=4)


@st.composite
def tensors(draw: st.DrawFn) -> list[tuple[str, str, tuple[int, ...], int]]:
    names = draw(st.lists(texts, max_size=5, unique=True))
    found = []
    for name in names:
        kind, shape = draw(st.sampled_from(WHOLE_BYTES)), tuple(draw(shapes))
        elements = 1
        for extent in shape:
            elements *= extent
        found.append((name, kind, shape, elements * BITS[kind] // 8))
    return found


@given(tensors(), st.dictionaries(texts, texts, max_size=3))
def test_what_is_written_is_read_alike(
    made: list[tuple[str, str, tuple[int, ...], int]], extra: dict[str, str]
) -> None:
    head, order = make_header(made, extra)
    body = bytes(range(256)) * 8
    size = sum(one[3] for one in made)
    assume(size <= len(body))
    data = head + body[:size]
    assert len(head) % 8 == 0
    assert check_agreement(data)
    found = ours(data)
    assert found.metadata == extra
    assert {name: (kind, shape, size) for name, kind, shape, size in made} == {
        name: (entry.dtype, entry.shape, entry.size) for name, entry in found.tensors.items()
    }
    assert [found.tensors[name].begin for name in order] == sorted(entry.begin for entry in found.tensors.values())


numbers = st.one_of(st.integers(-1, 9), st.sampled_from([2**31, 2**61, 2**62, 2**64, 2**70]), st.just(1.0), st.none())
entries = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(sorted(BITS)), st.sampled_from(["", "u8", "F128"]), st.none()),
        "shape": st.lists(numbers, max_size=3),
        "data_offsets": st.lists(numbers, min_size=1, max_size=3),
    },
    optional={"more": st.just(1)},
)
headers = st.dictionaries(st.one_of(texts, st.just(METADATA)), st.one_of(entries, entries, st.none()), max_size=3)


@given(headers, st.integers(0, 12), st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le"]))
def test_what_is_accepted_the_library_accepts(header: dict[str, Any], size: int, encoding: str) -> None:
    check_agreement(whole(json.dumps(header).encode(encoding), bytes(size)))


ACCEPTED = {
    "nothing": ("{}", b""),
    "no metadata": ('{"__metadata__":{}}', b""),
    "space around": (f'  {{"a":{BYTE}}}\n ', b"x"),
    "no name": (f'{{"":{BYTE}}}', b"x"),
    "empty between": (
        f'{{"a":{BYTE},"b":{{"dtype":"F32","shape":[0,9],"data_offsets":[1,1]}},"c":{NEXT}}}',
        b"xy",
    ),
    "half bytes": ('{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', b"x"),
    "many dimensions": (f'{{"a":{{"dtype":"U8","shape":{[1] * 64},"data_offsets":[0,1]}}}}', b"x"),
    "other order": (
        f'{{"b":{NEXT},"a":{BYTE}}}',
        b"xy",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_these_are_accepted(case: str) -> None:
    text, body = ACCEPTED[case]
    assert check_agreement(whole(text, body))


def one(dtype: str = '"U8"', shape: str = "[1]", offsets: str = "[0,1]", more: str = "") -> str:
    return f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}}}'


REFUSED: dict[str, tuple[bytes | str, bytes]] = {
    "not JSON": ("{", b""),
    "a list": ("[]", b""),
    "deep": ("[" * 100_000, b""),
    "deep in a shape": (one(shape="[" * 5000 + "]" * 5000), b"x"),
    "a name twice": (f'{{"a":{BYTE},"a":{BYTE}}}', b"x"),
    "a member twice": (one(more=',"dtype":"U8"'), b"x"),
    "metadata twice": ('{"__metadata__":{"k":"1","k":"2"}}', b""),
    "metadata with numbers": ('{"__metadata__":{"k":1}}', b""),
    "metadata null": ('{"__metadata__":null}', b""),
    "half a surrogate pair": (f'{{"\\ud800":{BYTE}}}', b"x"),
    "half a surrogate pair in metadata": ('{"__metadata__":{"k":"\\udfff"}}', b""),
    "a byte order mark": (b"\xef\xbb\xbf" + one().encode(), b"x"),
    "UTF-16": (one().encode("utf-16"), b"x"),
    "not UTF-8": (b'{"\xed\xa0\x80":' + BYTE.encode() + b"}", b"x"),
    "something after": (one() + "\0\0", b"x"),
    "unknown type": (one('"F128"'), b"x"),
    "type that isn't a text": (one("[]"), b"x"),
    "another member": (one(more=',"more":1'), b"x"),
    "no dtype": ('{"a":{"shape":[1],"data_offsets":[0,1]}}', b"x"),
    "negative zero": (one(offsets="[-0,1]"), b"x"),
    "negative": (one(offsets="[-1,0]"), b"x"),
    "a fraction": (one(shape="[1.0]"), b"x"),
    "true": (one(shape="[true]"), b"x"),
    "an exponent": (one(shape="[1e0]"), b"x"),
    "NaN": (one(shape="[NaN]"), b"x"),
    "ten thousand digits": (one(shape="[" + "9" * 10_000 + "]"), b"x"),
    "three offsets": (one(offsets="[0,1,1]"), b"x"),
    "wrong size": (one(shape="[2]"), b"x"),
    "half a byte": (one('"F4"', "[1]", "[0,0]"), b""),
    "overflow": (one(shape="[4294967296,4294967296]", offsets="[0,0]"), b""),
    "overflow back to its size": (one(shape="[3,6148914691236517206]", offsets="[0,2]"), b"xx"),
    "absurd, then nothing, in steps": (one(shape="[2147483648,2147483648,2147483648,0]", offsets="[0,0]"), b""),
    "absurd, then nothing": (one(shape="[4611686018427387903,4611686018427387903,0]", offsets="[0,0]"), b""),
    "65 dimensions": (one(shape=str([1] * 65)), b"x"),
    "a gap before": (one(offsets="[1,2]"), b"xx"),
    "a gap between": (f'{{"a":{BYTE},"b":{{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}}}', b"xxx"),
    "an overlap": (f'{{"a":{BYTE},"b":{{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}}}', b"xx"),
    "the same bytes": (f'{{"a":{BYTE},"b":{BYTE}}}', b"x"),
    "backwards": (one(shape="[0]", offsets="[1,0]"), b"x"),
    "bytes to spare": (one(), b"xy"),
    "bytes missing": (one(), b""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_these_are_refused(case: str) -> None:
    text, body = REFUSED[case]
    with pytest.raises(SafetensorsError):
        ours(whole(text, body))


@pytest.mark.parametrize("length", [0, 1, 3, MAX_HEADER + 1, 1 << 40, (1 << 64) - 1])
def test_absurd_lengths_are_refused_before_anything_is_read(length: int) -> None:
    data = length.to_bytes(LENGTH_BYTES, "little") + b"{}"
    with pytest.raises(SafetensorsError, match="bytes in a file of"):
        header_length(data, file_size=len(data))
    for short in range(LENGTH_BYTES):
        with pytest.raises(SafetensorsError):
            header_length(data[:short], file_size=1 << 50)


def test_a_huge_header_is_read() -> None:
    count = 50_000
    made = [(f"model.layers.{i:06}.weight", "U8", (1,), 1) for i in range(count)]
    head, _ = make_header(made, {"format": "pt"})
    assert len(head) > 3_000_000
    assert len(ours(head + bytes(count)).tensors) == count


@pytest.mark.parametrize("name", [METADATA, "\ud800"])
def test_names_that_could_not_be_read_back_are_not_written(name: str) -> None:
    with pytest.raises(SafetensorsError):
        make_header([(name, "U8", (1,), 1)], None)


@pytest.mark.parametrize("metadata", [{"k": 1}, {"k": "\ud800"}, {"\ud800": "v"}, {1: "v"}])
def test_metadata_that_could_not_be_read_back_is_not_written(metadata: Any) -> None:
    with pytest.raises(SafetensorsError):
        make_header([], metadata)
