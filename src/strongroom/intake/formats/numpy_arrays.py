"""NumPy files: ``.npy`` and archives of them. Arrays of objects are pickles in disguise, and refused.

(numpy.lib.format.) The header is a literal of Python; one exact spelling of it is read, and nothing is evaluated.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from strongroom.intake.formats.safetensors import TensorFacts
from strongroom.intake.formats.zips import check_zip, entry_bytes
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Source

MAGIC: Final = b"\x93NUMPY"
MAX_HEADER: Final = 10_000
"""As NumPy's own default."""
MAX_DIMENSIONS: Final = 64
_PREFIX: Final = 12
_HEADER: Final = re.compile(
    r"\{'descr': '(?P<type>[^'\\]{1,16})', 'fortran_order': (?P<order>True|False), "
    r"'shape': \((?P<shape>(?:[0-9]{1,19},(?: [0-9]{1,19},)*(?: [0-9]{1,19})?)?)\),? ?,? ?\}[ ]*\n"
)
_TYPE: Final = re.compile(r"[<>|=](?:b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|[SVU](?P<length>[0-9]{1,9}))")
_OBJECT: Final = re.compile(r"[<>|=]?O[0-9]*")


class ArrayHead(NamedTuple):
    """One array of a file: its type in NumPy's words, and where its values are."""

    kind: str
    by_columns: bool
    begin: int
    """Where the values begin, counted from the array's first byte."""
    data_bytes: int


def array_head(source: Source, where: str) -> ArrayHead:
    """Read the head of one array that lies in ``source`` as it is.

    :raises IntakeRefusedError: npy-form or npy-object.
    """
    return _checked_head(source.read(0, min(source.size, _PREFIX + MAX_HEADER)), source.size, where)


def check_npy(source: Source, where: str) -> TensorFacts:
    """Judge one array: its type holds no objects, and its shape fits the file exactly.

    :raises IntakeRefusedError: npy-form or npy-object.
    """
    return TensorFacts(1, array_head(source, where).data_bytes)


def check_npz(source: Source, where: str) -> TensorFacts:
    """Judge an archive of arrays.

    :raises IntakeRefusedError: as :func:`check_npy`, zip-nested, or as the archive's reader.
    """
    placed = check_zip(source, where)
    total = 0
    for one in placed:
        name = one.entry.name
        if not name.endswith(".npy"):
            raise IntakeRefusedError(Rule.ZIP_NESTED, f"{where}: {shown(name)} isn't an array")
        head = _head(entry_bytes(source, where, one))
        total += _checked_head(head, one.entry.size, f"{where}/{shown(name)}").data_bytes
    return TensorFacts(len(placed), total)


def _head(pieces: Iterator[bytes]) -> bytes:
    """Return the first bytes, and go on to the end: the checksum is checked there."""
    head = b""
    for piece in pieces:
        if len(head) < _PREFIX + MAX_HEADER:
            head += piece[: _PREFIX + MAX_HEADER - len(head)]
    return head


def _checked_head(head: bytes, size: int, where: str) -> ArrayHead:
    """Return what an array is whose file begins with ``head`` and has ``size`` bytes."""
    if not head.startswith(MAGIC) or len(head) < _PREFIX or head[6] not in {1, 2, 3} or head[7]:
        raise IntakeRefusedError(Rule.NPY_FORM, f"{where}: no array of a version that is read")
    start = 10 if head[6] == 1 else _PREFIX
    length = int.from_bytes(head[8:start], "little")
    if length > MAX_HEADER or start + length > len(head):
        raise IntakeRefusedError(Rule.NPY_FORM, f"{where}: a header of {length} bytes")
    text = head[start : start + length].decode("latin-1")
    found = _HEADER.fullmatch(text)
    if found is None:
        raise IntakeRefusedError(Rule.NPY_FORM, f"{where}: a header in another spelling, or an array of records")
    if _OBJECT.fullmatch(found["type"]):
        raise IntakeRefusedError(Rule.NPY_OBJECT, f"{where}: an array of objects")
    item = _item_bytes(found["type"], where)
    shape = [int(extent) for extent in found["shape"].split(",") if extent.strip()]
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) * item != size - start - length:
        raise IntakeRefusedError(Rule.NPY_FORM, f"{where}: a shape that doesn't fit the file")
    return ArrayHead(found["type"], found["order"] == "True", start + length, size - start - length)


def _item_bytes(kind: str, where: str) -> int:
    found = _TYPE.fullmatch(kind)
    if found is None:
        raise IntakeRefusedError(Rule.NPY_FORM, f"{where}: an element type that isn't known")
    if found["length"] is not None:
        return int(found["length"]) * (4 if kind[1] == "U" else 1)
    return 1 if kind[1] == "b" else int(kind[2:])
