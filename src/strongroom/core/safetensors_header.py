"""The header of a safetensors file, read as strictly as its specification allows and as a hostile file demands.

8 bytes of length, little-endian; JSON; then the tensors' bytes, without gaps or overlaps. Bounds are checked before
anything is allocated. (github.com/huggingface/safetensors, format section.)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from strongroom.core.errors import MalformedError

LENGTH_BYTES: Final = 8
MAX_HEADER: Final = 100_000_000
"""The limit of the library that defined the format."""
MAX_DIMENSIONS: Final = 64
METADATA: Final = "__metadata__"
_MEMBERS: Final = {"dtype", "shape", "data_offsets"}
_MINUS: Final = re.compile(rb"[:\[,][ \t\r\n]*-")
_INTEGER: Final = frozenset({int})
"""Not ``bool``, which is an ``int`` too."""
_ABSURD: Final = 1 << 62
BITS: Final[Mapping[str, int]] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""In the order of the defining library, which is also, backwards, the order in which it writes tensors."""
_ORDER: Final = {kind: place for place, kind in enumerate(BITS)}


class SafetensorsError(MalformedError):
    """A file that calls itself safetensors and isn't. What was decrypted before is what its publisher sealed."""

    code = "safetensors-malformed"


class TensorEntry(NamedTuple):
    """One tensor: its type, shape, and where its bytes are after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """All tensors, in the order in which they lie in the file."""

    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    data_start: int
    """Where the tensors' bytes begin in the file."""


def header_length(data: bytes | memoryview, *, file_size: int) -> int:
    """Return how many bytes of JSON follow the first eight.

    :raises SafetensorsError: too short, too long, or more than the file has.
    """
    if len(data) < LENGTH_BYTES:
        raise SafetensorsError("a safetensors file begins with eight bytes of length")
    length = int.from_bytes(data[:LENGTH_BYTES], "little")
    if not 2 <= length <= MAX_HEADER or length + LENGTH_BYTES > file_size:
        raise SafetensorsError(f"the header can't have {length} bytes in a file of {file_size}")
    return length


def parse_header(text: bytes | memoryview, *, file_size: int) -> SafetensorsHeader:
    """Read the JSON of a header.

    :raises SafetensorsError: names that come twice, unknown types, shapes that don't fit, gaps or overlaps.
    """
    raw = bytes(text)
    # Looked for once in the text and not in each of a hundred thousand numbers: a number may only be negative where one
    # stands, and half of a surrogate pair can only come from an escape.
    read_integer = _integer if _MINUS.search(raw) else None
    try:
        # Decoded here: given bytes, `json` would guess at UTF-16 and UTF-32, and skip a byte order mark.
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_int=read_integer)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"the header isn't JSON that can be read: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise SafetensorsError("the header isn't a JSON object")
    metadata = found.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise SafetensorsError("the metadata isn't a JSON object of texts")
    if b"\\u" in raw and not all(map(_is_unicode, (*found, *metadata, *metadata.values()))):
        raise SafetensorsError("the header has a text with half of a surrogate pair")
    entries = {name: _entry(name, value) for name, value in found.items()}
    ordered = entries
    if any(one.begin < before.end for before, one in pairwise(entries.values())):
        ordered = dict(sorted(entries.items(), key=lambda item: item[1][2:]))
    at, data_start = 0, LENGTH_BYTES + len(text)
    for name, (_dtype, _shape, begin, end) in ordered.items():
        if begin != at:
            raise SafetensorsError(f"tensor {_shown(name)} overlaps another, or leaves a gap")
        at = end
    if data_start + at != file_size:
        raise SafetensorsError(f"the tensors take {at} bytes, but {file_size - data_start} are there")
    return SafetensorsHeader(ordered, metadata, data_start)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Two readers could each take another one.
        raise SafetensorsError("the header has a name twice")
    return found


def _integer(text: str) -> int:
    if text.startswith("-"):
        raise ValueError("no count is negative, nor written as -0")
    return int(text)


def _is_unicode(text: object) -> bool:
    try:
        return isinstance(text, str) and text.encode() is not None
    except UnicodeEncodeError:
        return False


def _entry(name: str, value: object) -> TensorEntry:
    # Called once for each of tens of thousands of tensors: every line counts.
    if not isinstance(value, dict) or value.keys() != _MEMBERS:
        raise SafetensorsError(f"tensor {_shown(name)} has other members than dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    bits = BITS.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise SafetensorsError(f"tensor {_shown(name)} has a type that isn't known")
    counts = (
        isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2 and len(shape) <= MAX_DIMENSIONS
    )
    if not counts or not _INTEGER.issuperset(map(type, shape + offsets)) or min(shape + offsets) < 0:
        raise SafetensorsError(f"tensor {_shown(name)} has a shape or offsets that aren't counts")
    begin, end = offsets
    # Python's integers don't overflow: a shape whose product wraps around elsewhere is just too large here.
    total = math.prod(shape) * bits
    if total % 8 or (end - begin) * 8 != total:
        raise SafetensorsError(f"tensor {_shown(name)} doesn't have the bytes that its shape takes")
    if not total and math.prod(extent or 1 for extent in shape) >= _ABSURD:
        # Nothing else bounds an empty tensor's extents, and elsewhere they may overflow before they meet the zero.
        raise SafetensorsError(f"tensor {_shown(name)} is empty and larger than any file")
    return TensorEntry(dtype, tuple(shape), begin, end)


def _shown(name: str) -> str:
    return "`" + ascii(name[:80])[1:-1] + "`"


def make_header(
    tensors: Iterable[tuple[str, str, tuple[int, ...], int]], metadata: Mapping[str, str] | None
) -> tuple[bytes, list[str]]:
    """Return the first bytes of a file, and the tensors' names in the order in which their bytes follow.

    ``tensors`` are (name, type, shape, bytes). As the defining library does: by type, the widest first, then by name;
    and the header padded with spaces to eight bytes, so that every tensor is aligned.

    :raises SafetensorsError: a name, or metadata, that couldn't be read back.
    """
    ordered = sorted(tensors, key=lambda one: (-_ORDER[one[1]], one[0]))
    header: dict[str, Any] = {}
    if metadata:
        if not all(map(_is_unicode, (*metadata, *metadata.values()))):
            raise SafetensorsError("metadata has texts only")
        header[METADATA] = dict(metadata)
    at = 0
    for name, dtype, shape, size in ordered:
        if name == METADATA or not _is_unicode(name):
            raise SafetensorsError(f"a tensor can't be called {_shown(name)}")
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % LENGTH_BYTES)
    if len(text) > MAX_HEADER:
        raise SafetensorsError(f"the header would have {len(text)} bytes; at most {MAX_HEADER} are read")
    return len(text).to_bytes(LENGTH_BYTES, "little") + text, [name for name, *_rest in ordered]
