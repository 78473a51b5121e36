"""People decide in a real browser with security keys, and the page lets nothing else in."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.events import EventName
from strongroom.intake.formats.identify import Format
from strongroom.intake.states import State
from strongroom.keys.recipient import RecipientKey
from strongroom.release.precautions import PrecautionKind
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
from support.console_metered import meter
from support.console_shelves import Delivered, assessment_of, give_roles, keep, record
from support.consoles import RunningConsole, console
from support.deployment import MODEL
from support.precautions import take

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]
PATHS = ("/today", "/requests", "/requests/new", "/models", f"/models/{MODEL}", "/people", "/attestation", "/audit",
         "/audit/1", "/assurance", "/assurance/gaps", "/assurance/measures/weight-security", "/assurance/attacks",
         "/assurance/attested", "/intake", f"/audit?model={MODEL}&event=access",
         f"/audit/exposure?model={MODEL}")  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningConsole]:
    folder = tmp_path_factory.mktemp("console")
    with console(folder) as running:
        if SoftwareTPM.available():
            meter(running.occupied, folder / "tpm", (300, 1000))
        give_roles(running.occupied, sam="assessor intake-reviewer")
        made = assessment_of(running.occupied)
        keep(running, made)
        record(running, made, "sam")
        yield running


@pytest.fixture(scope="module")
def things(live: RunningConsole) -> tuple[str, ...]:
    """Return the addresses of a request and of a delivery, made once: the lab's connections don't wait for browsers."""
    request = live.occupied.ask(Action.ROTATE)
    # Whatever was taken away stands on these pages too.
    take(live.occupied, PrecautionKind.APPROVER, "dana", seconds=86400)
    take(live.occupied, PrecautionKind.SAMPLING, MODEL, seconds=86400)
    take(live.occupied, PrecautionKind.HOLD, None, seconds=None)
    return f"/requests/{request.digest.value.hex()}", f"/intake/{delivered(live).id}"


@pytest.fixture(scope="module")
def driver(live: RunningConsole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with console_browser(live, tmp_path_factory.mktemp("profile")) as started:
        yield started


def _complaints(driver: Any) -> list[str]:
    return [str(one["message"]) for one in driver.get_log("browser") if one["level"] in {"SEVERE", "WARNING"}]


def test_two_people_approve_by_key_what_was_asked_for_by_key(live: RunningConsole, driver: Any) -> None:
    request = live.occupied.ask_export(RecipientKey())
    path = f"{live.origin}/requests/{request.digest.value.hex()}"
    for name in ("sam", "rina"):
        sign_in(driver, live, name)
        driver.get(path)
        find(driver, "form[action$='/approve'] button").click()
        wait_until_said(driver, "You can't approve it: you approved it")
    assert "would be allowed" in driver.page_source


def wait_until_said(driver: Any, text: str) -> None:
    """Wait until a page says something."""
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    WebDriverWait(driver, 30).until(lambda one: text in one.page_source, text)


def test_a_model_is_frozen_and_an_entrys_proof_is_shown(live: RunningConsole, driver: Any) -> None:
    sign_in(driver, live, "dana")
    driver.get(f"{live.origin}/models/other")
    find(driver, "a.danger").click()
    wait_for_title(driver, "New request")
    find(driver, "form[action='/requests/new'] button").click()
    wait_for_title(driver, "Sign the request")
    find(driver, "form[data-sign] button").click()
    wait_until_said(driver, "Frozen:")
    assert any(one.event is EventName.MODEL_FROZEN for one in live.occupied.entries())
    driver.get(f"{live.origin}/audit")
    find(driver, "tbody a").click()
    wait_for_title(driver, "Log entry")
    assert "give the root that the log's key signed" in driver.page_source


def test_no_page_asks_anybody_else_or_breaks_its_own_policy(live: RunningConsole, driver: Any) -> None:
    sign_in(driver, live, "dana")
    driver.get_log("performance")
    driver.get_log("browser")
    for path in PATHS:
        driver.get(live.origin + path)
    asked = set()
    for line in driver.get_log("performance"):
        told = json.loads(line["message"])["message"]
        if told["method"] == "Network.requestWillBeSent":
            asked.add(urlsplit(told["params"]["request"]["url"]).netloc)
    assert asked <= {urlsplit(live.origin).netloc, ""}
    assert _complaints(driver) == []


def test_planted_script_is_inert_and_none_can_be_added(live: RunningConsole, driver: Any) -> None:
    hostile = "<img src=x onerror=document.title='owned'>"
    request = live.occupied.ask(Action.ROTATE, ticket=hostile)
    sign_in(driver, live, "dana")
    driver.get(f"{live.origin}/requests/{request.digest.value.hex()}")
    assert not driver.title.startswith("owned")
    added = """
        const tag = document.createElement('script');
        try { tag.textContent = "document.title = 'owned'"; } catch (error) { return error.name; }
        document.body.append(tag);
        return document.title;
    """
    assert driver.execute_script(added) == "TypeError"
    markup = "try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; }"
    assert driver.execute_script(markup) == "TypeError"
    driver.get_log("browser")


def test_without_script_everything_but_the_key_works(live: RunningConsole, driver: Any) -> None:
    sign_in(driver, live, "dana")
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        for path in PATHS:
            driver.get(live.origin + path)
            assert "<h1" in driver.page_source
        driver.get(f"{live.origin}/requests/new?action=rotate&model={MODEL}")
        find(driver, "form[action='/requests/new'] button").click()
        wait_for_title(driver, "Sign the request")
        assert "Signing here takes this page's script" in driver.page_source
        find(driver, ".who button").click()
        wait_for_title(driver, "Sign in")
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_delivery_is_let_in_by_key_and_the_report_is_kept(live: RunningConsole, driver: Any, tmp_path: Path) -> None:
    given = delivered(live)
    sign_in(driver, live, "sam")
    driver.get(f"{live.origin}/intake/{given.id}")
    find(driver, "form[action$='/accept'] button").click()
    wait_until_said(driver, "save the signed review")
    driver.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    find(driver, "a[href^='/intake-reviews/']").click()
    driver.get(f"{live.origin}/assurance")
    find(driver, "a[href='/assurance/reports/html']").click()
    end = time.monotonic() + 120
    while {path.name for path in tmp_path.iterdir()} != {"review-sam.json", "assessment.html"}:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert driver.current_url == f"{live.origin}/assurance"
    assert "holds no RAND Security Level" in (tmp_path / "assessment.html").read_text()


def delivered(live: RunningConsole) -> Delivered:
    """Have a delivery taken in that waits for reviews."""
    files: dict[str, tuple[Format, Any]] = {
        "model.safetensors": (Format.SAFETENSORS, {"tensors": 3}),
        "extra.pkl": (Format.PICKLE, {"globals": ["collections.OrderedDict"]}),
    }
    return Delivered(live, f"delivery-{os.urandom(4).hex()}", files, MODEL).up_to(State.SCANNED)


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("dark", 400),
        ("light", 1280),
        pytest.param("light", 320, marks=pytest.mark.heavy, id="at 400 %"),
        pytest.param("dark", 640, marks=pytest.mark.heavy, id="at 200 %"),
        pytest.param("dark", 1280, marks=pytest.mark.heavy),
    ],
)
def test_no_page_shuts_anybody_out(
    live: RunningConsole, driver: Any, things: tuple[str, ...], scheme: str, width: int
) -> None:
    sign_in(driver, live, "sam")
    look(driver, scheme=scheme, width=width)
    found = {}
    for path in (*PATHS, *things, "/sign-in", "/models/nothing"):
        driver.get(live.origin + path)
        found[path] = [*shuts_out(driver), *left_unsaid(driver)]
    assert {path: what for path, what in found.items() if what} == {}


def test_printed_pages_are_whole(live: RunningConsole, driver: Any, things: tuple[str, ...]) -> None:
    sign_in(driver, live, "sam")
    found = {}
    with on_paper(driver):
        for path in (*PATHS, *things):
            driver.get(live.origin + path)
            found[path] = cut_on_paper(driver)
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize("width", [1280, pytest.param(400, marks=pytest.mark.heavy)])
def test_the_keyboard_goes_down_the_page_and_is_seen(
    live: RunningConsole, driver: Any, things: tuple[str, ...], width: int
) -> None:
    sign_in(driver, live, "rina")
    look(driver, scheme="light", width=width)
    for path in ("/today", f"/models/{MODEL}", "/audit", things[0]):
        driver.get(live.origin + path)
        found = stops(driver, 60)
        assert len(found) > 12, path
        assert [stop for stop in found if stop[1]] == [], path


def test_a_table_that_goes_on_at_a_side_shows_it(live: RunningConsole, driver: Any) -> None:
    sign_in(driver, live, "rina")
    look(driver, scheme="light", width=400)
    driver.get(f"{live.origin}/people")
    shades = """
        return [...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth)
          .map((one) => getComputedStyle(one).backgroundImage);
    """
    found = driver.execute_script(shades)
    assert found
    assert all("gradient" in one for one in found)


def test_each_object_leads_to_what_the_log_says_of_it(
    live: RunningConsole, driver: Any, things: tuple[str, ...]
) -> None:
    sign_in(driver, live, "sam")
    paths = (*things, f"/models/{MODEL}", "/people", "/attestation", "/assurance", "/intake", "/audit/1")
    for path in paths:
        driver.get(live.origin + path)
        led = driver.execute_script("return document.querySelectorAll('main a[href^=\"/audit\"]').length")
        assert led > 0, path
