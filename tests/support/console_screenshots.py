"""Pictures of every page of the console, light and dark, wide and narrow, of a real deployment made for them.

python tests/support/console_screenshots.py FOLDER
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from strongroom.access.request import Action
from strongroom.keys.recipient import RecipientKey
from support.browsers import missing
from support.console_browser import console_browser, look, picture, sign_in
from support.consoles import RunningConsole, console
from support.deployment import MODEL

WIDTHS = {"wide": 1280, "narrow": 400}


def pages(live: RunningConsole) -> dict[str, str]:
    """Furnish the deployment, and return each page's name and address."""
    lab = live.occupied
    asked = lab.ask_export(RecipientKey())
    lab.approve(asked, "sam")
    lab.ask(Action.ROTATE)
    lab.post(f"requests/{lab.ask(Action.FREEZE, model='other').digest}/control")
    return {
        "sign-in": "/sign-in",
        "today": "/today",
        "requests": "/requests",
        "request": f"/requests/{asked.digest.value.hex()}",
        "request-new": "/requests/new",
        "models": "/models",
        "model": f"/models/{MODEL}",
        "people": "/people",
        "attestation": "/attestation",
        "audit": "/audit",
        "entry": "/audit/5",
        "refused": "/models/nothing",
    }


def main() -> None:
    """Make the pictures."""
    if missing():
        sys.exit(missing())
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, console(Path(name)) as live:
        shown = pages(live)
        with console_browser(live, Path(name) / "profile") as driver:
            sign_in(driver, live, "rina")
            for width, pixels in WIDTHS.items():
                for scheme in ("light", "dark"):
                    look(driver, scheme=scheme, width=pixels)
                    for page, path in shown.items():
                        driver.get(live.origin + path)
                        (out / f"{page}-{scheme}-{width}.png").write_bytes(picture(driver))
    sys.stdout.write(f"{len(list(out.glob('*.png')))} pictures in {out}\n")


if __name__ == "__main__":
    main()
