"""Where tensors lie in a file that somebody left somewhere: by content alone, in whatever contains them.

The gate refuses what it can't read strictly. A search does the opposite: a header that lies about one tensor, a byte
too many or an archive with a comment mustn't hide the rest. So places are bounded here, and nothing else is demanded;
nothing is loaded, unpickled or run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from strongroom.core.safetensors_header import LENGTH_BYTES
from strongroom.intake.copies import archives
from strongroom.intake.copies.effort import Effort, Metered
from strongroom.intake.copies.elements import BLOCK_BYTES, FLOATS, Element
from strongroom.intake.formats import gguf, numpy_arrays, zips
from strongroom.intake.formats.numpy_arrays import array_head
from strongroom.intake.formats.protobufs import FieldAt, fields
from strongroom.intake.formats.safetensors import MAX_HEADER
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import Cursor, Source

MAX_TENSORS: Final = 1_000_000
MAX_NAME: Final = 256
MAX_NESTED: Final = 3
SEALED_MAGIC: Final = b"\x89SRW\r\n\x1a\n"
"""Of the format of sealed objects, docs/spec/sealed-weights.md."""
_HEAD: Final = 512
_SAFETENSORS: Final = frozenset(Element) - {Element.Q8_0}
_GGUF: Final[Mapping[int, Element]] = MappingProxyType(
    {0: Element.F32, 1: Element.F16, 8: Element.Q8_0, 24: Element.I8, 28: Element.F64, 30: Element.BF16}
)
_ONNX: Final[Mapping[int, Element]] = MappingProxyType(
    {
        1: Element.F32,
        2: Element.U8,
        3: Element.I8,
        10: Element.F16,
        11: Element.F64,
        16: Element.BF16,
    }
)
_NUMPY: Final[Mapping[str, Element]] = MappingProxyType(
    {
        "<f8": Element.F64,
        "<f4": Element.F32,
        "<f2": Element.F16,
        "|V2": Element.BF16,
        "<V2": Element.BF16,
        "|i1": Element.I8,
        "|u1": Element.U8,
    }
)
"""A type of two bytes that NumPy doesn't know is what its users write bfloat16 as."""


class Content(StrEnum):
    """What a file is by its content."""

    SEALED = "sealed"
    SAFETENSORS = "safetensors"
    GGUF = "gguf"
    NPY = "npy"
    ZIP = "zip"
    TAR = "tar"
    ONNX = "onnx"
    RAW = "raw"
    """Nothing that says what it is."""


_MAGICS: Final = (
    (0, SEALED_MAGIC, Content.SEALED),
    (0, gguf.MAGIC, Content.GGUF),
    (0, numpy_arrays.MAGIC, Content.NPY),
    (0, zips.MAGIC, Content.ZIP),
    (257, b"ustar", Content.TAR),
)


class TensorAt(NamedTuple):
    """A stretch of a source that may be a tensor."""

    name: str
    elements: tuple[Element, ...]
    """What the file says that its numbers are; for bytes that don't say, each type that they may be of."""
    source: Source
    begin: int
    size: int

    @property
    def said(self) -> bool:
        """Whether the file says what these bytes are."""
        return len(self.elements) == 1

    def blocks(self, element: Element) -> int:
        """Return how many whole blocks of 4,096 elements of a type there are."""
        return self.size // BLOCK_BYTES[element]


