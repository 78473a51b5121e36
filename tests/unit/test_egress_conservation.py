"""Bytes that no authorised token explains freeze the model, however they are hidden; honest traffic never does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import UsageError
from strongroom.egress.conservation import Finding, FrameShape, Sample, judge

FIXED = FrameShape(header_bytes=8, unit_bytes=4, slots=32)
EXACT = FrameShape(header_bytes=8, unit_bytes=4, slots=None)
SLACK = 272
BEFORE = Sample(frames=10, units=300, ends=1, counted=10 * 136, demand=1)


def after(shape: FrameShape = FIXED, *, frames: int = 12, units: int = 330, **changes: int) -> Sample:
    honest = Sample(frames=frames, units=units, ends=2, counted=shape.bytes_of(frames=frames, units=units), demand=1)
    return replace(honest, **changes)


def finding(now: Sample, shape: FrameShape = FIXED) -> Finding | None:
    return judge(BEFORE, now, shape, slack_bytes=SLACK).finding


def test_honest_traffic_passes() -> None:
    assert finding(after()) is None
    assert not judge(BEFORE, after(), FIXED, slack_bytes=SLACK).freeze
    assert finding(after(EXACT), EXACT) is None
    assert finding(replace(BEFORE, demand=0)) is None


def test_what_is_under_way_is_allowed_once() -> None:
    honest = after()
    first = replace(honest, counted=honest.counted + SLACK)
    assert finding(first) is None
    # The same again in the next sample isn't: totals are compared.
    second = replace(first, counted=first.counted + 1)
    verdict = judge(first, second, FIXED, slack_bytes=SLACK)
    assert (verdict.finding, verdict.seen, verdict.allowed) == (Finding.UNEXPLAINED_BYTES, SLACK + 1, SLACK)


def test_one_byte_without_demand_freezes() -> None:
    quiet = replace(BEFORE, demand=0)
    assert finding(replace(quiet, counted=quiet.counted + 1)) is Finding.BYTES_WITHOUT_DEMAND
    # Nor may what was under way stay so when nobody waits for anything any more.
    lagging = replace(BEFORE, counted=BEFORE.counted + 1)
    assert judge(lagging, replace(lagging, demand=0), FIXED, slack_bytes=SLACK).finding is Finding.UNEXPLAINED_BYTES


@pytest.mark.parametrize("name", ["frames", "units", "ends", "counted"])
def test_a_counter_that_goes_back_freezes(name: str) -> None:
    assert finding(replace(BEFORE, **{name: getattr(BEFORE, name) - 1})) is Finding.COUNTER_REGRESSED


def test_what_goes_around_the_counter_freezes() -> None:
    honest = after()
    assert finding(replace(honest, counted=honest.counted - 1)) is Finding.UNCOUNTED_BYTES


def test_the_number_of_frames_says_nothing() -> None:
    assert finding(after(frames=333, units=330)) is Finding.EMPTY_FRAMES
    assert finding(after(EXACT, frames=333, units=330), EXACT) is Finding.EMPTY_FRAMES
    assert finding(after(frames=332, units=330)) is None


def test_a_frame_has_no_more_than_its_slots() -> None:
    assert finding(after(frames=12, units=12 * 32 + 1)) is Finding.OVERFULL_FRAMES


@pytest.mark.parametrize(("header", "unit", "slots"), [(-1, 4, None), (8, 0, None), (8, 4, 0)])
def test_a_shape_carries_something(header: int, unit: int, slots: int | None) -> None:
    with pytest.raises(UsageError):
        FrameShape(header_bytes=header, unit_bytes=unit, slots=slots)


@given(
    st.lists(st.tuples(st.integers(1, 32), st.booleans(), st.integers(0, 40)), min_size=1, max_size=60),
    st.sampled_from([FIXED, EXACT]),
)
def test_stuffed_bytes_in_all_never_exceed_the_slack(steps: list[tuple[int, bool, int]], shape: FrameShape) -> None:
    before = now = Sample(frames=0, units=0, ends=0, counted=0, demand=0)
    stuffed = 0
    for units, ends, stuffing in steps:
        stuffed += stuffing
        honest = shape.bytes_of(frames=1, units=units)
        now = Sample(
            frames=before.frames + 1,
            units=before.units + units,
            ends=before.ends + ends,
            counted=before.counted + honest + stuffing,
            demand=1,
        )
        assert judge(before, now, shape, slack_bytes=SLACK).freeze == (stuffed > SLACK)
        before = now
        if stuffed > SLACK:
            break
    assert judge(now, replace(now, demand=0), shape, slack_bytes=SLACK).freeze == (stuffed > 0)
