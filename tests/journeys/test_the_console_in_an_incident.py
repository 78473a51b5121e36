"""A drill, and a stopped model that people let go again, from the first page to the last, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browsers import missing
from support.console_browser import (
    console_browser,
    cut_on_paper,
    find,
    left_unsaid,
    look,
    on_paper,
    shuts_out,
    sign_in,
    stops,
    wait_for_title,
)
from support.console_incidents import FakeDesk, Watched, watched
from support.deployment import MODEL
from support.responses import Record, alert

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]
HOSTILE = "<img src=x onerror=document.title='owned'>"
TABLE = "/drills/tabletop/insider?pace=10&began=2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("console")) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(lab: Watched, downloads: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with console_browser(lab.live, tmp_path_factory.mktemp("profile")) as started:
        told = {"behavior": "allow", "downloadPath": str(downloads)}
        started.execute_cdp_cmd("Browser.setDownloadBehavior", told)
        yield started


@pytest.fixture(scope="module")
def drill(lab: Watched, driver: Any) -> str:
    """Hold a drill in the browser; returns its incident's id."""
    sign_in(driver, lab.live, "dana")
    driver.get(f"{lab.live.origin}/drills")
    find(driver, "button[aria-label='Practise key-compromise']").click()
    wait_for_title(driver, "Sign the drill")
    assert "model:shadow-model" in driver.page_source
    find(driver, "form[data-sign] button").click()
    wait_for_title(driver, "Drills")
    if "The drill runs" not in driver.page_source:
        reload_until(driver, driver.current_url, "The drill runs")
    find(driver, ".banner a").click()
    until(driver, 'id="timeline"')
    return str(driver.current_url.rpartition("/")[2])


def until(driver: Any, said: str) -> None:
    """Wait until a page says something."""
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    WebDriverWait(driver, 30).until(lambda one: said in one.page_source, said)


def reload_until(driver: Any, address: str, said: str) -> None:
    """Load a page until it says something."""
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    def there(one: Any) -> bool:
        one.get(address)
        return said in one.page_source

    WebDriverWait(driver, 40, poll_frequency=1).until(there, said)


def sign(driver: Any) -> None:
    """Touch the key on the page that shows what is signed; the incident's page follows."""
    wait_for_title(driver, "Sign what you do")
    find(driver, "form[data-sign] button").click()
    until(driver, 'id="timeline"')


def test_a_drill_is_taken_noted_and_answered(lab: Watched, driver: Any, drill: str) -> None:
    sign_in(driver, lab.live, "dana")
    find(driver, "a[href='/drills']")
    driver.get(f"{lab.live.origin}/incidents")
    find(driver, f"tbody a[href='/incidents/{drill}']").click()
    find(driver, "a[href$='/do/take']").click()
    find(driver, "main form [type=submit]").click()
    sign(driver)
    assert "role taken" in driver.page_source
    find(driver, "a[href$='/do/note']").click()
    find(driver, "textarea").send_keys(f"two lines\n{HOSTILE}")
    find(driver, "main form [type=submit]").click()
    sign(driver)
    find(driver, "#timeline ~ div a[href*='/words/']").click()
    wait_for_title(driver, "What was written")
    assert not driver.title.startswith("owned")
    assert "two lines\n&lt;img" in driver.page_source
    driver.get(f"{lab.live.origin}/incidents/{drill}")
    find(driver, "a[href*='/do/resolve-step']").click()
    find(driver, "main form [type=submit]").click()
    sign(driver)
    assert 'class="tag good">done' in driver.page_source
    driver.get(f"{lab.live.origin}/drills")
    assert driver.execute_script("return document.querySelectorAll('svg circle').length") >= 2


