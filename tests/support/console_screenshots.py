"""Pictures of every page of the console, light and dark, wide, narrow, at 200 % and on paper, of a real deployment.

python tests/support/console_screenshots.py FOLDER [PAGE...]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from strongroom.access.request import Action
from strongroom.core.canonical import Json
from strongroom.intake.formats.identify import Format
from strongroom.intake.rules import Rule
from strongroom.intake.states import State
from strongroom.keys.recipient import RecipientKey
from strongroom.release.precautions import PrecautionKind
from support.browsers import missing
from support.console_browser import PAPER, console_browser, find, look, picture, sign_in, wait_for_title
from support.console_incidents import Watched, watched
from support.console_metered import meter
from support.console_shelves import Delivered, assessment_of, give_roles, keep, record
from support.consoles import RunningConsole
from support.deployment import MODEL
from support.precautions import take
from support.responders import opens, plant

LOOKS = {
    "light-wide": ("light", 1280, ""),
    "dark-wide": ("dark", 1280, ""),
    "light-narrow": ("light", 400, ""),
    "dark-narrow": ("dark", 400, ""),
    "zoomed": ("light", 640, ""),
    "paper": ("light", PAPER, "print"),
}
"""Scheme, width and medium. A window of 1,280 pixels has 640 at 200 %; paper is A4."""
EMPTY = {
    "empty-today": "/today",
    "empty-requests": "/requests",
    "empty-requests-all": "/requests?state=all",
    "empty-model": "/models/other",
    "empty-people": "/people",
    "empty-attestation": "/attestation",
    "empty-assurance": "/assurance",
    "empty-intake": "/intake",
    "empty-exposure": "/audit/exposure",
    "empty-search": "/audit?event=keys:model:destroyed",
    "silent-incidents": "/incidents",
    "silent-drills": "/drills",
}
"""What a new deployment shows, with a responder that doesn't answer."""
NONE = {"empty-incidents": "/incidents", "empty-drills": "/drills", "calm-today": "/today"}
"""What it shows once the responder answers."""
NOTE = {"words": "The bytes on host w1 are ours: their digest is shard 7's.\nIts owner knows nothing of them."}


def pages(live: RunningConsole) -> dict[str, str]:
    """Furnish the deployment, and return each page's name and address."""
    lab = live.occupied
    meter(lab, live.folder.parent / "tpm", (300, 700, 1000))
    lab.ask(Action.ROTATE)
    lab.post(f"requests/{lab.ask(Action.FREEZE, model='other').digest}/control")
    take(lab, PrecautionKind.APPROVER, "dana", seconds=86400)
    take(lab, PrecautionKind.SAMPLING, MODEL, seconds=86400)
    take(lab, PrecautionKind.HOLD, "other", seconds=None)
    give_roles(lab, sam="assessor", rina="intake-reviewer auditor")
    asked = lab.ask_export(RecipientKey())
    lab.approve(asked, "sam")
    made = assessment_of(lab)
    keep(live, made)
    record(live, made, "sam")
    files: dict[str, tuple[Format, Json]] = {
        "model.safetensors": (Format.SAFETENSORS, {"tensors": 104, "bytes": 90_868_376}),
        "extra.pkl": (Format.PICKLE, {"globals": ["collections.OrderedDict", "torch._utils._rebuild_tensor_v2"]}),
    }
    given = Delivered(live, "minilm-7", files, MODEL).up_to(State.SCANNED)
    refused = Delivered(live, "minilm-8", files, MODEL).up_to(State.HASHED).refuse(Rule.PICKLE_GLOBAL)
    return {
        "sign-in": "/sign-in",
        "today": "/today",
        "requests": "/requests",
        "request": f"/requests/{asked.digest.value.hex()}",
        "request-new": "/requests/new?action=lift&model=other",
        "models": "/models",
        "model": f"/models/{MODEL}",
        "people": "/people",
        "attestation": "/attestation",
        "assurance": "/assurance",
        "assurance-gaps": "/assurance/gaps",
        "assurance-measures": "/assurance/measures/weight-security",
        "assurance-attacks": "/assurance/attacks",
        "assurance-attested": "/assurance/attested",
        "intake": "/intake",
        "delivery": f"/intake/{given.id}",
        "delivery-refused": f"/intake/{refused.id}",
        "audit": "/audit",
        "search": f"/audit?model={MODEL}&event=access",
        "exposure": f"/audit/exposure?model={MODEL}",
        "entry": "/audit/5",
        "refused": "/models/nothing",
    }


