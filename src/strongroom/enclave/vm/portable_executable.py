"""The Authenticode digest of a kernel (Windows Authenticode Portable Executable Signature Format, 2008). Pure.

It is what UEFI firmware extends into PCR 4 when it starts an image: SHA-256 over the file without its checksum, its
pointer to signatures, and the signatures themselves.
"""

from __future__ import annotations

import hashlib
from typing import Final

from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError

MAX_KERNEL: Final = 256 << 20
_PE_POINTER: Final = 0x3C
_MAX_SECTIONS: Final = 96
_SECTION: Final = 40
_SECURITY: Final = 4
"""The index of the certificate table among the data directories."""
_DIRECTORIES_AT: Final = {0x10B: 96, 0x20B: 112}
"""Where the data directories begin in the optional header: PE32 and PE32+."""


def authenticode(image: bytes) -> Digest:
    """Return the digest of a PE image.

    :raises MalformedError: not one, or with headers that lead outside it.
    """
    if len(image) > MAX_KERNEL or image[:2] != b"MZ":
        raise MalformedError("the kernel isn't a PE image (is its EFI stub turned off?)")
    pe = _number(image, _PE_POINTER, 4)
    if image[pe : pe + 4] != b"PE\0\0":
        raise MalformedError("the kernel isn't a PE image (is its EFI stub turned off?)")
    sections, optional_size = _number(image, pe + 6, 2), _number(image, pe + 20, 2)
    optional = pe + 24
    directories_at = _DIRECTORIES_AT.get(_number(image, optional, 2))
    if directories_at is None or sections > _MAX_SECTIONS:
        raise MalformedError("the kernel's PE header is of an unknown kind, or names too many sections")
    headers = _number(image, optional + 60, 4)
    checksum, security = optional + 64, optional + directories_at + 8 * _SECURITY
    counted = _number(image, optional + directories_at - 4, 4)
    if not security + 8 <= headers <= len(image) or counted <= _SECURITY:
        raise MalformedError("the kernel's PE header is longer than the kernel, or has no place for signatures")
    running = hashlib.sha256(image[:checksum] + image[checksum + 4 : security] + image[security + 8 : headers])
    hashed = headers
    for start, size in sorted(_sections(image, optional + optional_size, sections)):
        if start + size > len(image):
            raise MalformedError("a section of the kernel ends outside it")
        running.update(image[start : start + size])
        hashed += size
    signatures = _number(image, security + 4, 4)
    if hashed + signatures > len(image):
        raise MalformedError("the kernel's signatures are longer than what is left of it")
    running.update(image[hashed : len(image) - signatures])
    return Digest(DigestAlgorithm.SHA256, running.digest())


def _sections(image: bytes, at: int, count: int) -> list[tuple[int, int]]:
    found = [
        (_number(image, one + 20, 4), _number(image, one + 16, 4)) for one in range(at, at + count * _SECTION, _SECTION)
    ]
    return [(start, size) for start, size in found if size]


def _number(image: bytes, at: int, size: int) -> int:
    if at + size > len(image):
        raise MalformedError("the kernel ends inside its PE header")
    return int.from_bytes(image[at : at + size], "little")
