"""Where a deployment has an identity provider, a visitor goes there first and comes back, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from simulators.oidc_provider import Mode, OidcProvider
from support.browsers import missing
from support.console_browser import console_browser, find, plug_in_key_of, wait_for_title
from support.consoles import RunningConsole, console

pytestmark = [pytest.mark.integration, pytest.mark.skipif(bool(missing()), reason=missing() or "there is a browser")]


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("provider")) as started:
        yield started


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[RunningConsole]:
    with console(tmp_path_factory.mktemp("console"), provider) as running:
        yield running


@pytest.fixture(scope="module")
def driver(live: RunningConsole, provider: OidcProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with console_browser(live, tmp_path_factory.mktemp("profile"), provider.folder / "server.pem") as started:
        yield started


def to_the_key(driver: Any, live: RunningConsole) -> None:
    """Go to the provider and back."""
    driver.delete_all_cookies()
    plug_in_key_of(driver, live, "dana")
    driver.get(f"{live.origin}/sign-in")
    find(driver, "#person").send_keys("dana")
    find(driver, "main button").click()
    wait_for_title(driver, "Sign in at the provider")
    find(driver, "main a.main").click()


def test_a_visitor_comes_in_by_provider_and_key(live: RunningConsole, driver: Any) -> None:
    to_the_key(driver, live)
    wait_for_title(driver, "Sign in with")
    find(driver, "form[data-sign] button").click()
    wait_for_title(driver, "Today")


def test_the_provider_says_another_person_and_nobody_comes_in(
    live: RunningConsole, driver: Any, provider: OidcProvider
) -> None:
    provider.mode = Mode.OTHER_PERSON
    try:
        to_the_key(driver, live)
        wait_for_title(driver, "Sign in with")
        find(driver, "form[data-sign] button").click()
        wait_for_title(driver, "Refused")
        assert "login-other-person" in driver.page_source or "login-denied" in driver.page_source, driver.page_source
    finally:
        provider.mode = Mode.GOOD


def test_a_refusal_of_the_provider_is_told(live: RunningConsole, driver: Any, provider: OidcProvider) -> None:
    provider.approved = False
    try:
        to_the_key(driver, live)
        wait_for_title(driver, "Refused")
        assert "access_denied" in driver.page_source
    finally:
        provider.approved = True


def test_an_answer_that_somebody_planted_is_refused(live: RunningConsole) -> None:
    victim = live.visitor()
    begun = victim.call("POST", "/sign-in", {"person": "dana", "next": ""})
    assert begun.headers["location"].startswith("/sign-in/provider")
    # The key's page can't be reached around the provider.
    assert victim.get("/sign-in/key").headers["location"] == "/sign-in/provider"
    answer = victim.get("/sign-in/back?code=planted&state=planted")
    assert answer.status == 403
    assert "login-failed" in answer.text
    stranger = live.visitor("sam")
    first = stranger.get("/sign-in/back?code=x&state=y")
    assert (first.status, "Back from the provider" in first.text) == (200, True)
    assert stranger.get("/sign-in/back?code=x&state=y&again=1").status == 403
