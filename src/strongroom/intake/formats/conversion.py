"""A torch checkpoint as safetensors, without loading it: the pickle is read by the gate's own reader, and the tensors'
bytes are copied from their storages. Pure: bytes in, bytes out, a few at a time.

What isn't a tensor in a dictionary (a step, a learning rate) isn't taken along. A tensor that can't be named, an array
inside the pickle, a type that safetensors hasn't: refused, because it would be missing afterwards.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.core.safetensors_header import make_header
from strongroom.intake.formats.pickle_machine import View
from strongroom.intake.formats.texts import check_json
from strongroom.intake.formats.torch_checkpoints import open_torch_zip
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Source

_DTYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "DoubleStorage": "F64",
        "FloatStorage": "F32",
        "HalfStorage": "F16",
        "BFloat16Storage": "BF16",
        "LongStorage": "I64",
        "IntStorage": "I32",
        "ShortStorage": "I16",
        "CharStorage": "I8",
        "ByteStorage": "U8",
        "BoolStorage": "BOOL",
        "ComplexFloatStorage": "C64",
    }
)
_PIECE: Final = 1 << 20
MOST_TIMES: Final = 4
"""How many times as large as its storages a checkpoint may become: a view of one element may have any shape."""
_MAX_INDEX: Final = 64 << 20
_INDEX: Final = ".bin.index.json"
ENDINGS: Final = ("bin", "pt", "pth", "ckpt")


@dataclass(frozen=True, slots=True)
class Converted:
    """A checkpoint as safetensors: its size, and :meth:`pieces` of it."""

    header: bytes
    tensors: tuple[tuple[View, Source | None], ...]
    size: int

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes in order."""
        yield self.header
        for view, storage in self.tensors:
            if storage is not None:
                yield from _elements(view, storage)


def convert(source: Source, where: str) -> Converted:
    """Return a torch checkpoint as safetensors.

    :raises IntakeRefusedError: as :func:`.torch_checkpoints.open_torch_zip`; or torch-storage.
    """
    views, stored = open_torch_zip(source, where)
    described = []
    for name, view in views.items():
        dtype = _DTYPES.get(view.storage.kind)
        if dtype is None:
            raise IntakeRefusedError(Rule.TORCH_STORAGE, f"{where}: {shown(name)} has a type that safetensors hasn't")
        if not name.isprintable():
            raise IntakeRefusedError(Rule.TORCH_STORAGE, f"{where}: a tensor's name can't be printed")
        described.append((name, dtype, view.shape, math.prod(view.shape) * view.storage.item_bytes))
    total = sum(one[3] for one in described)
    if total > MOST_TIMES * source.size:
        raise IntakeRefusedError(Rule.TORCH_STORAGE, f"{where}: its tensors overlap so that they take {total} bytes")
    header, order = make_header(described, {"format": "pt"})
    tensors = tuple((views[name], stored.get(views[name].storage.key)) for name in order)
    return Converted(header, tensors, len(header) + total)


def _elements(view: View, storage: Source) -> Iterator[bytes]:
    if 0 in view.shape:
        return
    width = view.storage.item_bytes
    begin = view.offset * width
    if _in_a_row(view):
        end = begin + math.prod(view.shape) * width
        for at in range(begin, end, _PIECE):
            yield storage.read(at, min(_PIECE, end - at))
        return
    # A transposed or cut tensor: what it spans is in memory at once.
    span = sum((extent - 1) * step for extent, step in zip(view.shape, view.stride, strict=True)) + 1
    held = _in_elements(storage.read(begin, span * width), width)
    yield from _rows(held, view.shape, view.stride)


def _in_elements(data: bytes, width: int) -> memoryview:
    match width:
        case 1:
            return memoryview(data)
        case 2:
            return memoryview(data).cast("H")
        case 4:
            return memoryview(data).cast("I")
        case _:
            return memoryview(data).cast("Q")


def _rows(held: memoryview, shape: tuple[int, ...], stride: tuple[int, ...]) -> Iterator[bytes]:
    """Yield row after row; the last dimension is cut out at once."""
    *outer, last = shape
    places = [0] * len(outer)
    while True:
        at = sum(place * step for place, step in zip(places, stride, strict=False))
        step = stride[-1]
        if step:
            yield bytes(held[at : at + (last - 1) * step + 1 : step])
        else:
            yield from _repeated(bytes(held[at : at + 1]), last)
        for axis in reversed(range(len(outer))):
            places[axis] += 1
            if places[axis] < outer[axis]:
                break
            places[axis] = 0
        else:
            return


def _repeated(element: bytes, times: int) -> Iterator[bytes]:
    # One element may be expanded to more than there is memory for.
    most = _PIECE // len(element)
    for at in range(0, times, most):
        yield element * min(most, times - at)


def _in_a_row(view: View) -> bool:
    expected = 1
    for extent, step in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if extent != 1 and step != expected:
            return False
        expected *= extent
    return True


def converted_name(name: str) -> str:
    """Return what a checkpoint, or the index of several, is called as safetensors.

    As loaders look for them: `pytorch_model.bin` becomes `model.safetensors`, its index `model.safetensors.index.json`.
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, rest = base.partition(".")
    if base.endswith(_INDEX):
        stem, dot, rest = base.removesuffix(_INDEX), ".", "safetensors.index.json"
    else:
        stem, dot, _ending = base.rpartition(".")
        rest = "safetensors"
    if stem == "pytorch_model" or stem.startswith("pytorch_model-"):
        stem = stem.removeprefix("pytorch_")
    return f"{folder}{slash}{stem}{dot}{rest}"


def is_index(name: str) -> bool:
    """Say whether a file is the index of a checkpoint in shards."""
    return name.endswith(_INDEX)


def convert_index(source: Source, where: str) -> bytes:
    """Return the index of a checkpoint in shards, with its shards' new names.

    :raises IntakeRefusedError: form: it isn't such an index.
    """
    check_json(source, where)
    if source.size > _MAX_INDEX:
        raise IntakeRefusedError(Rule.TOO_LARGE, f"{where}: an index of more than {_MAX_INDEX} bytes")
    found = json.loads(source.read(0, source.size))
    weights = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(one, str) for one in weights.values()):
        raise IntakeRefusedError(Rule.FORM, f"{where}: not an index of shards")
    found["weight_map"] = {name: converted_name(shard) for name, shard in weights.items()}
    return json.dumps(found, indent=2).encode()