def content_of(source: Source) -> Content:
    """Say what a source is, by its first bytes."""
    head = source.read(0, min(_HEAD, source.size))
    for at, magic, content in _MAGICS:
        if head[at : at + len(magic)] == magic:
            return content
    length = int.from_bytes(head[:LENGTH_BYTES], "little")
    if 2 <= length <= min(MAX_HEADER, source.size - LENGTH_BYTES) and head[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{":
        return Content.SAFETENSORS
    # `ir_version`, a small number, is the first field of every ONNX model that a library wrote.
    return Content.ONNX if head[:1] == b"\x08" and head[1:2] < b"\x40" else Content.RAW


def tensors_in(source: Source) -> Iterator[TensorAt]:
    """Yield what may be tensors in a source, through archives in it; only such as have a block or more.

    What is read for it, here and of the tensors that are yielded, is bounded by some times its size.

    :raises IntakeRefusedError: the rest of an archive can't be read, or too much was. What was yielded before stands.
    """
    effort = Effort(source.size)
    yield from _tensors(Metered(source, effort), effort, 0)


def _tensors(source: Source, effort: Effort, nested: int) -> Iterator[TensorAt]:
    content = content_of(source)
    if content in _ARCHIVES:
        yield from _in_archive(source, content, effort, nested)
        return
    count = 0
    finder = _FINDERS.get(content)
    try:
        for one in finder(source) if finder else ():
            count += 1
            yield one
            if count >= MAX_TENSORS:
                return
    except IntakeRefusedError:
        # Damaged, or something else that begins alike. What it says was yielded; and it is bytes, as anything is.
        pass
    if not count and content is not Content.SEALED:
        yield from _raw(source)


def _in_archive(source: Source, content: Content, effort: Effort, nested: int) -> Iterator[TensorAt]:
    if nested >= MAX_NESTED:
        raise IntakeRefusedError(Rule.ZIP_NESTED, f"archives in more than {MAX_NESTED} archives")
    failed: IntakeRefusedError | None = None
    for name, inner in _ARCHIVES[content](source, effort):
        try:
            for one in _tensors(inner, effort, nested + 1):
                yield one._replace(name=_named(name, one.name))
        except IntakeRefusedError as error:
            failed = error
    if failed is not None:
        raise failed


_ARCHIVES: Final[Mapping[Content, Callable[[Source, Effort], Iterator[tuple[str, Source]]]]] = MappingProxyType(
    {Content.ZIP: archives.zip_entries, Content.TAR: archives.tar_entries}
)


def _named(outer: str, inner: str) -> str:
    return f"{outer}/{inner}"[:MAX_NAME] if inner else outer[:MAX_NAME]


def _at(name: str, element: Element | None, source: Source, begin: int, size: int) -> Iterator[TensorAt]:
    """Yield a tensor where all of its bytes lie within the source and there is a block of them."""
    if element is None or begin < 0 or begin + size > source.size:
        return
    if size >= BLOCK_BYTES[element]:
        yield TensorAt(name[:MAX_NAME], (element,), source, begin, size)


def _safetensors(source: Source) -> Iterator[TensorAt]:
    length = int.from_bytes(source.read(0, LENGTH_BYTES), "little")
    try:
        header = json.loads(source.read(LENGTH_BYTES, length))
    except (ValueError, RecursionError):
        raise IntakeRefusedError(Rule.SAFETENSORS, "a header that isn't JSON") from None
    for name, entry in header.items() if isinstance(header, dict) else ():
        if not isinstance(entry, dict):
            continue
        kind, offsets = entry.get("dtype"), entry.get("data_offsets")
        element = Element(kind) if isinstance(kind, str) and kind in _SAFETENSORS else None
        if isinstance(offsets, list) and len(offsets) == 2 and all(type(one) is int for one in offsets):
            begin, end = offsets
            yield from _at(name, element, source, LENGTH_BYTES + length + begin, min(end, source.size) - begin)


def _gguf(source: Source) -> Iterator[TensorAt]:
    head = gguf.read_gguf(source, "gguf")
    for one in head.tensors:
        yield from _at(one.name, _GGUF.get(one.kind), source, head.begin + one.offset, one.size)


def _npy(source: Source) -> Iterator[TensorAt]:
    head = array_head(source, "npy")
    yield from _at("", _NUMPY.get(head.kind), source, head.begin, head.data_bytes)


def _onnx(source: Source) -> Iterator[TensorAt]:
    for outer in _messages(source, 0, source.size):
        if outer.number == 7 and outer.value is None:
            for inner in _messages(source, outer.begin, outer.end):
                if inner.number == 5 and inner.value is None:
                    yield from _initializer(source, inner)


def _messages(source: Source, begin: int, end: int) -> Iterator[FieldAt]:
    return fields(Cursor(source, "onnx", Rule.ONNX_FORM, begin=begin, end=end))


def _initializer(source: Source, at: FieldAt) -> Iterator[TensorAt]:
    kind, name, data = 0, "", None
    for one in _messages(source, at.begin, at.end):
        if one.number == 2 and one.value is not None:
            kind = one.value
        elif one.number == 8 and one.value is None:
            name = source.read(one.begin, min(one.end - one.begin, MAX_NAME)).decode("utf-8", "replace")
        elif one.number in {4, 9} and one.value is None:
            # Numbers of 32 bits may also lie in a field of their own, packed: the same bytes.
            data = one
    if data is not None:
        yield from _at(name, _ONNX.get(kind), source, data.begin, data.end - data.begin)


def _raw(source: Source) -> Iterator[TensorAt]:
    elements = tuple(one for one in FLOATS if source.size >= BLOCK_BYTES[one])
    if elements:
        yield TensorAt("", elements, source, 0, source.size)


_FINDERS: Final[Mapping[Content, Callable[[Source], Iterator[TensorAt]]]] = MappingProxyType(
    {Content.SAFETENSORS: _safetensors, Content.GGUF: _gguf, Content.NPY: _npy, Content.ONNX: _onnx}
)
