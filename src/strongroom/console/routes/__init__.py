"""The pages and acts, one module for each; here is the list of all of them."""

from __future__ import annotations

from typing import Final

from strongroom.console.routes import attestation, audit, models, people, requests, today
from strongroom.console.visits import Handler

PAGES: Final[tuple[tuple[str, Handler], ...]] = (
    ("/today", today.today),
    ("/models", models.models),
    ("/models/{model}", models.model),
    ("/requests", requests.requests),
    ("/requests/new", requests.new),
    ("/requests/{digest}", requests.request),
    ("/drafts/{digest}", requests.draft),
    ("/people", people.people),
    ("/attestation", attestation.platforms),
    ("/audit", audit.log),
    ("/audit/{index}", audit.entry),
)
"""Address and what shows it. Each has a JSON twin, whose address ends with ``.json``."""

ACTS: Final[tuple[tuple[str, Handler], ...]] = (
    ("/requests/new", requests.ask),
    ("/drafts/{digest}", requests.submit),
    ("/requests/{digest}/approve", requests.approve),
    ("/requests/{digest}/deny", requests.deny),
    ("/requests/{digest}/carry-out", requests.carry_out),
)
"""Forms: address, and what it does."""
