"""A real browser before the console: its security key is one that the roster lists."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from support.browsers import SECONDS
from support.consoles import RP_ID, RunningConsole

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PAPER = 703
"""Pixels, a 96th of an inch each, that A4 has between margins of 12 mm."""
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_PLAIN = """
    const plain = new CSSStyleSheet();
    plain.replaceSync(".scroll { background: none }");
    document.adoptedStyleSheets = [plain];
"""
"""Where a table lies on shades, axe looks at no contrast: they are taken away for it."""


def _pin(certificate: Path) -> str:
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


@contextmanager
def console_browser(live: RunningConsole, profile: Path, *also: Path) -> Iterator[Chrome]:
    """Start a browser that believes the console's certificate and ``also`` those, and no others of strangers."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService  # noqa: PLC0415 - only where there is one

    pins = ",".join(map(_pin, (live.folder / "tls.crt", *also)))
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", f"--ignore-certificate-errors-spki-list={pins}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(SECONDS)
        yield driver
    finally:
        driver.quit()


def plug_in_key_of(driver: Chrome, live: RunningConsole, name: str) -> None:
    """Plug in the security key of somebody, in place of the one before."""
    from selenium.webdriver.common.virtual_authenticator import (  # noqa: PLC0415
        Credential,
        VirtualAuthenticatorOptions,
    )

    if driver.virtual_authenticator_id:
        driver.remove_virtual_authenticator()
    options = VirtualAuthenticatorOptions()
    options.protocol = VirtualAuthenticatorOptions.Protocol.CTAP2
    options.transport = VirtualAuthenticatorOptions.Transport.USB
    options.has_resident_key = False
    options.has_user_verification = True
    options.is_user_verified = True
    options.is_user_consenting = True
    driver.add_virtual_authenticator(options)
    holder = live.holders[name]
    holder.counter += 1000
    private = holder.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    made = Credential.create_non_resident_credential(holder.credential, RP_ID, private, holder.counter)
    driver.add_credential(made)


def look(driver: Chrome, *, scheme: str, width: int, media: str = "") -> None:
    """Show pages in a colour scheme (``light`` or ``dark``), so many pixels wide.

    :param media: ``print`` for paper; else a screen.
    """
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [feature]})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    # A bar would lie over the last pixels of pictures.
    driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})


def picture(driver: Chrome) -> bytes:
    """Return a PNG of the whole page."""
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 3000), "scale": 1}
    told = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return base64.b64decode(told["data"])


