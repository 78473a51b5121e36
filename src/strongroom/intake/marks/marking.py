"""A recipient's mark in the low bits of a model's weights: serves SL2-WMO-02 (every copy is known) against a copy that
turns up where it shouldn't be. Its form is in docs/operate/attribution.md, the decision in ADR 0048.

Of every 16 values of a large tensor one is moved by a step of bfloat16's grid, up or down in magnitude. Which one is
the same in all copies; up or down is the recipient's. Both come from AES-CTR under keys that are derived from the
unmarked bytes themselves: who has no unmarked copy can compute neither their own mark nor another's, and there is no
other key to keep or to lose. A tensor that stands twice, or comes back in a later version, is marked alike, so that
comparing finds nothing.
"""

from __future__ import annotations

import codecs
import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError
from strongroom.core.extras import need
from strongroom.core.ids import ModelId
from strongroom.core.safetensors_header import (
    LENGTH_BYTES,
    SafetensorsError,
    SafetensorsHeader,
    TensorEntry,
    header_length,
    parse_header,
)
from strongroom.intake.rules import shown

BLOCK: Final = 1 << 20
"""Bytes that are worked on at once. A block holds whole groups, and begins at whole AES blocks of both streams."""
GROUP: Final = 16
"""Values of which one is moved."""
LEAST_ELEMENTS: Final = 32_768
"""Smaller tensors, and those of one dimension (norms, biases), are left alone: a value of them counts for more."""
LEAST_PLACES: Final = 1024
"""Places in a tensor's first block without which it is left alone: they are what makes its key unknown."""
LEAST_SURPRISE: Final = 32
"""Times by which zlib makes a tensor's first block smaller, at most, or it is left alone. Masks, constants and tables
that only count aren't secret: who guesses one knows its key, and could put another recipient's mark into it."""
LEAST_MARKED: Final = 65_536
"""Values in tensors that are marked, without which a model bears no mark."""
MOST_OTHER: Final = 16 << 20
"""Bytes of a file that is neither safetensors nor text: larger ones may be weights that would stay unmarked."""
_WEIGHTS: Final = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"GGUF", b"\x93NUMPY")
"""How files begin that hold weights: torch's zips and pickles, GGUF, NumPy."""
_HEAD: Final = 4096
_LABEL: Final = b"strongroom attribution v1 tensor"
_PLACES: Final = b"strongroom attribution v1 places"
_SUFFIX: Final = ".safetensors"


class UnmarkableError(ConflictError):
    """The model's weights can't bear a mark, or some of them would go out without one."""

    code = "unmarkable"


class Grid(NamedTuple):
    """How a type of number is laid out, and the step by which a value of it is moved."""

    width: int
    """Bytes."""
    mantissa: int
    """Bits of it."""
    exponents: int
    """The largest exponent field: infinities and NaNs."""
    step: int
    """In units of the last place: one step of bfloat16's grid."""


GRIDS: Final = {"F32": Grid(4, 23, 0xFF, 1 << 16), "F16": Grid(2, 10, 0x1F, 1 << 3), "BF16": Grid(2, 7, 0xFF, 1)}
"""The types that are marked, by safetensors' names. 8-bit ones aren't: a step of theirs is 6 to 12 %."""


@dataclass(frozen=True, slots=True)
class CopyName:
    """Whose copy it is: in this deployment, the name under which the policy has it."""

    genesis: Digest
    copy: ModelId

    def to_bytes(self) -> bytes:
        """Return what the mark is bound to."""
        return encode({"purpose": "strongroom attribution v1 copy", "genesis": str(self.genesis), "copy": self.copy})


