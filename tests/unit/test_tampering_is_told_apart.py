"""A clock that was set, and a file that went back: seen, and nothing else taken for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.keeper.pins import Pins
from strongroom.keeper.tamper import AHEAD_SECONDS, BACK_SECONDS, ClockWatch, TamperCause, TamperWatch, changed_to
from support.clocks import FixedClock

PINS = Pins(
    genesis=Digest.of(b"genesis"),
    log_size=9,
    log_root=Digest.of(b"root"),
    roster_epoch=2,
    policy_epoch=2,
    reference_values_epoch=2,
    latest=1_800_000_000,
)


class Machine:
    """A wall clock in whole seconds, and the time since boot."""

    def __init__(self) -> None:
        self.wall, self.boot = 1_800_000_000.25, 77.5
        self.clock = FixedClock(int(self.wall))
        self.watch = ClockWatch(self.clock, lambda: self.boot)

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.boot += seconds

    def look(self) -> TamperCause | None:
        self.clock.at = int(self.wall)
        return self.watch.look()


@given(st.lists(st.floats(min_value=0, max_value=10 * 86_400), max_size=40))
def test_time_that_passes_is_no_sign_however_long_the_machine_slept(steps: list[float]) -> None:
    machine = Machine()
    for step in steps:
        machine.pass_(step)
        assert machine.look() is None


@given(st.floats(min_value=-0.9, max_value=50), st.floats(min_value=0, max_value=1e6))
def test_a_leap_second_or_a_small_step_of_a_time_service_is_no_sign(step: float, later: float) -> None:
    machine = Machine()
    machine.wall += step
    assert machine.look() is None
    machine.pass_(later)
    assert machine.look() is None


@given(st.floats(min_value=BACK_SECONDS + 1, max_value=1e8))
def test_a_clock_put_back_is_seen(step: float) -> None:
    machine = Machine()
    machine.wall -= step
    assert machine.look() is TamperCause.CLOCK_BACK


@given(st.floats(min_value=AHEAD_SECONDS + 1, max_value=1e8))
def test_a_clock_put_forward_is_seen(step: float) -> None:
    machine = Machine()
    machine.wall += step
    assert machine.look() is TamperCause.CLOCK_AHEAD


def test_many_small_steps_add_up() -> None:
    machine = Machine()
    seen = []
    for _ in range(10):
        machine.pass_(1)
        machine.wall -= 0.5
        seen.append(machine.look())
    assert TamperCause.CLOCK_BACK in seen


@pytest.mark.parametrize("name", ["log_size", "roster_epoch", "policy_epoch", "reference_values_epoch", "latest"])
def test_older_pins_are_told_from_other_changes(name: str) -> None:
    older = replace(PINS, **{name: getattr(PINS, name) - 1})
    assert changed_to("pins.json", PINS.to_bytes(), older.to_bytes()) is TamperCause.ROLLED_BACK
    assert changed_to("pins.json", older.to_bytes(), PINS.to_bytes()) is TamperCause.FILE_CHANGED


@given(st.sampled_from(["pins.json", "keyring.json", "genesis.digest"]), st.binary(max_size=64) | st.none())
def test_whatever_stands_in_a_file_now_has_a_cause(name: str, now: bytes | None) -> None:
    assert changed_to(name, PINS.to_bytes(), now) is TamperCause.FILE_CHANGED


class Shows:
    """A sign that shows, or fails."""

    def __init__(self, outcome: TamperCause | Exception | None) -> None:
        self.outcome = outcome

    def look(self) -> TamperCause | None:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("error", [PermissionError(), MalformedError("x"), ValueError()])
def test_a_sign_that_cannot_be_looked_at_is_one(error: Exception) -> None:
    assert TamperWatch(Shows(None), Shows(error)).look() is TamperCause.BLIND


def test_the_first_sign_is_told() -> None:
    assert TamperWatch(Shows(None), Shows(None)).look() is None
    watch = TamperWatch(Shows(None), Shows(TamperCause.DEBUGGER), Shows(TamperCause.FILE_CHANGED))
    assert watch.look() is TamperCause.DEBUGGER
