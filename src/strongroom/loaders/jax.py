"""safetensors.flax's functions over sealed models, for jax arrays; bfloat16 and the 8-bit floats through ml_dtypes."""

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
    "BOOL": "bool_",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
}


def load_file(filename: str | Path, *, access: Access | None = None) -> dict[str, Any]:
    """Load all tensors of a sealed safetensors file as jax arrays on the default device.

    :raises StrongroomError: what doesn't fit; no tensor is handed out then.
    """
    numpy, jnp = need("numpy", extra="jax"), need("jax.numpy", extra="jax")
    arrays = {}
    with open_tensors(filename, access=access) as file:
        for name, raw in file.all().items():
            kind = _TYPES.get(raw.dtype)
            if kind is None:
                raise TensorTypeError(f"jax has no type for safetensors' `{raw.dtype}` unless 64-bit types are enabled")
            dtype = numpy.dtype(getattr(jnp, kind))
            arrays[name] = jnp.asarray(numpy.frombuffer(raw.data, dtype=dtype).reshape(raw.shape))
    return arrays


def save_file(
    tensors: Mapping[str, Any],
    filename: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    publishing: Publishing,
) -> None:
    """Seal jax arrays as a new model of one safetensors file, as :func:`strongroom.loaders.torch.save_file`.

    :raises TensorTypeError: a type that safetensors lacks.
    :raises StrongroomError: what doesn't fit; nothing is published then.
    """
    numpy = need("numpy", extra="jax")
    kinds = {text.rstrip("_"): kind for kind, text in _TYPES.items()}
    raws = {}
    for name, array in tensors.items():
        plain = numpy.asarray(array, order="C")
        kind = kinds.get(plain.dtype.name)
        if kind is None:
            raise TensorTypeError(f"array `{ascii(name)[1:-1]}` has a type that isn't saved from jax")
        data = memoryview(plain.reshape(-1).view(numpy.uint8)) if plain.size else memoryview(b"")
        raws[name] = RawTensor(kind, tuple(plain.shape), data)
    place, inner = split(filename)
    save_tensors(raws, place, metadata, publishing, name=inner or "model.safetensors")
