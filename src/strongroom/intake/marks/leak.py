"""The tensors of a file that turned up somewhere: safetensors, torch checkpoints, NumPy arrays. Nothing is loaded.

Numbers only: float64, float32, float16 and bfloat16. What was quantised has to be turned back into these before.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from strongroom.core.extras import need
from strongroom.core.safetensors_header import LENGTH_BYTES, header_length, parse_header
from strongroom.intake.formats import numpy_arrays, zips
from strongroom.intake.formats.numpy_arrays import ArrayHead, array_head
from strongroom.intake.formats.safetensors import check_safetensors
from strongroom.intake.formats.torch_checkpoints import check_torch_zip
from strongroom.intake.formats.zips import STORED, Placed, check_zip
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Part, Source

WIDTHS: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes of the types that are compared, by safetensors' names."""
_BY_WIDTH: Final = {8: ("F64",), 4: ("F32",), 2: ("F16", "BF16")}
_NUMPY: Final = {"<f8": "F64", "<f4": "F32", "<f2": "F16"}
_STORAGE: Final = re.compile(r"[^/]+/data/([0-9]{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakedTensor:
    """One tensor of a file."""

    name: str
    """Empty where the file has no names that can be read without loading it."""
    kinds: tuple[str, ...]
    """Which types it may be of: a torch checkpoint's storages say their width alone."""
    elements: int
    source: Source
    begin: int

    def bits(self, kind: str, first: int, count: int) -> Any:
        """Return the bits of ``count`` values from number ``first`` on, read as ``kind``."""
        width = WIDTHS[kind]
        data = self.source.read(self.begin + first * width, count * width)
        return need("numpy", extra="numpy").frombuffer(data, dtype=f"<u{width}")


def numbers(bits: Any, kind: str) -> Any:
    """Return values from their bits, as float64."""
    numpy = need("numpy", extra="numpy")
    if kind == "BF16":
        return (bits.astype(numpy.uint32) << 16).view(numpy.float32).astype(numpy.float64)
    # A signalling NaN is as much no number as any other.
    with numpy.errstate(invalid="ignore"):
        return bits.view(f"<f{WIDTHS[kind]}").astype(numpy.float64)


def leaked_tensors(source: Source, where: str) -> tuple[LeakedTensor, ...]:
    """Return the tensors of a file that hold numbers of these types; the file's form is judged as at the gate.

    :raises IntakeRefusedError: no such file, or a form that the gate refuses; an array that is compressed or by
        columns.
    """
    begin = source.read(0, min(8, source.size))
    if begin.startswith(numpy_arrays.MAGIC):
        return tuple(_array(array_head(source, where), source, PurePosixPath(where).stem, where))
    if begin.startswith(zips.MAGIC):
        placed = check_zip(source, where)
        if any(one.entry.name.endswith("/data.pkl") for one in placed):
            return tuple(_storages(placed, source, where))
        return tuple(one for entry in placed for one in _entry(entry, source, where))
    check_safetensors(source, where)
    header = parse_header(source.read(LENGTH_BYTES, header_length(begin, file_size=source.size)), file_size=source.size)
    return tuple(
        LeakedTensor(
            name=name,
            kinds=(tensor.dtype,),
            elements=tensor.size // WIDTHS[tensor.dtype],
            source=source,
            begin=header.data_start + tensor.begin,
        )
        for name, tensor in header.tensors.items()
        if tensor.dtype in WIDTHS
    )


def _storages(placed: tuple[Placed, ...], source: Source, where: str) -> Iterator[LeakedTensor]:
    _total, facts = check_torch_zip(source, where)
    begins = {found[1]: one.begin for one in placed if (found := _STORAGE.fullmatch(one.entry.name))}
    for storage in facts.storages:
        kinds = _BY_WIDTH.get(storage.item_bytes)
        if kinds and storage.key in begins:
            yield LeakedTensor(
                name="", kinds=kinds, elements=storage.elements, source=source, begin=begins[storage.key]
            )


def _entry(placed: Placed, source: Source, where: str) -> Iterator[LeakedTensor]:
    name = placed.entry.name
    if placed.entry.method != STORED:
        raise IntakeRefusedError(
            Rule.ZIP_FORM, f"{where}: {shown(name)} is compressed", remedy="store the arrays uncompressed first"
        )
    part = Part(source, placed.begin, placed.entry.size)
    head = array_head(part, f"{where}/{shown(name)}")
    return _array(head, part, name.removesuffix(".npy"), where)


def _array(head: ArrayHead, source: Source, name: str, where: str) -> Iterator[LeakedTensor]:
    if head.by_columns:
        raise IntakeRefusedError(Rule.NPY_FORM, f"{where}: {shown(name)} lies by columns", remedy="store it by rows")
    kind = _NUMPY.get(head.kind)
    if kind:
        yield LeakedTensor(
            name=name, kinds=(kind,), elements=head.data_bytes // WIDTHS[kind], source=source, begin=head.begin
        )