def test_a_record_is_downloaded(lab: Watched, driver: Any, drill: str, downloads: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    sign_in(driver, lab.live, "sam")
    driver.get(f"{lab.live.origin}/incidents/{drill}")
    driver.execute_script("document.querySelector(\"a[href$='/export/stix']\").click()")
    wanted = downloads / f"{drill}.stix.json"
    WebDriverWait(driver, 20).until(lambda _one: wanted.exists(), "the export")
    assert '"spec_version": "2.1"' in wanted.read_text()


def test_a_playbook_is_read_out_at_a_table(lab: Watched, driver: Any) -> None:
    sign_in(driver, lab.live, "sam")
    driver.get(f"{lab.live.origin}/drills")
    find(driver, "a[href='/drills/tabletop/insider']").click()
    wait_for_title(driver, "insider at a table")
    find(driver, "main form [type=submit]").click()
    until(driver, "The next card comes")
    assert len(driver.find_elements("css selector", "[id^='card-']")) == 1


def test_exposure_is_entered_and_a_model_frozen_from_an_incident_and_resumed_by_two(lab: Watched, driver: Any) -> None:
    lab.responder.stop()
    try:
        with FakeDesk(lab.desk).listening() as desk:
            name = desk.show(Record.of(alert(f"model:{MODEL}")))
            page = f"{lab.live.origin}/incidents/{name}"
            sign_in(driver, lab.live, "dana")
            driver.get(page)
            find(driver, "a[href$='/do/expose']").click()
            find(driver, "main form [type=submit]").click()
            wait_for_title(driver, "Sign what you do")
            assert f"what the log says of {MODEL}" in driver.page_source
            for scheme, width in (("dark", 400), ("light", 1280)):
                look(driver, scheme=scheme, width=width)
                assert shuts_out(driver) == []
            sign(driver)
            assert len(desk.acts) == 1
            find(driver, ".head a.danger").click()
            wait_for_title(driver, "New request")
            assert driver.execute_script("return document.getElementById('ticket').value") == name
            assert driver.execute_script("return document.getElementById('purpose').value") == "incident-response"
            find(driver, "form[action='/requests/new'] button").click()
            wait_for_title(driver, "Sign the request")
            find(driver, "form[data-sign] button").click()
            until(driver, "Frozen:")
            driver.get(page)
            find(driver, ".head a.button").click()
            find(driver, "form[action='/requests/new'] button").click()
            wait_for_title(driver, "Sign the request")
            find(driver, "form[data-sign] button").click()
            wait_for_title(driver, "resume")
            request = driver.current_url
            for one in ("sam", "rina"):
                sign_in(driver, lab.live, one)
                driver.get(request)
                find(driver, "form[action$='/approve'] button").click()
                until(driver, "You can't approve it: you approved it")
            sign_in(driver, lab.live, "dana")
            driver.get(request)
            find(driver, "form[action$='/carry-out'] button").click()
            reload_until(driver, page, f"Freeze {MODEL}")
            assert "Frozen:" not in driver.page_source
    finally:
        lab.start()


def test_without_script_incidents_are_read_and_drafts_are_made(lab: Watched, driver: Any, drill: str) -> None:
    sign_in(driver, lab.live, "dana")
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        for path in ("/incidents", f"/incidents/{drill}", "/drills"):
            driver.get(lab.live.origin + path)
            assert "<h1" in driver.page_source
        driver.get(f"{lab.live.origin}/incidents/{drill}/do/move")
        find(driver, "main form [type=submit]").click()
        wait_for_title(driver, "Sign what you do")
        assert "Signing here takes this page's script" in driver.page_source
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.mark.parametrize(("scheme", "width"), [("dark", 400), ("light", 1280)])
def test_no_page_of_incidents_shuts_anybody_out(lab: Watched, driver: Any, drill: str, scheme: str, width: int) -> None:
    sign_in(driver, lab.live, "dana")
    look(driver, scheme=scheme, width=width)
    driver.get_log("browser")
    found = {}
    place = f"/incidents/{drill}"
    driver.get(f"{lab.live.origin}/drills")
    find(driver, "button[aria-label='Practise insider']").click()
    wait_for_title(driver, "Sign the drill")
    draft = str(driver.current_url).removeprefix(lab.live.origin)
    for path in ("/today", "/incidents", place, f"{place}/do/note", f"{place}/do/take", "/drills", TABLE, draft):
        driver.get(lab.live.origin + path)
        found[path] = [*shuts_out(driver), *left_unsaid(driver)]
    assert {path: what for path, what in found.items() if what} == {}
    assert [one["message"] for one in driver.get_log("browser") if one["level"] in {"SEVERE", "WARNING"}] == []


def test_a_printed_incident_is_whole(lab: Watched, driver: Any, drill: str) -> None:
    sign_in(driver, lab.live, "dana")
    with on_paper(driver):
        for path in (f"/incidents/{drill}", "/drills"):
            driver.get(lab.live.origin + path)
            assert cut_on_paper(driver) == [], path


def test_the_keyboard_goes_down_an_incident_and_is_seen(lab: Watched, driver: Any, drill: str) -> None:
    sign_in(driver, lab.live, "dana")
    look(driver, scheme="light", width=400)
    driver.get(f"{lab.live.origin}/incidents/{drill}")
    found = stops(driver, 80)
    assert len(found) > 20
    assert [stop for stop in found if stop[1]] == []
