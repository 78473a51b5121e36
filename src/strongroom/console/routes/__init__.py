"""The pages and acts, one module for each; here is the list of all of them."""

from __future__ import annotations

from typing import Final

from strongroom.console.routes import (
    assurance,
    attestation,
    audit,
    drills,
    exposure,
    incident_acts,
    incidents,
    intake,
    models,
    people,
    requests,
    today,
)
from strongroom.console.visits import Handler

PAGES: Final[tuple[tuple[str, Handler], ...]] = (
    ("/today", today.today),
    ("/models", models.models),
    ("/models/{model}", models.model),
    ("/requests", requests.requests),
    ("/requests/new", requests.new),
    ("/requests/{digest}", requests.request),
    ("/drafts/{digest}", requests.draft),
    ("/incidents", incidents.incidents),
    ("/incidents/{incident}", incidents.incident),
    ("/incidents/{incident}/words/{digest}", incidents.words),
    ("/incidents/{incident}/do/{kind}", incident_acts.ask),
    ("/incidents/{incident}/acts/{digest}", incident_acts.act),
    ("/drills", drills.drills),
    ("/drills/drafts/{digest}", drills.draft),
    ("/drills/tabletop/{playbook}", drills.table),
    ("/people", people.people),
    ("/attestation", attestation.platforms),
    ("/assurance", assurance.assurance),
    ("/assurance/gaps", assurance.gaps),
    ("/assurance/measures/{category}", assurance.measures),
    ("/assurance/attacks", assurance.attacks),
    ("/assurance/attested", assurance.attested),
    ("/intake", intake.intake),
    ("/intake/{delivery}", intake.delivery),
    ("/audit", audit.log),
    ("/audit/exposure", exposure.exposure),
    ("/audit/{index}", audit.entry),
)
"""Address and what shows it. Each has a JSON twin, whose address ends with ``.json``."""

FILES: Final[tuple[tuple[str, Handler], ...]] = (
    ("/incidents/{incident}/export/{form}", incidents.export),
    ("/incidents/{incident}/kept/{name}", incidents.kept),
    ("/assurance/reports/{form}", assurance.report),
    ("/exposure-answers/{digest}", exposure.answer),
    ("/intake-reviews/{digest}", intake.signed_review),
)
"""Files to keep: address, and what makes it."""

ACTS: Final[tuple[tuple[str, Handler], ...]] = (
    ("/requests/new", requests.ask),
    ("/drafts/{digest}", requests.submit),
    ("/requests/{digest}/approve", requests.approve),
    ("/requests/{digest}/deny", requests.deny),
    ("/requests/{digest}/carry-out", requests.carry_out),
    ("/incidents/{incident}/do/{kind}", incident_acts.draft),
    ("/incidents/{incident}/acts/{digest}", incident_acts.submit),
    ("/drills/new", drills.begin),
    ("/drills/drafts/{digest}", drills.submit),
    ("/drills/tabletop/{playbook}", drills.sit_down),
    ("/intake/{delivery}/accept", intake.accept),
    ("/intake/{delivery}/deny", intake.deny),
)
"""Forms: address, and what it does."""
