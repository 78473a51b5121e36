"""GGUF files, versions 2 and 3: metadata, tensor infos and their places. (github.com/ggml-org/ggml, docs/gguf.md.)

Readers of GGUF were written for files of friends: counts that overflow, strings without bounds and offsets outside the
file have each been a flaw somewhere. Here each has a bound before it is believed, and tensors may not overlap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

from strongroom.intake.formats.safetensors import TensorFacts
from strongroom.intake.rules import Rule, shown
from strongroom.intake.source import Cursor, Source

MAGIC: Final = b"GGUF"
MAX_TENSORS: Final = 200_000
MAX_KEYS: Final = 65_536
MAX_KEY: Final = 65_535
MAX_NAME: Final = 256
MAX_STRING: Final = 16 << 20
"""Of one value: chat templates and merges are long."""
MAX_ELEMENTS: Final = 4_000_000
"""Of all arrays of texts together; numbers are passed over at once."""
MAX_DIMENSIONS: Final = 4
MAX_ALIGNMENT: Final = 1 << 16
MAX_NESTED: Final = 2
_DEFAULT_ALIGNMENT: Final = 32
_STRING: Final = 8
_ARRAY: Final = 9
_BOOL: Final = 7
_UINT32: Final = 4
_SCALARS: Final[Mapping[int, int]] = MappingProxyType(
    {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
)
_TYPES: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
        10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
        16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
        23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
        34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
    }
)  # fmt: skip
"""Tensor type -> (elements of a block, bytes of a block). A test compares them with the `gguf` package."""


class GgufTensor(NamedTuple):
    """One tensor: its type's number, its extent in elements, and its bytes, counted from where tensors begin."""

    name: str
    kind: int
    elements: int
    offset: int
    size: int


class GgufHead(NamedTuple):
    """What stands before the tensors. Where they lie is what the file says; nothing about it is checked."""

    alignment: int
    begin: int
    tensors: tuple[GgufTensor, ...]


def read_gguf(source: Source, where: str) -> GgufHead:
    """Read everything before the tensors, within bounds.

    :raises IntakeRefusedError: gguf.
    """
    return _head(Cursor(source, where, Rule.GGUF))


def check_gguf(source: Source, where: str) -> TensorFacts:
    """Judge a GGUF file: every count, text and offset is within bounds and within the file; no tensors overlap.

    :raises IntakeRefusedError: gguf.
    """
    cursor = Cursor(source, where, Rule.GGUF)
    alignment, begin, tensors = _head(cursor)
    infos = sorted(tensors, key=lambda one: (one.offset, one.size))
    if len({one.name for one in infos}) != len(infos):
        raise cursor.refuse("two tensors of one name")
    return _check_places(cursor, infos, alignment, source.size - begin)


def _head(cursor: Cursor) -> GgufHead:
    if cursor.take(4) != MAGIC:
        raise cursor.refuse("no GGUF file")
    version = cursor.integer(4)
    if version not in {2, 3}:
        raise cursor.refuse(f"version {version & 0xFFFF} isn't read, or the file is big-endian")
    tensors, keys = cursor.integer(8), cursor.integer(8)
    if tensors > MAX_TENSORS or keys > MAX_KEYS:
        raise cursor.refuse(f"more than {MAX_TENSORS} tensors or {MAX_KEYS} keys")
    alignment = _metadata(cursor, keys)
    infos = tuple(_info(cursor) for _ in range(tensors))
    return GgufHead(alignment, -(-cursor.at // alignment) * alignment, infos)


def _metadata(cursor: Cursor, keys: int) -> int:
    """Pass over all metadata; returns the alignment, the one value that says where something is."""
    seen: set[bytes] = set()
    budget = _Budget(MAX_ELEMENTS)
    alignment = _DEFAULT_ALIGNMENT
    for _ in range(keys):
        key = cursor.take(cursor.integer(8), most=MAX_KEY)
        if key in seen or not key.isascii():
            raise cursor.refuse("a key that stands twice, or isn't ASCII")
        seen.add(key)
        kind = cursor.integer(4)
        if key == b"general.alignment":
            alignment = cursor.integer(4) if kind == _UINT32 else 0
            if not 8 <= alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
                raise cursor.refuse("an alignment that isn't a power of two from 8 to 65,536")
        else:
            _value(cursor, kind, budget)
    return alignment


class _Budget:
    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def _value(cursor: Cursor, kind: int, budget: _Budget, nested: int = 0) -> None:
    if kind == _STRING:
        length = cursor.integer(8)
        if length > MAX_STRING:
            raise cursor.refuse(f"a text of more than {MAX_STRING} bytes")
        cursor.skip(length)
    elif kind == _ARRAY and nested < MAX_NESTED:
        inner, count = cursor.integer(4), cursor.integer(8)
        if inner in _SCALARS and inner != _BOOL:
            cursor.skip(count * _SCALARS[inner])
            return
        budget.left -= count
        if budget.left < 0:
            raise cursor.refuse(f"arrays of more than {MAX_ELEMENTS} elements")
        for _ in range(count):
            _value(cursor, inner, budget, nested + 1)
    elif kind == _BOOL:
        if cursor.integer(1) > 1:
            raise cursor.refuse("neither true nor false")
    elif kind in _SCALARS:
        cursor.skip(_SCALARS[kind])
    else:
        raise cursor.refuse("a value of a type that isn't known, or arrays nested too deep")


def _info(cursor: Cursor) -> GgufTensor:
    raw = cursor.take(cursor.integer(8), most=MAX_NAME)
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise cursor.refuse("a tensor's name that isn't UTF-8") from None
    dimensions = cursor.integer(4)
    if dimensions > MAX_DIMENSIONS:
        raise cursor.refuse(f"{shown(name)} has more than {MAX_DIMENSIONS} dimensions")
    shape = [cursor.integer(8) for _ in range(dimensions)]
    kind = cursor.integer(4)
    block = _TYPES.get(kind)
    if block is None:
        raise cursor.refuse(f"{shown(name)} has a type that isn't known")
    elements, size = block
    if math.prod(extent or 1 for extent in shape) >= 1 << 62 or (shape[0] if shape else 1) % elements:
        raise cursor.refuse(f"{shown(name)} has a shape that doesn't fit its type")
    count = math.prod(shape)
    return GgufTensor(name, kind, count, cursor.integer(8), count // elements * size)


def _check_places(cursor: Cursor, infos: list[GgufTensor], alignment: int, room: int) -> TensorFacts:
    for one in infos:
        if one.offset % alignment or one.offset + one.size > room:
            raise cursor.refuse(f"{shown(one.name)} isn't aligned, or not within the file")
    if infos and infos[0].offset:
        raise cursor.refuse("bytes before the first tensor")
    for before, one in pairwise(infos):
        # Exactly the next place: what lies between tensors is seen by nobody who looks at tensors.
        if one.offset != -(-(before.offset + before.size) // alignment) * alignment:
            raise cursor.refuse(f"{shown(one.name)} overlaps another, or leaves a gap")
    end = infos[-1].offset + infos[-1].size if infos else 0
    if room > -(-end // alignment) * alignment:
        raise cursor.refuse("bytes after the last tensor")
    return TensorFacts(len(infos), sum(one.size for one in infos))
