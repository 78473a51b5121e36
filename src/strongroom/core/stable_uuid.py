"""UUIDs for formats that ask for them: the same parts give the same id, so that a document can be made twice."""

from __future__ import annotations

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest


def stable_uuid(*parts: str) -> str:
    """Return bits of a SHA-256 over the parts, in the form of a version 4 UUID (RFC 9562)."""
    bits = bytearray(Digest.of(encode(list[Json](parts))).value[:16])
    bits[6] = bits[6] & 0x0F | 0x40
    bits[8] = bits[8] & 0x3F | 0x80
    text = bits.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
