"""The single-file verifier is a second implementation: it imports nothing of ours, nor what a stranger lacks."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import strongroom.audit

PLACE = Path(strongroom.audit.__file__).with_name("standalone_verifier.py")
READABLE = 740
"""Lines that somebody reads before they run them."""


def imported(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import isn't there once the file is copied away"
            found.add(str(node.module).partition(".")[0])
    return found


def test_imports_are_the_standard_library_and_cryptography() -> None:
    names = imported(ast.parse(PLACE.read_text()))
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


def test_nothing_is_imported_by_a_name_made_at_run_time() -> None:
    source = PLACE.read_text()
    for word in ("__import__", "importlib", "exec(", "eval(", "runpy", "urllib", "socket", "subprocess"):
        assert word not in source


def test_it_stays_short_enough_to_be_read() -> None:
    lines = PLACE.read_text().splitlines()
    assert len(lines) <= READABLE
    assert max(map(len, lines)) <= 120


def test_nothing_of_ours_imports_it() -> None:
    root = PLACE.parents[1]
    users = [path for path in root.rglob("*.py") if "audit.standalone_verifier" in path.read_text()]
    assert users == []
