"""Types of elements that a search can read as numbers, and the values of a block of each."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from strongroom.core.extras import need
from strongroom.intake.copies.fingerprints import BLOCK

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]


class Element(StrEnum):
    """How numbers are written: safetensors' names, and llama.cpp's for eight bits with a scale for each 32 values."""

    F64 = "F64"
    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    I8 = "I8"
    U8 = "U8"
    Q8_0 = "Q8_0"


BLOCK_BYTES: Final[Mapping[Element, int]] = MappingProxyType(
    {
        Element.F64: 8 * BLOCK,
        Element.F32: 4 * BLOCK,
        Element.F16: 2 * BLOCK,
        Element.BF16: 2 * BLOCK,
        Element.I8: BLOCK,
        Element.U8: BLOCK,
        Element.Q8_0: BLOCK // 32 * 34,
    }
)
"""Bytes of 4,096 elements."""
LEAST: Final = BLOCK_BYTES[Element.I8]
"""Bytes of the smallest block. What is smaller holds nothing that can be known again."""
FLOATS: Final = (Element.BF16, Element.F16, Element.F32)
"""What bytes are taken for that don't say what they are."""
_PLAIN: Final = {Element.F64: "<f8", Element.F32: "<f4", Element.F16: "<f2", Element.I8: "i1", Element.U8: "u1"}


def values(element: Element, data: bytes) -> Floats:
    """Return the values of whole blocks as rows of 4,096. What can't be written in 32 bits becomes infinite."""
    np = need("numpy", extra="numpy")
    with np.errstate(all="ignore"):
        if element is Element.BF16:
            found = (np.frombuffer(data, dtype="<u2").astype("u4") << 16).view("f4")
        elif element is Element.Q8_0:
            found = _scaled(np, data)
        else:
            found = np.frombuffer(data, dtype=_PLAIN[element]).astype("f4")
    rows: Floats = found.reshape(-1, BLOCK)
    return rows


def _scaled(np: Any, data: bytes) -> Any:
    # ggml-common.h, block_q8_0: a scale in 16 bits, then 32 signed bytes.
    rows = np.frombuffer(data, dtype="u1").reshape(-1, 34)
    scale = rows[:, :2].copy().view("<f2").astype("f4")
    return rows[:, 2:].view("i1").astype("f4") * scale