class TensorMark:
    """The places of one tensor, and any copy's moves at them. ``first``: its first block, or all of it, unmarked."""

    def __init__(self, first: bytes | memoryview) -> None:
        self.key = hashlib.sha256(_LABEL + b"\0" + first).digest()
        self._places = hmac.digest(self.key, _PLACES, "sha256")

    def places(self, begin: int, groups: int) -> Any:
        """Return where in each group a value is moved, an array of ``groups`` indices from group ``begin`` on."""
        numpy = need("numpy", extra="numpy")
        drawn = numpy.frombuffer(_stream(self._places, begin // 2, -(-groups // 2)), dtype=numpy.uint8)
        nibbles = numpy.stack((drawn >> 4, drawn & 15), axis=1).reshape(-1)[:groups]
        return numpy.arange(groups, dtype=numpy.int64) * GROUP + nibbles

    def moves_of(self, copy: CopyName) -> bytes:
        """Return the key of a copy's moves."""
        return hmac.digest(self.key, copy.to_bytes(), "sha256")


def moves(key: bytes, begin: int, groups: int) -> Any:
    """Return which of ``groups`` values from group ``begin`` on are moved up: an array of ones and zeros."""
    numpy = need("numpy", extra="numpy")
    drawn = numpy.frombuffer(_stream(key, begin // 8, -(-groups // 8)), dtype=numpy.uint8)
    return numpy.unpackbits(drawn)[:groups]


def _stream(key: bytes, offset: int, length: int) -> bytes:
    """Return ``length`` bytes of AES-256-CTR's key stream from ``offset``, a multiple of 16."""
    return Cipher(AES(key), CTR((offset // 16).to_bytes(16, "big"))).encryptor().update(bytes(length))


def words(data: bytes | bytearray | memoryview, grid: Grid) -> Any:
    """Return the values' bits, as an array of unsigned integers over ``data``."""
    return need("numpy", extra="numpy").frombuffer(data, dtype=f"<u{grid.width}")


def movable(bits: Any, grid: Grid) -> Any:
    """Tell of each value whether it may be moved: a zero stays one, and nothing becomes infinite or denormal."""
    exponent = (bits >> grid.mantissa) & grid.exponents
    return (exponent > 1) & (exponent < grid.exponents - 1)


def is_weights(name: str) -> bool:
    """Tell whether a model's file is one whose tensors are marked."""
    return name.endswith(_SUFFIX)


def places_of(tensor: TensorEntry) -> int:
    """Return how many values of a tensor are moved at most; 0 for one that is left alone."""
    if tensor.dtype not in GRIDS or len(tensor.shape) < 2:
        return 0
    elements = tensor.size // GRIDS[tensor.dtype].width
    return elements // GROUP if elements >= LEAST_ELEMENTS else 0


def tensor_mark(tensor: TensorEntry, first: memoryview) -> TensorMark | None:
    """Return the mark of a tensor whose first block is ``first``, or None if it is left alone."""
    if not places_of(tensor):
        return None
    grid = GRIDS[tensor.dtype]
    made = TensorMark(first)
    bits = words(first, grid)
    if movable(bits[made.places(0, len(bits) // GROUP)], grid).sum() < LEAST_PLACES:
        return None
    if len(zlib.compress(first, 1)) * LEAST_SURPRISE < len(first):
        return None
    return made


def read_header(read: Callable[[int, int], bytes], size: int) -> SafetensorsHeader:
    """Read a safetensors file's header. ``read``: (offset, length) -> that many bytes.

    :raises SafetensorsError: it isn't one.
    """
    length = header_length(read(0, min(LENGTH_BYTES, size)), file_size=size)
    return parse_header(read(LENGTH_BYTES, length), file_size=size)


class PlainFile(NamedTuple):
    """An original's file. ``read``: (offset, length) -> exactly that many bytes of it."""

    name: str
    size: int
    read: Callable[[int, int], bytes]


def first_mark(file: PlainFile, header: SafetensorsHeader, tensor: TensorEntry) -> TensorMark | None:
    """Return what :func:`tensor_mark` does, reading the tensor's first block."""
    return tensor_mark(tensor, memoryview(file.read(header.data_start + tensor.begin, min(tensor.size, BLOCK))))


def check_markable(files: Sequence[PlainFile]) -> None:
    """Refuse a model that bears no mark, or of which a part would go out without one.

    :raises UnmarkableError: too few values in tensors that are marked, half of the tensors' bytes or more in ones of
        other types, or a large file that is neither safetensors nor text.
    :raises SafetensorsError: a file is called one and isn't.
    """
    marked = markable = whole = 0
    for file in files:
        if not is_weights(file.name):
            _check_other(file)
            continue
        header = read_header(file.read, file.size)
        for tensor in header.tensors.values():
            whole += tensor.size
            markable += tensor.size if tensor.dtype in GRIDS else 0
            if places_of(tensor) and first_mark(file, header, tensor):
                marked += places_of(tensor) * GROUP
    if marked < LEAST_MARKED:
        raise UnmarkableError(
            f"{marked} values in tensors that can be marked; at least {LEAST_MARKED} are needed",
            remedy="give the weights as safetensors of float32, float16 or bfloat16",
        )
    if 2 * markable <= whole:
        raise UnmarkableError(
            "half of the weights or more are of types that aren't marked",
            remedy="mark the model before it is quantised, and quantise the marked copy",
        )


def _check_other(file: PlainFile) -> None:
    begin = file.read(0, min(_HEAD, file.size))
    is_text = _is_text(begin)
    # A safetensors file by another name: its header's length, as eight bytes, is no text.
    other = begin[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" or file.size > MOST_OTHER
    if begin.startswith(_WEIGHTS) or (other and not is_text):
        raise UnmarkableError(
            f"{shown(file.name)} may hold weights, and isn't safetensors: they would go out unmarked",
            remedy="seal a model whose weights are in safetensors alone",
        )


def _is_text(begin: bytes) -> bool:
    try:
        # Not final: a character may be cut at the end.
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False


def marked(name: str, size: int, chunks: Iterator[memoryview], copy: CopyName) -> Iterator[memoryview]:
    """Yield a file's bytes with a copy's mark in them, as many as there were, in order and in bounded memory.

    What :func:`check_markable` let through is what is given here. A chunk is valid until the next is asked for; the
    buffer is wiped at the end. The last one is asked of ``chunks`` before the last is yielded, so whatever they check
    at their end has passed by then.

    :raises SafetensorsError: the file is called safetensors and isn't.
    """
    if not is_weights(name):
        yield from chunks
        return
    buffer = bytearray(BLOCK)
    pull = Pull(chunks)
    try:
        taken = bytearray()

        def read(_offset: int, length: int) -> bytes:
            piece = bytearray(length)
            pull.fill(memoryview(piece))
            taken.extend(piece)
            return bytes(piece)

        header = read_header(read, size)
        yield memoryview(taken)
        for tensor in header.tensors.values():
            yield from _marked_tensor(pull, tensor, memoryview(buffer), copy)
    finally:
        buffer[:] = bytes(BLOCK)


def _marked_tensor(pull: Pull, tensor: TensorEntry, buffer: memoryview, copy: CopyName) -> Iterator[memoryview]:
    mark, key, begin = None, b"", 0
    for offset in range(0, tensor.size, BLOCK):
        block = buffer[: min(BLOCK, tensor.size - offset)]
        pull.fill(block)
        if not offset:
            mark = tensor_mark(tensor, block)
            key = mark.moves_of(copy) if mark else b""
        if mark:
            begin += _move(block, GRIDS[tensor.dtype], mark, key, begin)
        yield block


def _move(block: memoryview, grid: Grid, mark: TensorMark, key: bytes, begin: int) -> int:
    """Move the values of one block in place; returns how many groups it has."""
    numpy = need("numpy", extra="numpy")
    bits = words(block, grid)
    groups = len(bits) // GROUP
    places = mark.places(begin, groups)
    before = bits[places]
    # Unsigned: what is taken away is added modulo the word's size.
    by = numpy.where(moves(key, begin, groups), grid.step, (1 << 8 * grid.width) - grid.step).astype(bits.dtype)
    bits[places] = numpy.where(movable(before, grid), before + by, before)
    return groups


class Pull:
    """Fills buffers from chunks of other sizes.

    :raises SafetensorsError: (both methods) the chunks end before.
    """

    def __init__(self, chunks: Iterator[memoryview]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def fill(self, buffer: memoryview) -> None:
        """Fill all of ``buffer``."""
        at = 0
        while at < len(buffer):
            if not self._left:
                following = next(self._chunks, None)
                if following is None:
                    raise SafetensorsError("the file ends before its tensors do")
                self._left = following
            count = min(len(buffer) - at, len(self._left))
            buffer[at : at + count] = self._left[:count]
            self._left = self._left[count:]
            at += count

    def skip(self, count: int, buffer: memoryview) -> None:
        """Pass over ``count`` bytes, by way of ``buffer``."""
        while count:
            piece = buffer[: min(count, len(buffer))]
            self.fill(piece)
            count -= len(piece)
