"""The first 4,096 bytes of a sealed object: prelude and FLOE header; and where the segments lie after them.

The header can be parsed, compared with the manifest and kept apart from the payload: a storage that serves byte ranges
needs one request for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.core.digest import Digest
from strongroom.sealing.errors import ExtendedError, NotSealedError, SealedFormatError, TruncatedError
from strongroom.sealing.floe import HEADER_LENGTH as FLOE_HEADER_LENGTH
from strongroom.sealing.floe import MAX_SEGMENTS, OVERHEAD
from strongroom.sealing.prelude import MAGIC, PRELUDE_LENGTH, Prelude

HEADER_LENGTH: Final = PRELUDE_LENGTH + FLOE_HEADER_LENGTH
"""4,096 bytes: one page, one disk block, so that segments are aligned for direct I/O."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where an object's segments lie, from its size alone. No number in it was read from unauthenticated bytes."""

    segment_length: int
    segments: int
    last_length: int

    @property
    def room(self) -> int:
        """Plaintext bytes in each segment but the last."""
        return self.segment_length - OVERHEAD

    @property
    def plain_size(self) -> int:
        """Plaintext bytes in all."""
        return (self.segments - 1) * self.room + self.last_length - OVERHEAD

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return HEADER_LENGTH + (self.segments - 1) * self.segment_length + self.last_length

    def offset(self, position: int) -> int:
        """Return where segment ``position`` begins in the object."""
        return HEADER_LENGTH + position * self.segment_length

    def length(self, position: int) -> int:
        """Return how many bytes segment ``position`` has."""
        return self.last_length if position == self.segments - 1 else self.segment_length

    @classmethod
    def of_plaintext(cls, plain_size: int, segment_length: int) -> Geometry:
        """Return the layout that sealing ``plain_size`` bytes gives: an empty last segment only for an empty file."""
        room = segment_length - OVERHEAD
        segments = max(1, -(-plain_size // room))
        return cls(segment_length, segments, plain_size - (segments - 1) * room + OVERHEAD)

    @classmethod
    def of_object(cls, size: int, segment_length: int, *, object_name: str = "") -> Geometry:
        """Return the layout of an object of ``size`` bytes.

        :raises TruncatedError: there isn't room for a header and a segment, or the last segment is too short.
        :raises ExtendedError: an empty segment after others (sealing never writes one), or more than 2^40 segments.
        """
        body = size - HEADER_LENGTH
        if body < OVERHEAD:
            raise TruncatedError(f"{size} bytes can't hold a header and a segment", object_name=object_name)
        segments = -(-body // segment_length)
        last = body - (segments - 1) * segment_length
        if last < OVERHEAD:
            raise TruncatedError(
                f"segment {segments - 1} has {last} bytes, fewer than any",
                object_name=object_name,
                segment=segments - 1,
            )
        if segments > MAX_SEGMENTS or (last == OVERHEAD and segments > 1):
            raise ExtendedError(
                f"segment {segments - 1} is empty or one too many", object_name=object_name, segment=segments - 1
            )
        return cls(segment_length, segments, last)


@dataclass(frozen=True, slots=True)
class SealedHeader:
    """A parsed header. It proves nothing until its digest is compared with the manifest and its tag with the key."""

    prelude: Prelude
    floe: bytes

    @classmethod
    def parse(cls, data: bytes, *, object_name: str = "") -> SealedHeader:
        """Read exactly 4,096 bytes.

        :raises NotSealedError: the magic isn't there.
        :raises TruncatedError: the magic is there, the rest isn't.
        :raises SealedFormatError: anything that the format doesn't allow.
        """
        if not data.startswith(MAGIC):
            raise NotSealedError(
                "this isn't a sealed object; plaintext is never accepted here", object_name=object_name
            )
        if len(data) < HEADER_LENGTH:
            raise TruncatedError(f"the header has {len(data)} of 4096 bytes", object_name=object_name)
        prelude = Prelude.parse(data[:PRELUDE_LENGTH], object_name=object_name)
        floe = data[PRELUDE_LENGTH:]
        if len(floe) != FLOE_HEADER_LENGTH or floe[:10] != prelude.parameters.encode():
            # Two segment lengths in one header would let two readers cut the same object differently.
            raise SealedFormatError("the FLOE header and the prelude disagree", object_name=object_name)
        return cls(prelude, floe)

    def to_bytes(self) -> bytes:
        """Return the 4,096 bytes."""
        return self.prelude.to_bytes() + self.floe

    @property
    def digest(self) -> Digest:
        """Digest of the 4,096 bytes, which the manifest names."""
        return Digest.of(self.to_bytes())
