"""Each trap of docs/internals/access-traps.md names tests that exist, or says why there is nothing to test."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
PAGE = ROOT / "docs" / "internals" / "access-traps.md"
TRAPS = 25
ELSEWHERE = "Not in this code base: "
ABSENT: dict[int, str] = {}
"""What isn't in this code base, by the number of its trap: once it is, the row is no longer true."""


def rows() -> dict[int, list[str]]:
    """Return each row's cells by its number."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if len(cells) == 4 and cells[0].strip("| ").isdigit():
            found[int(cells[0].strip("| "))] = cells[1:]
    return found


def named(text: str) -> list[tuple[str, str]]:
    """Return the tests that a text names."""
    return re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", text)


def test_every_trap_has_a_row() -> None:
    assert sorted(rows()) == list(range(1, TRAPS + 1))


def test_every_named_test_exists() -> None:
    tests = named(PAGE.read_text(encoding="utf-8"))
    assert len(tests) > TRAPS
    for file, name in tests:
        path = TESTS / file
        assert path.is_file(), file
        assert re.search(rf"^(?:async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), (file, name)


def test_a_row_names_a_test_or_says_why_there_is_none() -> None:
    for number, (trap, prevention, tests) in rows().items():
        assert trap
        assert prevention
        if tests == "none":
            assert prevention.startswith(ELSEWHERE), number
        else:
            # Nothing but names of tests stands in the last cell, so that none is misspelt and overlooked.
            assert len(named(tests)) == len(tests.split()), number


def test_what_is_said_not_to_be_here_is_not() -> None:
    assert sorted(ABSENT) == [number for number, cells in rows().items() if cells[1].startswith(ELSEWHERE)]
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))]
    wanted = (ROOT / "requirements" / "runtime.in").read_text(encoding="utf-8")
    for number, pattern in ABSENT.items():
        imported = rf"^\s*(?:import|from) [\w.]*(?:{pattern})"
        assert not any(re.search(imported, text, re.IGNORECASE | re.MULTILINE) for text in sources), number
        assert not re.search(pattern, wanted, re.IGNORECASE), number
