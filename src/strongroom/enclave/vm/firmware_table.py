"""The table of contents that edk2's firmware ends with (OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm). Pure.

From the end of the file: 32 bytes of reset vector, then entries, each data first, its length, and its name, a GUID.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.core.errors import MalformedError

MAX_FIRMWARE: Final = 64 << 20
ENTRY: Final = 18
"""Bytes of an entry's length and name."""
_RESET_VECTOR: Final = 32


def guid(text: str) -> bytes:
    """Return a GUID as it lies in memory: the first three numbers little-endian."""
    parts = [bytes.fromhex(part) for part in text.split("-")]
    return b"".join((*(part[::-1] for part in parts[:3]), *parts[3:]))


_FOOTER: Final = guid("96b582de-1fb2-45f7-baea-a366c55a082d")


def table_of(data: bytes) -> Mapping[bytes, bytes]:
    """Return the entries, by name.

    :raises MalformedError: the firmware has no such table, or a broken one, or is longer than :data:`MAX_FIRMWARE`.
    """
    if len(data) > MAX_FIRMWARE:
        raise MalformedError(f"a firmware has at most {MAX_FIRMWARE} bytes")
    end = len(data) - _RESET_VECTOR
    size, name = _named(data[max(0, end - ENTRY) : max(0, end)])
    if name != _FOOTER or not ENTRY <= size <= end:
        raise MalformedError("the firmware has no table of contents at its end")
    left = data[end - size : end - ENTRY]
    found: dict[bytes, bytes] = {}
    while len(left) >= ENTRY:
        size, name = _named(left[-ENTRY:])
        if not ENTRY <= size <= len(left) or name in found:
            raise MalformedError("the firmware's table of contents is broken")
        found[name] = left[-size:-ENTRY]
        left = left[:-size]
    return found


def _named(entry: bytes) -> tuple[int, bytes]:
    return int.from_bytes(entry[:2], "little"), entry[2:ENTRY]
