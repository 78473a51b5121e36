"""Which segments a read touches, and where each piece of their plaintext goes. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.core.errors import UsageError
from strongroom.sealing.header import Geometry


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of plaintext: where it begins, and the memory that it goes to (flat, writable, of single bytes)."""

    offset: int
    buffer: memoryview


@dataclass(frozen=True, slots=True)
class Job:
    """One segment, and the pieces of it that are wanted; their offsets are within the segment's plaintext."""

    position: int
    pieces: list[Part]


def wanted_plan(parts: Sequence[Part], geometry: Geometry) -> list[Job]:
    """Return the segments that ``parts`` touch, in order.

    :raises UsageError: a part isn't within the plaintext.
    """
    jobs: dict[int, Job] = {}
    room, size = geometry.room, geometry.plain_size
    for part in parts:
        begin, end = part.offset, part.offset + len(part.buffer)
        if begin < 0 or end > size:
            raise UsageError(f"bytes {begin} to {end} aren't within the {size} of the file")
        while begin < end:
            position, skip = divmod(begin, room)
            take = min(end - begin, room - skip)
            done = begin - part.offset
            job = jobs.get(position)
            if job is None:
                job = jobs[position] = Job(position, [])
            job.pieces.append(Part(skip, part.buffer[done : done + take]))
            begin += take
    return [jobs[position] for position in sorted(jobs)]


def whole_plan(parts: Sequence[Part], geometry: Geometry) -> list[Job]:
    """Return every segment, with the pieces that ``parts`` want of it, often none.

    :raises UsageError: a part isn't within the plaintext.
    """
    wanted = {job.position: job for job in wanted_plan(parts, geometry)}
    return [wanted.get(position) or Job(position, []) for position in range(geometry.segments)]


def in_runs(jobs: Sequence[Job], *, most: int) -> list[list[Job]]:
    """Group neighbours, up to ``most`` in a run: what one request to the storage fetches."""
    runs: list[list[Job]] = []
    for job in jobs:
        if runs and len(runs[-1]) < most and job.position == runs[-1][-1].position + 1:
            runs[-1].append(job)
        else:
            runs.append([job])
    return runs
