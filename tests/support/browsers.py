"""A real browser with a virtual security key, and the page that is served to it over http://localhost."""

from __future__ import annotations

import http.server
import json
import queue
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PAGE: Final = Path(__file__).resolve().parent / "webauthn_page"
KINDS: Final = {"/": ("index.html", "text/html; charset=utf-8"), "/approve.js": ("approve.js", "text/javascript")}
PROGRAMS: Final = ("chromium", "chromedriver")
SECONDS: Final = 30


def missing() -> str:
    """Return why there is no browser, or nothing."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{' and '.join(absent)} not installed: apt-get install chromium chromium-driver" if absent else ""


class Page:
    """A server of the page on this machine: what it hands over is ``given``, what the page posts is an answer."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/given":
                    self._send(json.dumps(page.given).encode(), "application/json")
                elif self.path in KINDS:
                    name, kind = KINDS[self.path]
                    self._send((PAGE / name).read_bytes(), kind)
                else:
                    self.send_error(404)

            def do_POST(self) -> None:
                page._answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self._send(b"{}", "application/json")

            def _send(self, data: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """The page's address. Browsers take ``localhost`` for a secure place."""
        return f"http://localhost:{self._server.server_port}/"

    def answer(self) -> dict[str, Any]:
        """Wait for what the page posts."""
        return self._answers.get(timeout=SECONDS)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def browser(profile: Path) -> Iterator[Chrome]:
    """Start a browser with an empty profile. No driver is looked for on the network: the system's is named."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService  # noqa: PLC0415 - only where there is one

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={profile}")
    driver = Chrome(options=options, service=ChromeService(executable_path=shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(SECONDS)
        yield driver
    finally:
        driver.quit()


def plug_in(driver: Chrome, *, verifies: bool = True) -> str:
    """Plug a virtual security key in; returns its name."""
    from selenium.webdriver.common.virtual_authenticator import VirtualAuthenticatorOptions  # noqa: PLC0415

    options = VirtualAuthenticatorOptions()
    options.protocol = VirtualAuthenticatorOptions.Protocol.CTAP2
    options.transport = VirtualAuthenticatorOptions.Transport.USB
    options.has_resident_key = False
    options.has_user_verification = True
    options.is_user_verified = verifies
    options.is_user_consenting = True
    driver.add_virtual_authenticator(options)
    return str(driver.virtual_authenticator_id)


def press(driver: Chrome, page: Page, button: str) -> dict[str, Any]:
    """Load the page, press a button once the page offers it, and return what the page posts."""
    from selenium.webdriver.common.by import By  # noqa: PLC0415
    from selenium.webdriver.support.expected_conditions import element_to_be_clickable  # noqa: PLC0415
    from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

    driver.get(page.url)
    WebDriverWait(driver, SECONDS).until(element_to_be_clickable((By.ID, button))).click()
    return page.answer()


def text_of(driver: Chrome, name: str) -> str:
    """Return an element's text as it is shown."""
    from selenium.webdriver.common.by import By  # noqa: PLC0415

    return str(driver.find_element(By.ID, name).text)
