"""Each link between pages leads to a file and a heading that are there, and each page can be come to."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as links spell them."""
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found) for found in _HEADING.findall(page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


def links(page: Path) -> set[tuple[Path, str]]:
    """Return what a page links to here: the file, and the heading in it or nothing."""
    found = (target.partition("#") for target in _LINK.findall(page.read_text("utf-8")) if ":" not in target)
    return {((page.parent / file).resolve() if file else page, anchor) for file, _hash, anchor in found}


def test_each_link_leads_to_a_file_and_a_heading() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {file.relative_to(ROOT)}#{anchor}"
        for page in PAGES
        for file, anchor in sorted(links(page))
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert broken == []


def test_the_index_names_each_page_by_its_title() -> None:
    index = (DOCS / "README.md").read_text("utf-8")
    pages = [page for page in PAGES if page.is_relative_to(DOCS) and "adr" not in page.parts]
    for page in pages:
        title = page.read_text("utf-8").splitlines()[0].removeprefix("# ")
        if page.name != "README.md":
            assert f"- [{title}]({page.relative_to(DOCS)})\n" in index
