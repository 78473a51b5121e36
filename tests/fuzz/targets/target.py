"""A fuzz target: something that reads hostile bytes, and good bytes to begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from strongroom.core.errors import StrongroomError


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Reads any bytes: returns, or raises one of our errors. Anything else is a finding."""

    read: Callable[[bytes], object]
    seeds: Callable[[], Iterable[bytes]]
    """Good bytes, made when they are needed: keys are made for some."""
    changes: int = 400
    """How many changed seeds the default suite tries; fewer where each costs a signature or a chain."""
    longest: int = 64 * 1024
    """What coverage-guided fuzzing grows inputs to."""

    def __call__(self, data: bytes) -> None:
        """Read bytes; one of our errors is an answer."""
        try:
            self.read(data)
        except StrongroomError:
            return
