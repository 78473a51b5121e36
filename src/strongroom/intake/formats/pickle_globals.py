"""The globals that a pickle may name, each with the reason why it runs nothing of the pickle's own when it is called.

An allow-list: whatever isn't here is refused, however harmless it looks. Block lists fail the other way: there is
always one more way to import a module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What may be done with a global."""

    reason: str
    calls: bool = False
    """It may be called with what the pickle made."""
    items: bool = False
    """What a call returns may be filled by SETITEM, APPEND and ADDITEMS."""
    state: bool = False
    """What a call returns may be given a state by BUILD, once."""
    encodes: bool = False
    """The second argument must be the text ``latin1``."""
    unsized: bool = False
    """The first argument isn't a number, which would say how much memory to take."""
    rebuilds: bool = False
    """The first argument must be a storage, and the view must lie within it."""
    item_bytes: int = 0
    """Of a storage class: bytes of one element."""


_PLAIN: Final = "a built-in value, made of values that the pickle holds already"
_STORAGE: Final = "names an element type; a call isn't allowed"
_DTYPE: Final = "a constant"

_STORAGES: Final = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "ComplexFloatStorage": 8,
    "ComplexDoubleStorage": 16,
}
_DTYPES: Final = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex64 complex128 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu"
)

Globals = Mapping[tuple[str, str], Allowed]
"""(module, name) -> what may be done with it. The name is compared as a whole: `a.b` is no path into `a`."""

PLAIN_GLOBALS: Final[Globals] = MappingProxyType(
    {
        ("collections", "OrderedDict"): Allowed(
            reason="a dictionary; its state is a dictionary of attributes that nothing calls",
            calls=True,
            items=True,
            state=True,
        ),
        **{
            (module, name): Allowed(reason=_PLAIN, calls=True)
            for module in ("builtins", "__builtin__")
            for name in ("set", "frozenset", "complex")
        },
        **{
            (module, name): Allowed(reason=_PLAIN, calls=True, unsized=True)
            for module in ("builtins", "__builtin__")
            for name in ("bytes", "bytearray")
        },
        ("_codecs", "encode"): Allowed(
            reason="how protocol 2 writes bytes: latin1 and no other codec, because codecs can be registered",
            calls=True,
            encodes=True,
        ),
    }
)
"""What a pickle of plain values needs."""

NUMPY_GLOBALS: Final[Globals] = MappingProxyType(
    {
        **PLAIN_GLOBALS,
        **{
            (module, "_reconstruct"): Allowed(
                reason="makes an empty array, filled by its state", calls=True, state=True
            )
            for module in ("numpy.core.multiarray", "numpy._core.multiarray")
        },
        **{
            (module, "_frombuffer"): Allowed(reason="an array over bytes that the pickle holds", calls=True)
            for module in ("numpy.core.numeric", "numpy._core.numeric")
        },
        ("numpy", "ndarray"): Allowed(reason="the type that `_reconstruct` is given; a call isn't allowed"),
        ("numpy", "dtype"): Allowed(
            reason="an element type by name, with its byte order as state", calls=True, state=True
        ),
    }
)
"""The same, and arrays. Not `scalar`: with an object type it once read a pickle inside the pickle."""

TORCH_GLOBALS: Final[Globals] = MappingProxyType(
    {
        **NUMPY_GLOBALS,
        ("torch._utils", "_rebuild_tensor_v2"): Allowed(reason="a view of a storage", calls=True, rebuilds=True),
        ("torch._utils", "_rebuild_parameter"): Allowed(reason="marks a tensor as a parameter", calls=True),
        ("torch", "Size"): Allowed(reason="a tuple of counts", calls=True),
        ("torch", "device"): Allowed(reason="a device by name", calls=True),
        **{("torch", name): Allowed(reason=_STORAGE, item_bytes=size) for name, size in _STORAGES.items()},
        **{("torch", name): Allowed(reason=_DTYPE) for name in _DTYPES.split()},
    }
)
"""The same, and tensors. `_rebuild_from_type_v2` and `_load_from_bytes` call or load what the pickle names."""
