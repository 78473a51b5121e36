"""Why a segment was refused: altered, moved or copied. Only for the error message; the answer is a refusal anyway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.sealing.errors import (
    ExtendedError,
    SealedObjectError,
    SegmentDuplicatedError,
    SegmentReorderedError,
    SegmentTamperedError,
    TruncatedError,
)
from strongroom.sealing.floe import LENGTH_FIELD, NONCE_LENGTH, OVERHEAD, Floe, wipe
from strongroom.sealing.header import Geometry
from strongroom.sealing.source import PositionalSource

_REACH: Final = 512
"""How many places on each side are tried: a quarter of a second at most, and only for a damaged object."""


def diagnose(
    floe: Floe,
    source: PositionalSource,
    geometry: Geometry,
    segment: bytes,
    position: int,
    *,
    found: SealedObjectError,
    object_name: str,
) -> SealedObjectError:
    """Return the most precise error for ``segment``, which was refused at ``position`` with ``found``.

    Trying other places would cost FLOE its commitment if anything were accepted by it; nothing is: whatever opens is
    wiped here and the object stays refused.
    """
    for place in _nearby(position, geometry.segments):
        if not _opens(floe, geometry, segment, place):
            continue
        head = LENGTH_FIELD + NONCE_LENGTH
        if bytes(source.piece(geometry.offset(place), head)) == segment[:head]:
            return SegmentDuplicatedError(
                f"segment {position} is a copy of segment {place}", object_name=object_name, segment=position
            )
        return SegmentReorderedError(
            f"segment {place} stands in the place of segment {position}", object_name=object_name, segment=position
        )
    kind = type(found)
    if kind is ExtendedError and not _opens_as_final(floe, segment, position):
        # The final mark is only a length field in clear; unless the segment opens with it, it was simply altered.
        kind = SegmentTamperedError
    if kind not in {ExtendedError, TruncatedError}:
        kind = SegmentTamperedError
    return kind(found.message, object_name=object_name, segment=position)


def _nearby(position: int, segments: int) -> Iterator[int]:
    for distance in range(1, _REACH + 1):
        for place in (position - distance, position + distance):
            if 0 <= place < segments:
                yield place


def _opens(floe: Floe, geometry: Geometry, segment: bytes, place: int) -> bool:
    return len(segment) >= geometry.length(place) and _try(
        floe, segment[: geometry.length(place)], place, final=place == geometry.segments - 1
    )


def _opens_as_final(floe: Floe, segment: bytes, position: int) -> bool:
    stated = int.from_bytes(segment[:LENGTH_FIELD], "big")
    return OVERHEAD <= stated <= len(segment) and _try(floe, segment[:stated], position, final=True)


def _try(floe: Floe, segment: bytes, place: int, *, final: bool) -> bool:
    out = memoryview(bytearray(len(segment) - OVERHEAD))
    try:
        floe.decrypt_segment(out, memoryview(segment), position=place, final=final)
    except SealedObjectError:
        return False
    finally:
        wipe(out)
    return True
