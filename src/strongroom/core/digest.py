"""Digests that carry their algorithm, written ``sha256:<64 hex>``."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader
from typing import Final

from strongroom.core.errors import MalformedError


class DigestAlgorithm(StrEnum):
    """Allowed digest algorithms (FIPS 180-4). A reader refuses any other name."""

    SHA256 = "sha256"


_SIZES: Final = {DigestAlgorithm.SHA256: 32}
"""How many bytes a digest of each has."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A digest and the algorithm that made it."""

    algorithm: DigestAlgorithm
    value: bytes

    def __post_init__(self) -> None:
        if len(self.value) != _SIZES[self.algorithm]:
            raise MalformedError(f"a `{self.algorithm}` digest can't have {len(self.value)} bytes")

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """Return the SHA-256 digest of ``data``."""
        return cls(DigestAlgorithm.SHA256, hashlib.sha256(data).digest())

    @classmethod
    def of_file(cls, file: BufferedReader) -> Digest:
        """Return the SHA-256 digest of what is left to read of an open file, in bounded memory.

        :raises OSError: it can't be read.
        """
        return cls(DigestAlgorithm.SHA256, hashlib.file_digest(file, "sha256").digest())

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Parse ``sha256:<hex>``; only lower-case hex is accepted, so that one digest has one spelling.

        :raises MalformedError: another algorithm, length or spelling.
        """
        name, _, hexed = text.partition(":")
        try:
            algorithm, value = DigestAlgorithm(name), bytes.fromhex(hexed)
        except ValueError:
            raise MalformedError("a digest must be written `sha256:<hex>`") from None
        if value.hex() != hexed:
            raise MalformedError("a digest is written in lower-case hex without spaces")
        return cls(algorithm, value)

    def matches(self, other: Digest) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(str(self), str(other))

    def __str__(self) -> str:
        return f"{self.algorithm.value}:{self.value.hex()}"
