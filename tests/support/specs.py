"""A specification whose numbered sentences each say MUST, and are each kept by tests that exist."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
KeptBy = Mapping[int, Sequence[tuple[str, str]]]
"""The number of a MUST -> (file below tests, name of a test) that keep it."""


def numbered(spec: Path, prefix: str) -> dict[int, str]:
    """Return the numbered lines, e.g. those that begin with ``**SW-1** ``."""
    lines = spec.read_text(encoding="utf-8").splitlines()
    found = [(int(match[1]), line) for line in lines if (match := re.match(rf"\*\*{prefix}-(\d+)\*\* ", line))]
    assert found
    assert [number for number, _line in found] == list(range(1, len(found) + 1)), "numbers rise by one"
    return dict(found)


def check_musts(spec: Path, prefix: str) -> None:
    """Check that each MUST has a number, each number a MUST, and that the page says how many there are."""
    text = spec.read_text(encoding="utf-8")
    found = numbered(spec, prefix)
    assert all("MUST" in line for line in found.values())
    musts = [line for line in text.partition("## An example")[2].splitlines() if "MUST" in line]
    assert len(musts) == len(found)
    assert f"{prefix}-1 to {prefix}-{len(found)}" in text


def check_kept(spec: Path, prefix: str, kept_by: KeptBy) -> None:
    """Check that each number is kept by tests that exist."""
    assert sorted(kept_by) == sorted(numbered(spec, prefix))
    for number, tests in kept_by.items():
        assert tests, number
        for file, name in tests:
            assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), (number, file, name)
