"""Whatever bytes reach a parser of hostile ones: it returns, or raises one of our errors.

The default run changes good bytes in ways that are the same each time. The heavy one lets coverage guide the changes,
each target for a while in a process of its own, so that what takes a process down is a finding too.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest

from fuzz.targets.found import found
from fuzz.targets.targets import TARGETS
from strongroom.core.errors import StrongroomError
from support.hostile import changed

RUN: Final = Path(__file__).parent / "targets" / "run.py"
SECONDS: Final = 15
START_SECONDS: Final = 120
SHOWN: Final = 4096
# A changed certificate can make the library warn of it before it is refused.
pytestmark = [
    pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize("name", TARGETS)
def test_changed_bytes_are_answered(name: str) -> None:
    target = TARGETS[name]
    seeds = tuple(target.seeds())
    answered = 0
    for seed in seeds:
        try:
            target.read(seed)
        except StrongroomError:
            continue
        answered += 1
    assert answered, "no seed is read: the target would fuzz nothing"
    for data in (b"", b"\0", b"{}", b"[]", *changed(seeds, target.changes, seed=1)):
        try:
            target(data)
        except BaseException as error:  # Rust's panics aren't exceptions of the ordinary kind
            raise AssertionError(f"`{name}` breaks on {data[:SHOWN].hex()}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_says_what_is_instrumented(name: str) -> None:
    assert set(TARGETS[name].packages) - {"strongroom.core"}
    assert all(find_spec(package) for package in TARGETS[name].packages)


def test_what_was_found_once_stays_answered() -> None:
    for name, inputs in found().items():
        for data in inputs:
            with suppress(StrongroomError):
                TARGETS[name].read(data)


@pytest.mark.heavy
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris isn't installed: `make test-all` does that")
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_by_following_coverage(name: str, tmp_path: Path) -> None:
    told = [sys.executable, str(RUN), name, "--seconds", str(SECONDS), "--corpus", str(tmp_path / "corpus")]
    ran = subprocess.run(
        [*told, "--findings", str(tmp_path / "findings")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS + START_SECONDS,
        check=False,
    )
    found = {path.name: path.read_bytes()[:SHOWN].hex() for path in (tmp_path / "findings").glob("*")}
    assert not found, f"{name}: {found}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    assert ran.returncode == 0, f"{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    assert "stat::number_of_executed_units" in ran.stderr, "nothing was fuzzed"
