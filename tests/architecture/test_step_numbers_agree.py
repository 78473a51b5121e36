"""The numbered steps of a release are the same in the code, in its docstring, in the specification and in the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strongroom import keeper
from strongroom.release import steps
from strongroom.release.steps import Step

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "docs" / "spec" / "release-protocol.md"
NUMBERS = {step.number: step.title for step in Step}
# Step 4 is what its parts are; it has no check of its own.
GROUP = "4"


def test_the_numbers_rise_and_none_is_used_twice() -> None:
    ordered = [step.number for step in Step]
    assert ordered == sorted(set(ordered), key=lambda number: [int(part) for part in number.split(".")])
    assert len(set(NUMBERS.values())) == len(NUMBERS)


def test_the_docstring_has_each_number_once() -> None:
    found = re.findall(r"^(\d(?:\.\d)?) ", steps.__doc__ or "", re.MULTILINE)
    assert sorted(found) == sorted([*NUMBERS, GROUP])


def test_the_specification_has_each_number_and_title_once() -> None:
    if not SPEC.exists():
        pytest.skip("the specification isn't part of this checkout")
    text = SPEC.read_text(encoding="utf-8")
    found = re.findall(r"^\*\*(\d) ([a-z ]+)\*\*", text, re.MULTILINE)
    found += re.findall(r"^\| (\d\.\d) ([a-z ]+) \|", text, re.MULTILINE)
    assert sorted(found) == sorted([*NUMBERS.items(), (GROUP, "verify")])


def test_every_test_that_names_a_step_names_one_that_exists_and_the_keeper_s_steps_are_all_tested() -> None:
    named: set[str] = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for number in re.findall(r"def test_step_(\d(?:_\d)?)_", path.read_text(encoding="utf-8")):
            named.add(number.replace("_", "."))
    assert named <= set(NUMBERS), named - set(NUMBERS)
    # Steps 1 to 3 are the clients' and the enclave's own; each later one refuses something, and a test shows it.
    assert set(NUMBERS) - {"1", "2", "3"} <= named


def test_the_keeper_says_which_steps_are_its_own() -> None:
    assert "4 verify" in (keeper.__doc__ or "")
    assert "5 append" in (keeper.__doc__ or "")
    assert "6 unwrap" in (keeper.__doc__ or "")
