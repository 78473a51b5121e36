"""Numbers of seconds on the command line."""

from __future__ import annotations

import math

import click


class Seconds(click.FloatRange):
    """A number of seconds within bounds. `nan` is none: it lies within any bounds, and no wait ends by it."""

    def convert(self, value: float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it; anything else is refused as click refuses it."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds
