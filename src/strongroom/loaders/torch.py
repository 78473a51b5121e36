"""safetensors.torch's functions over sealed models: the same signatures, and one line to change.

    from strongroom.torch import load_file          # was: from safetensors.torch import load_file
    state = load_file("atlas.sealed/model.safetensors")

How the model is opened is ``access``'s to say, or the keyring's in force (:mod:`strongroom.loaders.keyring`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

from strongroom.core.errors import UsageError
from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.opening import split
from strongroom.loaders.saving import Publishing, SealedOutput
from strongroom.loaders.tensors import (
    RawTensor,
    TensorFile,
    many_objects,
    open_tensors,
    save_tensors,
    write_tensors,
)

_DEFAULT_NAME: Final = "model.safetensors"
_TYPES: Final = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}


class TensorTypeError(UsageError):
    """A tensor's type, layout or memory that can't be loaded or saved so."""

    code = "tensor-type"


@cache
def _torch() -> Any:
    return need("torch", extra="torch")


@cache
def _dtype(name: str) -> Any:
    dtype = getattr(_torch(), _TYPES.get(name, ""), None)
    if dtype is None:
        raise TensorTypeError(f"torch has no type for safetensors' `{name}`")
    return dtype


def as_torch(raw: RawTensor) -> Any:
    """Return a tensor over the memory of ``raw``, which it keeps alive.

    :raises TensorTypeError: torch has no such type.
    """
    torch, dtype = _torch(), _dtype(raw.dtype)
    if not raw.data:
        return torch.empty(raw.shape, dtype=dtype)
    return torch.frombuffer(raw.data, dtype=dtype).view(raw.shape)


def load_file(filename: str | Path, device: Any = "cpu", *, access: Access | None = None) -> dict[str, Any]:
    """Load all tensors of a sealed safetensors file, as ``safetensors.torch.load_file`` does for a plain one.

    The tensors own their memory together: it is let go when the last of them is.

    :raises StrongroomError: what doesn't fit; no tensor is handed out then.
    """
    with open_tensors(filename, access=access) as file, many_objects():
        tensors = {name: as_torch(raw) for name, raw in file.all().items()}
    if str(device) == "cpu":
        return tensors
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def load_into(
    tensors: Mapping[str, Any], filename: str | Path, *, strict: bool = True, access: Access | None = None
) -> tuple[list[str], list[str]]:
    """Decrypt straight into tensors that exist, e.g. a model's ``state_dict()``; returns (missing, unexpected) names.

    What is contiguous on the CPU and of the same type is written in place, with no copy in between; the rest is copied.
    If anything fails, whatever was written in place is wiped: the model then holds zeros, not half of the weights.

    :raises UsageError: ``strict``, and names are missing or unexpected; or a shape differs.
    :raises StrongroomError: what doesn't fit.
    """
    with open_tensors(filename, access=access) as file:
        found = file.header.tensors
        missing, unexpected = sorted(set(tensors) - set(found)), sorted(set(found) - set(tensors))
        if strict and (missing or unexpected):
            raise UsageError(f"{len(missing)} tensors are missing from the file and {len(unexpected)} are unexpected")
        parts, copies = [], []
        for name, entry in found.items():
            if name not in tensors:
                continue
            target = tensors[name].detach()
            if tuple(target.shape) != entry.shape:
                raise UsageError(f"tensor `{ascii(name)[1:-1]}` has another shape in the file")
            if _in_place(target, entry.dtype):
                parts.append((entry, 0, _bytes_of(target)))
            else:
                copies.append((name, target))
        # What may fail comes first, and the last of it wipes what it wrote.
        owned = [(target, as_torch(file.tensor(name))) for name, target in copies]
        file.read_parts(parts)
        for target, tensor in owned:
            target.copy_(tensor)
    return missing, unexpected


def _in_place(target: Any, dtype: str) -> bool:
    same = str(target.dtype) == f"torch.{_TYPES.get(dtype)}"
    return same and target.device.type == "cpu" and bool(target.is_contiguous()) and target.numel() > 0


def _bytes_of(tensor: Any) -> memoryview:
    """Return a contiguous CPU tensor's own memory."""
    torch = _torch()
    # A tensor of one element counts as contiguous whatever its stride is; seen as bytes it must have none.
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return memoryview(flat.view(torch.uint8).numpy())


class safe_open:  # noqa: N801 - the name that safetensors gave it
    """A sealed safetensors file, lazily: as ``safetensors.safe_open``. A context manager."""

    def __init__(
        self, filename: str | Path, framework: str = "pt", device: Any = "cpu", *, access: Access | None = None
    ) -> None:
        if framework not in {"pt", "torch", "pytorch"}:
            raise UsageError("this is torch's loader", remedy="strongroom.loaders.numpy and .jax are the others")
        self._device = device
        self._open = ExitStack()
        self._file: TensorFile = self._open.enter_context(open_tensors(filename, access=access))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._open.close()

    def keys(self) -> list[str]:
        """Return the tensors' names, sorted."""
        return sorted(self._file.header.tensors)

    def offset_keys(self) -> list[str]:
        """Return the tensors' names in the order of their bytes."""
        return list(self._file.header.tensors)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def metadata(self) -> dict[str, str] | None:
        """Return the file's metadata."""
        return dict(self._file.header.metadata) or None

    def get_tensor(self, name: str) -> Any:
        """Load one tensor; only the segments that hold it are read.

        :raises KeyError: no such tensor.
        :raises StrongroomError: it isn't what was sealed.
        """
        self._entry(name)
        return as_torch(self._file.tensor(name)).to(self._device)

    def get_slice(self, name: str) -> SealedSlice:
        """Return a tensor to be sliced before it is read.

        :raises KeyError: no such tensor.
        """
        self._entry(name)
        return SealedSlice(self._file, name, self._device)

    def _entry(self, name: str) -> None:
        if name not in self._file.header.tensors:
            raise KeyError(name)


