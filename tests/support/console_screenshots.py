"""Pictures of every page of the console, light and dark, wide and narrow, of a real deployment made for them.

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
from support.console_browser import console_browser, find, look, picture, sign_in
from support.console_incidents import Watched, watched
from support.console_metered import meter
from support.console_shelves import Delivered, assessment_of, give_roles, keep, record
from support.consoles import RunningConsole
from support.deployment import MODEL
from support.precautions import take
from support.responders import opens, plant

WIDTHS = {"wide": 1280, "narrow": 400}


def pages(live: RunningConsole) -> dict[str, str]:
    """Furnish the deployment, and return each page's name and address."""
    lab = live.occupied
    meter(lab, live.folder.parent / "tpm", (300, 700, 1000))
    asked = lab.ask_export(RecipientKey())
    lab.approve(asked, "sam")
    lab.ask(Action.ROTATE)
    lab.post(f"requests/{lab.ask(Action.FREEZE, model='other').digest}/control")
    take(lab, PrecautionKind.APPROVER, "dana", seconds=86400)
    take(lab, PrecautionKind.SAMPLING, MODEL, seconds=86400)
    take(lab, PrecautionKind.HOLD, "other", seconds=None)
    give_roles(lab, sam="assessor", rina="intake-reviewer auditor")
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


def incident_pages(lab: Watched) -> dict[str, str]:
    """Have drills held and a decoy opened, and return those pages."""
    (decoy,) = plant(lab.responder, "whole.floe")
    lab.start()
    held = [lab.drill(playbook) for playbook in ("insider", "sensor-silent", "key-compromise")]
    opens(decoy)
    rina = lab.live.inside("rina")
    name = lab.until(rina, "/incidents.json", '"drill":null').json["incidents"][0]["incident"]
    path = f"/incidents/{name}"
    for kind, fields in (("take", {"role": "legal"}), ("start-clock", {"clock": "eu-cop-initial"})):
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
        ("act-exposure", f"{incident}/do/expose", "main form button"),
        ("act", f"{incident}/do/move", "main form button"),
    ):
        driver.get(live.origin + path)
        find(driver, button).click()
        find(driver, "form[data-sign]")
        found[name] = str(driver.current_url).removeprefix(live.origin)
    return found


def main() -> None:
    """Make the pictures."""
    if missing():
        sys.exit(missing())
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, watched(Path(name)) as lab:
        live, wanted = lab.live, {*sys.argv[2:]}
        shown = pages(live) | incident_pages(lab)
        with console_browser(live, Path(name) / "profile") as driver:
            sign_in(driver, live, "rina")
            shown |= drafts(driver, live, shown["incident"])
            shown = {page: path for page, path in shown.items() if not wanted or page in wanted}
            for width, pixels in WIDTHS.items():
                for scheme in ("light", "dark"):
                    look(driver, scheme=scheme, width=pixels)
                    for page, path in shown.items():
                        driver.get(live.origin + path)
                        (out / f"{page}-{scheme}-{width}.png").write_bytes(picture(driver))
    sys.stdout.write(f"{len(list(out.glob('*.png')))} pictures in {out}\n")


if __name__ == "__main__":
    main()
