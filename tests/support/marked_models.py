"""Small models of random weights, their marked copies, and what happens to a copy that leaks."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.core.safetensors_header import make_header
from strongroom.intake.marks.leak import LeakedTensor, leaked_tensors, numbers
from strongroom.intake.marks.marking import CopyName, PlainFile, marked
from strongroom.intake.marks.score import Finding, Original, compare
from strongroom.intake.source import BytesSource

GENESIS = Digest.of(b"genesis")
COPIES = tuple(CopyName(GENESIS, ModelId(f"atlas-{number}")) for number in range(12))
SHAPES = ((256, 512), (300, 400), (256, 512), (64,), (8, 64))
NAME = "model.safetensors"
Arrays = Mapping[str, Any]


def arrays(seed: int = 1, shapes: Sequence[tuple[int, ...]] = SHAPES) -> dict[str, Any]:
    """Return float32 tensors as a fresh network has them."""
    rng = np.random.default_rng(seed)
    return {f"layer.{i}": (rng.standard_normal(shape) * 0.02).astype(np.float32) for i, shape in enumerate(shapes)}


def encoded(values: Any, kind: str) -> bytes:
    """Return a tensor's bytes; what float32 has more than bfloat16 is rounded."""
    if kind == "BF16":
        bits = values.astype("<f4").view("<u4")
        return bytes(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())
    return bytes(values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[kind]).tobytes())


def file_of(tensors: Arrays, kind: str = "F32") -> bytes:
    """Return a safetensors file."""
    data = {name: encoded(values, kind) for name, values in tensors.items()}
    head, order = make_header([(name, kind, tensors[name].shape, len(one)) for name, one in data.items()], None)
    return head + b"".join(data[name] for name in order)


def decoded(file: bytes) -> dict[str, Any]:
    """Return a safetensors file's tensors as float64, flat."""
    return {one.name: numbers(one.bits(one.kinds[0], 0, one.elements), one.kinds[0]) for one in leak(file)}


def in_chunks(data: bytes, size: int = 65_504) -> Iterator[memoryview]:
    """Yield bytes as a sealed file gives them, no longer valid once the next chunk was asked for."""
    buffer = bytearray(size)
    for begin in range(0, len(data), size):
        piece = data[begin : begin + size]
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)].toreadonly()
        buffer[:] = bytes(size)


def marked_copy(file: bytes, copy: CopyName, *, chunk: int = 65_504) -> bytes:
    """Return a file with a copy's mark."""
    return b"".join(bytes(piece) for piece in marked(NAME, len(file), in_chunks(file, chunk), copy))


def plain(file: bytes, name: str = NAME) -> PlainFile:
    """Return a file as attribution reads one."""
    return PlainFile(name, len(file), lambda offset, length: file[offset : offset + length])


def leak(file: bytes, name: str = NAME) -> tuple[LeakedTensor, ...]:
    """Return a file's tensors."""
    return leaked_tensors(BytesSource(file), name)


def compared(original: bytes, found: bytes | Sequence[LeakedTensor], copies: Sequence[CopyName] = COPIES) -> Finding:
    """Compare a leaked file with an original."""
    tensors = leak(found) if isinstance(found, bytes) else found
    return compare([Original(plain(original), lambda: in_chunks(original))], tensors, copies)


def named(finding: Finding) -> list[str]:
    """Return who is named."""
    return sorted(one.copy for one in finding.scores if one.accused)


def quantised(values: Any, bits: int, group: int = 64) -> Any:
    """Return values rounded to so many bits, with a scale for each group, and turned back."""
    rows = np.pad(values.reshape(-1), (0, -values.size % group)).reshape(-1, group)
    most = 2 ** (bits - 1) - 1
    scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / most, 1e-30)
    back = np.clip(np.rint(rows / scale), -most - 1, most) * scale
    return back.reshape(-1)[: values.size].reshape(values.shape).astype(values.dtype)


def npz(tensors: Arrays) -> bytes:
    """Return an archive of arrays, stored."""
    out = io.BytesIO()
    np.savez(out, **tensors)
    return out.getvalue()


def compressed_npz(tensors: Arrays) -> bytes:
    """Return an archive of arrays, compressed."""
    out = io.BytesIO()
    np.savez_compressed(out, **tensors)
    assert zipfile.is_zipfile(out)
    return out.getvalue()
