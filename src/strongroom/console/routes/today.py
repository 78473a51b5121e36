"""Today: what waits for somebody, and what is wrong."""

from __future__ import annotations

from typing import Final

from strongroom.console.visits import Page, Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant

SOON: Final = 30 * 86400
"""Seconds: vetting that ends sooner is shown."""
MOST: Final = 8


def today(visit: Visit) -> Page:
    """Show open requests, frozen models, vetting that ends soon, and the health of log and keeper."""
    trust, session = visit.trust, visit.session
    open_requests = session.api.requests_page(state="open", limit=MOST, cursor="").requests
    people, _caps = session.api.people()
    ending = sorted(
        (one.vetted_until, one.person)
        for one in people
        if one.active and one.vetted_until is not None and visit.now < one.vetted_until <= visit.now + SOON
    )
    data: dict[str, Json] = {
        "requests": [
            {
                "digest": str(one.digest),
                "action": one.action,
                "model": one.model,
                "requester": one.requester,
                "expires": None if one.expires is None else format_instant(one.expires),
                "approvals": one.approvals,
                "denials": one.denials,
            }
            for one in open_requests
        ],
        "models": len(trust.models),
        "waiting_changes": [
            {"kind": one.kind.value, "document": str(one.document), "effective": format_instant(one.effective)}
            for one in trust.waiting
        ],
        "vetting_ending": [{"person": person, "until": format_instant(until)} for until, person in ending[:MOST]],
        "suspended": [*trust.suspended],
        "log": {"size": trust.head.size, "root": str(trust.head.root)},
    }
    return Page("today.html", "Today", data)
