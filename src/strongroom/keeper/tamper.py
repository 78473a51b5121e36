"""Serves SL2-WST-02: signs that somebody reaches into the running keeper. It locks itself on the first of them.

Looked at every second. They are tripwires and no walls: whoever is root and careful trips none of them, and may have
read what it wanted before one trips. What each one stops, and what it doesn't, is in docs/internals/keeper-walls.md.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from strongroom.core.clock import Clock
from strongroom.core.errors import StrongroomError
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.pins import Pins, pins_go_back

BACK_SECONDS: Final = 2.0
"""How far the clock may be put back, in all, while the keeper runs: a leap second, and the clock's own rounding."""
AHEAD_SECONDS: Final = 60.0
"""How far it may be put forward, in all."""


class TamperCause(StrEnum):
    """What was seen. Recorded with `keeper:process:locked`."""

    CLOCK_BACK = "clock-put-back"
    CLOCK_AHEAD = "clock-put-forward"
    FILE_CHANGED = "file-changed"
    FILE_EXPOSED = "file-exposed"
    FOLDER_REPLACED = "folder-replaced"
    ROLLED_BACK = "rolled-back"
    DEBUGGER = "debugger-attached"
    BLIND = "tamper-watch-failed"


class ClockWatch:
    """Compares the wall clock with the machine's time since boot, which nobody can set.

    Both run at the rate that a time service steers, so slewing moves neither against the other, and both count the time
    that the machine was suspended. Only a clock that was *set* shows a difference. Differences are summed up from the
    start on: many small steps don't go unseen.
    """

    def __init__(self, clock: Clock, uptime: Callable[[], float]) -> None:
        """``uptime``: seconds since boot, suspended ones included (CLOCK_BOOTTIME)."""
        self._clock = clock
        self._uptime = uptime
        self._lead = clock.now() - uptime()

    def look(self) -> TamperCause | None:
        """Return which way the clock was set, if it was."""
        moved = self._clock.now() - self._uptime() - self._lead
        if moved < -BACK_SECONDS:
            return TamperCause.CLOCK_BACK
        return TamperCause.CLOCK_AHEAD if moved > AHEAD_SECONDS else None


class Sign(Protocol):
    """One thing that is looked at every second."""

    def look(self) -> TamperCause | None:
        """Return what was seen, or None. Called from a thread."""
        ...


class TamperWatch:
    """All signs together."""

    def __init__(self, *signs: Sign) -> None:
        self._signs = signs

    def look(self) -> TamperCause | None:
        """Return the first sign that shows something. A sign that can't be looked at shows something."""
        for sign in self._signs:
            try:
                seen = sign.look()
            except (OSError, StrongroomError, ValueError):
                return TamperCause.BLIND
            if seen is not None:
                return seen
        return None


def changed_to(name: str, before: bytes | None, now: bytes | None) -> TamperCause:
    """Say what somebody else's change of the keeper's file ``name`` was; of pins and keyring, whether it goes back."""
    try:
        if before is not None and now is not None and _is_older(name, before, now):
            return TamperCause.ROLLED_BACK
    except StrongroomError:
        return TamperCause.FILE_CHANGED
    return TamperCause.FILE_CHANGED


def _is_older(name: str, before: bytes, now: bytes) -> bool:
    if name == "pins.json":
        return pins_go_back(Pins.parse(before), Pins.parse(now))
    if name == "keyring.json":
        return _reached(Keyring.parse(now)) < _reached(Keyring.parse(before))
    return False


def _reached(keyring: Keyring) -> tuple[int, int]:
    return keyring.generation, max((held.epoch for held in keyring.epochs), default=0)