def incident_pages(lab: Watched, decoy: Path) -> dict[str, str]:
    """Have drills held and a decoy opened, and return those pages."""
    held = [lab.drill(playbook) for playbook in ("insider", "sensor-silent", "key-compromise")]
    opens(decoy)
    rina = lab.live.inside("rina")
    name = lab.until(rina, "/incidents.json", '"drill":null').json["incidents"][0]["incident"]
    path = f"/incidents/{name}"
    for kind, fields in (("take", {"role": "legal"}), ("start-clock", {"clock": "eu-cop-initial"}), ("note", NOTE)):
        form = rina.get(f"{path}/do/{kind}")
        signing = rina.follow(rina.post(form, f"{path}/do/{kind}", **fields))
        rina.post(signing, next(one for one in signing.forms() if "/acts/" in one))
    return {
        "incidents": "/incidents",
        "incident": path,
        "incident-drill": f"/incidents/{held[-1]}",
        "act-form": f"{path}/do/note",
        "drills": "/drills",
        "tabletop": "/drills/tabletop/insider?pace=10&began=2026-01-01T00:00:00Z",
    }


def drafts(driver: Any, live: RunningConsole, incident: str) -> dict[str, str]:
    """Have what is to be signed made in this browser, and return those pages."""
    found = {}
    for name, path, button in (
        ("drill-draft", "/drills", "button[aria-label='Practise insider']"),
        ("act-exposure", f"{incident}/do/expose", "main form [type=submit]"),
        ("act", f"{incident}/do/move", "main form [type=submit]"),
        ("draft", "/requests/new?action=rotate&model=other", "main form [type=submit]"),
    ):
        driver.get(live.origin + path)
        find(driver, button).click()
        find(driver, "form[data-sign]")
        found[name] = str(driver.current_url).removeprefix(live.origin)
    return found


def words(driver: Any, live: RunningConsole, incident: str) -> dict[str, str]:
    """Return the page of a note in an incident."""
    driver.get(live.origin + incident)
    address = find(driver, "#files ~ dl a[href*='/words/']").get_attribute("href")
    return {"words": str(address).removeprefix(live.origin)}


def take_all(driver: Any, live: RunningConsole, shown: dict[str, str], out: Path) -> None:
    """Take a picture of each page in each look."""
    for name, (scheme, width, media) in LOOKS.items():
        look(driver, scheme=scheme, width=width, media=media)
        for page, path in shown.items():
            driver.get(live.origin + path)
            (out / f"{page}-{name}.png").write_bytes(picture(driver))
    # Forms aren't on paper.
    look(driver, scheme="light", width=1280)


def take_key(driver: Any, live: RunningConsole, out: Path) -> None:
    """Take pictures of the page on which a key signs somebody in: it has no address of its own."""
    driver.delete_all_cookies()
    for name, (scheme, width, media) in LOOKS.items():
        look(driver, scheme="light", width=1280)
        driver.get(f"{live.origin}/sign-in")
        find(driver, "#person").send_keys("rina")
        find(driver, "main button").click()
        wait_for_title(driver, "Sign in with")
        look(driver, scheme=scheme, width=width, media=media)
        (out / f"sign-in-key-{name}.png").write_bytes(picture(driver))


def main() -> None:
    """Make the pictures."""
    if missing():
        sys.exit(missing())
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, watched(Path(name)) as lab:
        live, wanted = lab.live, {*sys.argv[2:]}

        def chosen(all_of_them: dict[str, str]) -> dict[str, str]:
            return {page: path for page, path in all_of_them.items() if not wanted or page in wanted}

        with console_browser(live, Path(name) / "profile") as driver:
            sign_in(driver, live, "rina")
            take_all(driver, live, chosen(EMPTY), out)
            (decoy,) = plant(lab.responder, "whole.floe")
            lab.start()
            take_all(driver, live, chosen(NONE), out)
            # The lab's connections don't wait for browsers.
            live.occupied._callers.clear()
            shown = pages(live) | incident_pages(lab, decoy)
            sign_in(driver, live, "rina")
            shown |= drafts(driver, live, shown["incident"]) | words(driver, live, shown["incident"])
            take_all(driver, live, chosen(shown), out)
            if not wanted or "sign-in-key" in wanted:
                take_key(driver, live, out)
    sys.stdout.write(f"{len(list(out.glob('*.png')))} pictures in {out}\n")


if __name__ == "__main__":
    main()
