"""safetensors.numpy's functions over sealed models. Types that numpy lacks (bfloat16, 8-bit floats) are refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.opening import split
from strongroom.loaders.saving import Publishing
from strongroom.loaders.tensors import RawTensor, open_tensors, save_tensors
from strongroom.loaders.torch import TensorTypeError

_TYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}


def _as_numpy(raw: RawTensor) -> Any:
    numpy = need("numpy", extra="numpy")
    name = _TYPES.get(raw.dtype)
    if name is None:
        raise TensorTypeError(f"numpy has no type for safetensors' `{raw.dtype}`", remedy="load it with torch or jax")
    return numpy.frombuffer(raw.data, dtype=numpy.dtype(name).newbyteorder("<")).reshape(raw.shape)


def load_file(filename: str | Path, *, access: Access | None = None) -> dict[str, Any]:
    """Load all tensors of a sealed safetensors file, as ``safetensors.numpy.load_file`` does for a plain one.

    :raises StrongroomError: what doesn't fit; no tensor is handed out then.
    """
    with open_tensors(filename, access=access) as file:
        return {name: _as_numpy(raw) for name, raw in file.all().items()}


def save_file(
    tensor_dict: Mapping[str, Any],
    filename: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    publishing: Publishing,
) -> None:
    """Seal arrays as a new model of one safetensors file, as :func:`strongroom.loaders.torch.save_file`.

    :raises TensorTypeError: a type that safetensors lacks.
    :raises StrongroomError: what doesn't fit; nothing is published then.
    """
    numpy = need("numpy", extra="numpy")
    kinds = {text: kind for kind, text in _TYPES.items()}
    tensors = {}
    for name, array in tensor_dict.items():
        kind = kinds.get(array.dtype.newbyteorder("=").name)
        if kind is None:
            raise TensorTypeError(f"array `{ascii(name)[1:-1]}` has a type that safetensors lacks")
        plain = numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        data = memoryview(plain).cast("B") if plain.size else memoryview(b"")
        tensors[name] = RawTensor(kind, tuple(array.shape), data)
    place, inner = split(filename)
    save_tensors(tensors, place, metadata, publishing, name=inner or "model.safetensors")