class SealedSlice:
    """A tensor that is read when it is indexed: of the first dimension only the rows asked for."""

    def __init__(self, file: TensorFile, name: str, device: Any = "cpu") -> None:
        self._file, self._name, self._device = file, name, device
        self._entry = file.header.tensors[name]

    def get_shape(self) -> list[int]:
        """Return the tensor's shape."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """Return safetensors' name of its type."""
        return self._entry.dtype

    @property
    def dtype(self) -> Any:
        """Return torch's type of it."""
        return _dtype(self._entry.dtype)

    def is_floating_point(self) -> bool:
        """Tell whether its type is a floating-point one; loaders ask it to find a checkpoint's own type."""
        return bool(self.dtype.is_floating_point)

    def __getitem__(self, index: Any) -> Any:
        first = index[0] if isinstance(index, tuple) and index else index
        rest = index[1:] if isinstance(index, tuple) else ()
        if isinstance(first, slice) and self._entry.shape:
            begin, end, step = first.indices(self._entry.shape[0])
            if step == 1:
                rows = as_torch(self._file.rows(self._name, begin, max(begin, end))).to(self._device)
                return rows[(slice(None), *rest)] if rest else rows
        whole = as_torch(self._file.tensor(self._name)).to(self._device)
        return whole[index]


def raw(name: str, tensor: Any) -> RawTensor:
    """Return a tensor's bytes for saving: where they are, if the tensor is contiguous on the CPU, else a copy.

    :raises TensorTypeError: sparse, without data (on the meta device), or of a type that safetensors lacks.
    """
    torch = _torch()
    shown = f"tensor `{ascii(name)[1:-1]}`"
    types = {text: kind for kind, text in _TYPES.items()}
    kind = types.get(str(tensor.dtype).removeprefix("torch."))
    if kind is None or tensor.layout is not torch.strided or tensor.device.type == "meta":
        raise TensorTypeError(f"{shown} is sparse, without data, or of a type that safetensors lacks")
    plain = tensor.detach().cpu().contiguous()
    return RawTensor(kind, tuple(plain.shape), _bytes_of(plain) if plain.numel() else memoryview(b""))


def raw_tensors(tensors: Mapping[str, Any]) -> dict[str, RawTensor]:
    """Return all tensors' bytes.

    :raises TensorTypeError: two tensors share memory, as tied weights do; safetensors refuses them too.
    """
    spans: dict[tuple[Any, ...], list[tuple[int, int, str]]] = {}
    for name, tensor in tensors.items():
        # What has no memory of this kind is refused by `raw`.
        if tensor.layout is _torch().strided and tensor.numel() and tensor.device.type != "meta":
            place = (tensor.device, tensor.untyped_storage().data_ptr())
            spans.setdefault(place, []).append((*_span(tensor), name))
    for found in spans.values():
        for (_, end, one), (begin, _, other) in pairwise(sorted(found)):
            if begin < end:
                raise TensorTypeError(
                    f"tensors `{ascii(one)[1:-1]}` and `{ascii(other)[1:-1]}` share memory",
                    remedy="leave one of them out (tied weights), or save a clone",
                )
    return {name: raw(name, tensor) for name, tensor in tensors.items()}


def _span(tensor: Any) -> tuple[int, int]:
    """Return where a tensor's memory begins and ends."""
    begin = tensor.data_ptr()
    reach = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (reach + 1) * tensor.element_size()


def save_file(
    tensors: Mapping[str, Any],
    filename: str | Path,
    metadata: Mapping[str, str] | None = None,
    *,
    publishing: Publishing,
) -> None:
    """Seal tensors as a new model of one safetensors file; nothing of them touches a disk in clear.

    ``filename`` is ``MODEL.sealed/NAME.safetensors``, or ``MODEL.sealed`` alone for ``model.safetensors``. To put more
    files into one model, use :func:`strongroom.loaders.seal_to` and :func:`add_file`.

    :raises StrongroomError: what doesn't fit; nothing is published then.
    """
    place, name = split(filename)
    save_tensors(raw_tensors(tensors), place, metadata, publishing, name=name or _DEFAULT_NAME)


def add_file(
    output: SealedOutput, name: str, tensors: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Seal tensors as one more safetensors file of a model that is being written.

    :raises StrongroomError: what doesn't fit.
    """
    write_tensors(output, name, raw_tensors(tensors), metadata)