def shuts_out(driver: Chrome) -> list[tuple[str, list[str]]]:
    """Return what of the page that is open shuts somebody out: by axe's rules, or by being too wide."""
    driver.execute_script(_PLAIN)
    driver.execute_script(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    told = driver.execute_async_script(
        f"const done = arguments[0]; axe.run(document, {{runOnly: {_RULES}}}).then(done)"
    )
    assert told["passes"]
    wide = driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    found = [(str(one["id"]), [str(node["html"])[:160] for node in one["nodes"]]) for one in told["violations"]]
    return [*found, *([("wider than the window by", [str(wide)])] if wide > 0 else [])]


_UNSAID = """
    const found = [];
    const hint = /^(now|in \\d+ (d|h|min|s)( \\d+ (h|min|s))?|\\d+ (d|h|min|s)( \\d+ (h|min|s))? ago)$/;
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode()) {
      const text = node.data.trim(), around = node.parentElement;
      if (hint.test(text) && !around.closest("time") && !around.parentElement.querySelector("time")) {
        found.push(`a hint without its time: ${text}`);
      }
      const copied = around.closest("a") || around.parentElement.querySelector("[data-copy]");
      if (/^[0-9a-f]{12}…$/.test(text) && !copied) {
        found.push(`an id that can't be copied: ${text}`);
      }
    }
    for (const time of document.querySelectorAll("main time")) {
      const beside = [time.nextElementSibling, time.previousElementSibling];
      if (!time.title && !beside.some((one) => one && hint.test(one.textContent))) {
        found.push(`a time without a hint: ${time.textContent}`);
      }
    }
    for (const plot of document.querySelectorAll("svg.plot")) {
      if (!/UTC/.test(plot.textContent) || plot.querySelectorAll(".name").length !== 2) {
        found.push("a plot whose axes have no names");
      }
    }
    return found;
"""
"""Times have a hint of how far they are, and hints their time; ids copy or lead on; axes have names."""


def left_unsaid(driver: Chrome) -> list[str]:
    """Return what the page that is open says by half."""
    return [str(one) for one in driver.execute_script(_UNSAID)]


@contextmanager
def on_paper(driver: Chrome) -> Iterator[None]:
    """Show pages as they are printed, as wide as A4 is between its margins; then on a screen again."""
    look(driver, scheme="light", width=PAPER, media="print")
    try:
        yield
    finally:
        look(driver, scheme="light", width=1280)


def cut_on_paper(driver: Chrome) -> list[str]:
    """Return what of the page that is open would be cut or folded away in print: for :func:`on_paper`."""
    told = driver.execute_script("""
        const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        const cut = [...document.querySelectorAll("main .scroll, main pre")].filter((one) =>
          getComputedStyle(one).overflowX !== "visible" && one.scrollWidth > one.clientWidth
          || one.scrollHeight > one.clientHeight + 1 && getComputedStyle(one).overflowY !== "visible");
        const short = [...document.querySelectorAll("main code[title]")].filter((one) =>
          !getComputedStyle(one, "::after").content.includes(one.title));
        const inside = [...document.querySelectorAll("details > :not(summary)")];
        const folded = inside.filter((one) => !one.checkVisibility());
        return [...(wide > 0 ? [`wider than the paper by ${wide}`] : []),
                ...[...cut, ...short, ...folded].map((one) => one.outerHTML.slice(0, 160))];
    """)
    return [str(one) for one in told]


_STOP = """
    const at = document.activeElement, before = window.before;
    window.before = at;
    if (at === document.body || at === null) { return null; }
    const box = at.getBoundingClientRect(), style = getComputedStyle(at);
    const wrong = [];
    if (!(before.compareDocumentPosition(at) & Node.DOCUMENT_POSITION_FOLLOWING)) { wrong.push("it goes back"); }
    if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) { wrong.push("nothing shows it"); }
    if (box.width === 0 || box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth) {
      wrong.push("it is out of sight");
    }
    return [at.outerHTML.slice(0, 120), wrong.join(", ")];
"""


def stops(driver: Chrome, most: int) -> list[tuple[str, str]]:
    """Press the tabulator up to ``most`` times; return each stop with what is wrong with it, or ""."""
    from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

    found: list[tuple[str, str]] = []
    driver.execute_script("document.activeElement.blur(); scrollTo(0, 0); window.before = document.documentElement")
    for _ in range(most):
        ActionChains(driver).send_keys(Keys.TAB).perform()
        told = driver.execute_script(_STOP)
        if told is None:
            break
        found.append((str(told[0]), str(told[1])))
    return found


def find(driver: Chrome, selector: str) -> Any:
    """Wait for an element that can be clicked, and return it."""
    from selenium.webdriver.common.by import By  # noqa: PLC0415
    from selenium.webdriver.support.expected_conditions import element_to_be_clickable  # noqa: PLC0415
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    return WebDriverWait(driver, SECONDS).until(element_to_be_clickable((By.CSS_SELECTOR, selector)))


def wait_for_title(driver: Chrome, beginning: str) -> None:
    """Wait until a page of that title is there."""
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    WebDriverWait(driver, SECONDS).until(lambda one: one.title.startswith(beginning), driver.title)


def sign_in(driver: Chrome, live: RunningConsole, name: str) -> None:
    """Come in with somebody's key."""
    driver.delete_all_cookies()
    plug_in_key_of(driver, live, name)
    driver.get(f"{live.origin}/sign-in")
    find(driver, "#person").send_keys(name)
    find(driver, "main button").click()
    wait_for_title(driver, "Sign in with")
    find(driver, "form[data-sign] button").click()
    wait_for_title(driver, "Today")
