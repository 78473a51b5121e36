"""What stands around the console's pages, whatever the deployment is like: its state, and where one is."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from strongroom.console.plots import dot_plot, line_plot
from strongroom.console.rendering import Renderer
from strongroom.console.visits import Page
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant

NOW = 1_790_000_000
STYLE = files("strongroom.console").joinpath("static", "console.css").read_text()
AROUND: dict[str, Json] = {
    "person": "dana", "until": format_instant(NOW + 3600), "deployment": "test", "genesis": "sha256:" + "ab" * 32,
    "log_size": 7, "locked": False, "cause": "", "frozen": [], "waiting": 0, "destructions": 0, "holds": [],
}  # fmt: skip
TABLE: dict[str, Json] = {
    "playbook": "insider", "pace": 10, "most_pace": 60, "began": None, "cards": [], "count": 4, "next": None,
}  # fmt: skip


def page(**around: Json) -> str:
    """Return a page with what stands around it."""
    told = Page("tabletop.html", "insider at a table", TABLE)
    return Renderer().page(told, chrome=AROUND | around, secret=b"s", now=NOW)


@pytest.mark.parametrize(
    ("state", "said", "next_step"),
    [
        ({"locked": True, "cause": "a restart"}, "The keeper is locked.", "strongroom custodian unlock"),
        ({"frozen": ["minilm"]}, "Frozen:", 'href="/models/minilm"'),
        ({"destructions": 1}, "model waits", "strongroom status"),
        ({"holds": [None]}, "On hold:", "the whole deployment"),
        ({"waiting": 2}, "changes of the rules wait", 'href="/today"'),
    ],
)
def test_each_state_is_a_banner_that_leads_on(state: dict[str, Json], said: str, next_step: str) -> None:
    (banner,) = re.findall(r'<p class="banner[^"]*".*?</p>', page(**state), re.DOTALL)
    assert said in banner
    assert next_step in banner
    assert said not in page()


def test_a_page_says_where_one_is_and_as_of_when() -> None:
    told = page()
    assert '<a href="/incidents" aria-current="true">' in told
    assert told.count("aria-current") == 1
    assert f'as of <time class="span" datetime="{format_instant(NOW)}">' in told
    assert 'data-copy="sha256:' + "ab" * 32 in told


def test_nothing_moves_by_itself() -> None:
    assert not re.search(r"animation|transition|scroll-behavior|@keyframes", STYLE)


def test_the_style_and_the_script_stay_small() -> None:
    script = files("strongroom.console").joinpath("static", "console.js").read_bytes()
    assert (len(STYLE.encode()) < 12_000, len(script) < 4_096) == (True, True)


@pytest.mark.parametrize(
    ("seconds", "name"),
    [
        (60, "time (UTC) on 2026-09-21"),
        (86_400, "time (UTC), 2026-09-21 to 2026-09-22"),
        (9 * 86_400, "day (UTC)"),
    ],
)
def test_the_axis_of_time_says_the_days_that_its_marks_leave_out(seconds: int, name: str) -> None:
    plots = (
        line_plot([(NOW, 1)], until=NOW + seconds, label=str),
        dot_plot([(NOW, 1), (NOW + seconds, 2)], label=str),
    )
    assert [one.when for one in plots if one is not None] == [name, name]
