"""Exposure of a model with more entries than a visit reads, in a real browser: what is told so far, and then all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from strongroom.access.request import Action
from strongroom.audit.protocol import MAX_PROVEN
from strongroom.console.exposures import CALLS
from support.browsers import missing
from support.console_browser import console_browser, look, shuts_out, sign_in
from support.consoles import RunningConsole, console

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]
OTHER = "other"
ENTRIES = CALLS * MAX_PROVEN + 40
"""More than one visit reads."""
SECONDS = 60


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    with console(tmp_path_factory.mktemp("console"), keeper_module="simulators.unhurried_keeper") as running:
        for _ in range(ENTRIES):
            running.occupied.ask(Action.ROTATE, model=OTHER)
        yield running


@pytest.fixture(scope="module")
def driver(live: RunningConsole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with console_browser(live, tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_what_is_read_so_far_is_said_to_be_that_and_then_all_is_there(live: RunningConsole, driver: Any) -> None:
    sign_in(driver, live, "dana")
    # Browsers ask for an icon once, which there is none of.
    driver.get_log("browser")
    look(driver, scheme="dark", width=400)
    address = f"{live.origin}/audit/exposure?model={OTHER}"
    driver.get(address)
    assert f"So far: {CALLS * MAX_PROVEN} of" in driver.page_source
    assert "not the answer yet" in driver.page_source
    assert "So far, " in driver.page_source
    assert shuts_out(driver) == []
    until = time.monotonic() + SECONDS
    while "So far" in driver.page_source:
        assert time.monotonic() < until
        time.sleep(0.2)
        driver.get(address)
    assert "could have had its bytes" in driver.page_source
    answer = live.inside().get(f"/audit/exposure.json?model={OTHER}").json["answer"]
    assert (answer["whole"], answer["read"]) == (True, answer["named"])
    assert answer["read"] > ENTRIES
    assert [one for one in driver.get_log("browser") if one["level"] in {"SEVERE", "WARNING"}] == []
