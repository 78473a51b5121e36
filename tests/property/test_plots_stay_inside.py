"""Plots of whatever was read: every mark stands inside the drawing, and the line never runs back."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from strongroom.console.plots import HEIGHT, LEFT, RIGHT, TOP, WIDTH, dot_plot, line_plot, nice_step
from strongroom.core.canonical import MAX_INTEGER

INSTANTS = st.integers(0, 4_000_000_000)
SERIES = st.lists(st.tuples(INSTANTS, st.integers(0, MAX_INTEGER)), min_size=1, max_size=30)


@given(SERIES, INSTANTS, st.none() | st.integers(0, MAX_INTEGER))
def test_every_mark_is_inside(series: list[tuple[int, int]], until: int, ceiling: int | None) -> None:
    plot = line_plot(series, until=until, label=str, ceiling=ceiling)
    assert plot is not None
    assert re.fullmatch(r"M[0-9.]+ [0-9.]+(?:H[0-9.]+V[0-9.]+)*H[0-9.]+", plot.path)
    begin, *across = [float(text) for text in re.findall(r"[MH]([0-9.]+)", plot.path)]
    assert [begin, *across] == sorted([begin, *across])
    assert all(LEFT <= x <= WIDTH - RIGHT for x in (begin, *across, plot.last[0], *(one.at for one in plot.across)))
    heights = [float(text) for text in re.findall(r"(?:V|M[0-9.]+ )([0-9.]+)", plot.path)]
    marks = (*heights, plot.last[1], *(one.at for one in plot.up), *([] if plot.ceiling is None else [plot.ceiling]))
    assert all(TOP <= y <= HEIGHT for y in marks)
    # The highest line of the grid is no lower than anything that is drawn.
    assert min(one.at for one in plot.up) <= min(marks)


@given(st.integers(1, MAX_INTEGER))
def test_a_grid_has_few_lines_at_round_numbers(highest: int) -> None:
    step = nice_step(highest)
    assert re.fullmatch("[125]0*", str(step))
    assert highest <= 4 * step
    assert step == 1 or highest > step


@given(SERIES)
def test_every_dot_is_inside(series: list[tuple[int, int]]) -> None:
    plot = dot_plot(series, label=str)
    assert plot is not None
    assert len(plot.dots) == len(series)
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT for x, y in plot.dots)
    assert all(LEFT <= one.at <= WIDTH - RIGHT for one in plot.across)
    assert min(one.at for one in plot.up) <= min(y for _x, y in plot.dots)


def test_nothing_makes_no_plot() -> None:
    assert line_plot([], until=0, label=str) is None
    assert dot_plot([], label=str) is None


def test_a_limit_far_above_everything_does_not_flatten_the_line() -> None:
    near = line_plot([(0, 10)], until=5, label=str, ceiling=20)
    far = line_plot([(0, 10)], until=5, label=str, ceiling=21)
    assert near is not None
    assert far is not None
    assert (near.ceiling is None, far.ceiling is None) == (False, True)
