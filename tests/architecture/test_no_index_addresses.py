"""Where packages come from is the choice of whoever installs: no tracked file names an index or a place of one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
# Put together here so that this file doesn't contain what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        (
            "--" + r"(extra-)?index-url\b",
            "--" + r"find-links\b",
            r"(^|[^\w-])" + "(index-url|extra-index-url|find-links)" + r"\s*=",
            "(pypi" + r"|pythonhosted|testpypi)\.(org|io)",
            "download" + r"\.pytorch\.org",
            "registry" + r"\.npmjs\.org",
        )
    )
)


def tracked() -> list[Path]:
    ran = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        pytest.skip("not a git checkout, so there is no list of tracked files")
    return [CHECKOUT / name for name in ran.stdout.split("\0") if name]


def test_no_tracked_file_names_a_package_index() -> None:
    found = []
    for path in tracked():
        if not path.is_file() or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if FORBIDDEN.search(line):
                found.append(f"{path.relative_to(CHECKOUT)}:{number}")
    assert found == []


@pytest.mark.parametrize(
    "line", ["pip install --" + "index-url x", "index-url" + " = x", "https://py" + "pi.org/simple"]
)
def test_the_search_finds_what_it_looks_for(line: str) -> None:
    assert FORBIDDEN.search(line)
