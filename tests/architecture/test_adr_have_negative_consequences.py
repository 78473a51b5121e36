"""Every decision says what it costs: a record without negative consequences was not thought through."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "adr"
RECORDS = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
HEADINGS = ("Context", "Decision", "Consequences")


def section(text: str, heading: str, level: str) -> str:
    """Return what stands under one heading, up to the next of the same or a higher level."""
    found = re.search(
        rf"^{level} {re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return found[1].strip() if found else ""


def test_there_are_records() -> None:
    assert len(RECORDS) > 1
    assert FOLDER / "template.md" in RECORDS


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_each_record_states_what_it_costs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for heading in HEADINGS:
        assert section(text, heading, "##"), f"no `## {heading}`"
    negative = section(section(text, "Consequences", "##"), "Negative", "###")
    assert re.search(r"^- \S.{20,}", negative, re.MULTILINE), "`### Negative` must list at least one real cost"


@pytest.mark.parametrize("path", [p for p in RECORDS if p.stem != "template"], ids=lambda path: path.stem)
def test_each_record_is_numbered_and_listed(path: Path) -> None:
    number = path.stem.partition("-")[0]
    assert re.fullmatch(r"\d{4}", number)
    assert path.read_text(encoding="utf-8").startswith(f"# {number}: ")
    assert f"({path.name})" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_numbers_are_not_reused() -> None:
    numbers = [path.stem[:4] for path in RECORDS if path.stem != "template"]
    assert len(numbers) == len(set(numbers))
