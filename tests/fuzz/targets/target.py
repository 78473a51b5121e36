"""A fuzz target: something that reads hostile bytes, and good bytes to begin with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import StrongroomError

OURS: Final = "strongroom"


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

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages of ours whose branches guide the fuzzing: those that the target's own module reads with."""
        # A partial is of the function that it calls.
        home = getattr(self.read, "func", self.read).__module__
        named = {home}
        if not home.startswith(f"{OURS}."):
            named = {str(getattr(one, "__module__", "")) for one in vars(sys.modules[home]).values()}
        found = {".".join(name.split(".")[:2]) for name in named if name.startswith(f"{OURS}.")}
        return tuple(sorted(found | {f"{OURS}.core"}))

    def __call__(self, data: bytes) -> None:
        """Read bytes; one of our errors is an answer."""
        try:
            self.read(data)
        except StrongroomError:
            return
