"""A person reads the report of an assessment in a real browser: wide or narrow, light or dark, or on paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from strongroom.assurance.reports.html import as_html
from strongroom.framework.catalogue import load
from support.browsers import browser, missing
from support.console_browser import look
from support.reported import assessment

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]
SCRIPT_SECONDS = 120
"""A long page on a busy machine; nothing is asserted of it."""
AXE = (
    # One of the folded tables stands for the others, which are made alike.
    "const done = arguments[0]; document.querySelector('details:last-of-type').open = true;"
    "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}).then(done)"
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("report")
    file = folder / "assessment.html"
    file.write_bytes(as_html(assessment(), load())["assessment.html"])
    with browser(folder / "profile") as started:
        started.set_script_timeout(SCRIPT_SECONDS)
        started.get(file.as_uri())
        yield started


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("dark", 400),
        pytest.param("light", 1280, marks=pytest.mark.heavy),
        pytest.param("light", 400, marks=pytest.mark.heavy),
        pytest.param("dark", 1280, marks=pytest.mark.heavy),
    ],
)
def test_the_report_shuts_nobody_out(driver: Any, scheme: str, width: int) -> None:
    look(driver, scheme=scheme, width=width)
    driver.execute_script(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    told = driver.execute_async_script(AXE)
    assert told["passes"]
    found = [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in told["violations"]]
    assert found == []
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert driver.execute_script(wide) == 0


def test_nothing_runs_and_nothing_is_fetched(driver: Any) -> None:
    driver.refresh()
    assert driver.execute_script("return document.scripts.length") == 0
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert driver.get_log("browser") == [], "the page's own policy lets its style in, and complains of nothing"


def test_it_prints(driver: Any, tmp_path: Path) -> None:
    made = base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"])
    (tmp_path / "assessment.pdf").write_bytes(made)
    assert made.startswith(b"%PDF-")
    boxes = re.findall(rb"/MediaBox \[0 0 ([0-9]+)[0-9.]* ([0-9]+)", made)
    assert 20 < len(boxes) < 80, "tables are tables on paper: a telephone's layout would take twice as many pages"
    assert any(int(across) > int(down) for across, down in boxes), "the map lies across"
