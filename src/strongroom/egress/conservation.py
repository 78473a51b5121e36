"""The conservation check: every byte that left on the metered channel is explained by a token that was authorised.

Frames have one size for what they carry, so bytes can be worked out from tokens. Two counts are compared: the kernel's,
which no engine can reach, and the gateway's. A compromised engine that stuffs data into padding, extra frames or a
second connection shows in the difference. All counts are totals since the channel opened: the slack is granted once and
not for each sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from strongroom.core.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameShape:
    """How frames of the channel look. With slots, each frame has room for so many units, filled up with zeros."""

    header_bytes: int
    unit_bytes: int
    slots: int | None
    """Units in each frame; None where a frame is as long as what it carries."""

    def __post_init__(self) -> None:
        if self.header_bytes < 0 or self.unit_bytes < 1 or (self.slots is not None and self.slots < 1):
            raise UsageError("a frame has room for at least one unit of at least one byte")

    def bytes_of(self, *, frames: int, units: int) -> int:
        """Return the bytes on the channel of ``frames`` frames that carry ``units`` units."""
        return frames * self.header_bytes + self.unit_bytes * (units if self.slots is None else frames * self.slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Totals of one channel at one time. Read the gateway's counts first and the kernel's last."""

    frames: int
    """Frames that the gateway read and forwarded, or that ended an answer."""
    units: int
    """Units in them, all emitted through the governor."""
    ends: int
    """Answers that ended."""
    counted: int
    """Bytes that left the enclave, as the kernel counts them."""
    demand: int
    """Answers that were under way at any time since the sample before."""


class Finding(StrEnum):
    """Why a model is frozen."""

    COUNTER_REGRESSED = "counter-regressed"
    UNCOUNTED_BYTES = "uncounted-bytes"
    """The gateway saw more than the kernel counted: something goes around the counter."""
    EMPTY_FRAMES = "empty-frames"
    """More frames than units and ends: their number tells something."""
    OVERFULL_FRAMES = "overfull-frames"
    BYTES_WITHOUT_DEMAND = "bytes-without-demand"
    UNEXPLAINED_BYTES = "unexplained-bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What two samples show. With a finding, the model is to be frozen at once."""

    finding: Finding | None
    seen: int
    """Bytes counted beyond those that are explained."""
    allowed: int

    @property
    def freeze(self) -> bool:
        """Whether the model is to be frozen."""
        return self.finding is not None


def judge(before: Sample, now: Sample, shape: FrameShape, *, slack_bytes: int) -> Verdict:
    """Compare two samples. ``slack_bytes`` is what may be under way between kernel and gateway while there is demand.

    Take the first ``before`` when the channel opens. Without demand the slack is nothing.
    """
    excess = now.counted - shape.bytes_of(frames=now.frames, units=now.units)
    allowed = slack_bytes if now.demand else 0
    return Verdict(finding=_finding(before, now, shape, excess, allowed), seen=excess, allowed=allowed)


def _finding(before: Sample, now: Sample, shape: FrameShape, excess: int, allowed: int) -> Finding | None:
    pairs = (
        (before.frames, now.frames),
        (before.units, now.units),
        (before.ends, now.ends),
        (before.counted, now.counted),
    )
    checks = (
        (any(has < had for had, has in pairs) or now.demand < 0, Finding.COUNTER_REGRESSED),
        (excess < 0, Finding.UNCOUNTED_BYTES),
        (now.frames > now.units + now.ends, Finding.EMPTY_FRAMES),
        (shape.slots is not None and now.units > now.frames * shape.slots, Finding.OVERFULL_FRAMES),
        (not now.demand and now.counted > before.counted, Finding.BYTES_WITHOUT_DEMAND),
        (excess > allowed, Finding.UNEXPLAINED_BYTES),
    )
    return next((finding for found, finding in checks if found), None)
