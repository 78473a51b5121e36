"""Where the marks of a plot stand. Pure geometry in the units of the drawing; the templates make the SVG of it.

No colour, style or script: the stylesheet knows the classes. Beside every plot stands a table of the same numbers, for
whoever doesn't see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.core.clock import Instant, format_instant

WIDTH: Final = 640
HEIGHT: Final = 256
LEFT: Final = 100
RIGHT: Final = 16
TOP: Final = 36
BOTTOM: Final = 56
_DAYS: Final = 2 * 86400
"""From this span on, times are told as dates."""
_MINUTES: Final = 600
"""Below this one, with their seconds."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlot:
    """A line that holds its height until it rises or falls, as a count does."""

    path: str
    """The ``d`` of SVG's path: numbers and letters of ours alone."""
    last: tuple[float, float]
    """Where the line ends."""
    ceiling: float | None
    """The height of a limit; None where there is none, or it is far above everything."""
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    when: str
    """The name of the axis of time, with the days that its marks don't say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DotPlot:
    """A dot for each reading: where it stands."""

    dots: tuple[tuple[float, float], ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    when: str
    """The name of the axis of time, with the days that its marks don't say."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """The axes: times from ``begin`` to ``end``, and values from 0 to the first line at ``highest`` or above."""

    begin: Instant
    end: Instant
    highest: int

    def across(self, at: Instant) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (at - self.begin) / max(1, self.end - self.begin), 1)

    def up(self, value: int) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / self._lines[-1], 1)

    @property
    def _lines(self) -> range:
        step = nice_step(self.highest)
        return range(0, -(-self.highest // step) * step + 1, step)

    def times(self) -> tuple[Tick, ...]:
        span, told = self.end - self.begin, sorted({self.begin, (self.begin + self.end) // 2, self.end})
        return tuple(Tick(self.across(at), _moment(at, span)) for at in told)

    @property
    def when(self) -> str:
        first, last = format_instant(self.begin)[:10], format_instant(self.end)[:10]
        if self.end - self.begin >= _DAYS:
            return "day (UTC)"
        return f"time (UTC) on {first}" if first == last else f"time (UTC), {first} to {last}"

    def values(self, label: Callable[[int], str]) -> tuple[Tick, ...]:
        return tuple(Tick(self.up(value), label(value)) for value in self._lines)


def line_plot(
    series: Sequence[tuple[Instant, int]], *, until: Instant, label: Callable[[int], str], ceiling: int | None = None
) -> LinePlot | None:
    """Return the plot of what was read, oldest first and never below 0; None of nothing.

    :param until: where the line ends: what was read last holds until then.
    :param ceiling: a limit, drawn where it is at most twice as high as the highest reading.
    """
    if not series:
        return None
    drawn = ceiling if ceiling is not None and ceiling <= 2 * max(value for _at, value in series) else None
    times = [at for at, _value in series]
    frame = _Frame(min(times), max(until, *times), max(1, drawn or 0, *(value for _at, value in series)))
    # Clocks may have been set back: the line never runs backwards.
    path, reached = [f"M{frame.across(series[0][0])} {frame.up(series[0][1])}"], series[0][0]
    for at, value in series[1:]:
        reached = max(reached, at)
        path.append(f"H{frame.across(reached)}V{frame.up(value)}")
    path.append(f"H{frame.across(frame.end)}")
    return LinePlot(
        path="".join(path),
        last=(frame.across(frame.end), frame.up(series[-1][1])),
        ceiling=None if drawn is None else frame.up(drawn),
        across=frame.times(),
        up=frame.values(label),
        when=frame.when,
    )


def dot_plot(series: Sequence[tuple[Instant, int]], *, label: Callable[[int], str]) -> DotPlot | None:
    """Return the plot of single readings, never below 0; None of nothing."""
    if not series:
        return None
    times = [at for at, _value in series]
    frame = _Frame(min(times), max(times), max(1, *(value for _at, value in series)))
    return DotPlot(
        dots=tuple((frame.across(at), frame.up(value)) for at, value in series),
        across=frame.times(),
        up=frame.values(label),
        when=frame.when,
    )


def nice_step(highest: int) -> int:
    """Return how far lines up to ``highest`` stand apart: 1, 2 or 5 times a power of ten, so that four reach it."""
    power = 1
    while True:
        for one in (1, 2, 5):
            if highest <= 4 * one * power:
                return one * power
        power *= 10


def _moment(at: Instant, span: int) -> str:
    text = format_instant(at)
    if span >= _DAYS:
        return text[:10]
    return text[11:16] if span >= _MINUTES else text[11:19]
