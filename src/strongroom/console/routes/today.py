"""Today: what waits for somebody, and what is wrong."""

from __future__ import annotations

from typing import Final

from strongroom.audit.reading.query import Query
from strongroom.client import reviews
from strongroom.console.gauges import gauges
from strongroom.console.routes.assurance import notice_of
from strongroom.console.routes.people import ending_row
from strongroom.console.visits import Page, Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.responder.people import may_see

MOST: Final = 8
WATCHED: Final = 16
"""Words of the log on responders that are looked at: the newest ones."""


def today(visit: Visit) -> Page:
    """Show open requests, frozen models, vetting that ends soon, and the health of log and keeper."""
    trust, session = visit.trust, visit.session
    queue = session.api.requests_page(state="open", limit=MOST, cursor="")
    people, _caps = session.api.people()
    ending = reviews.ending(people, visit.now)
    notice = notice_of(visit)
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
            for one in queue.requests
        ],
        "more_requests": bool(queue.next),
        "models": len(trust.models),
        "waiting_changes": [
            {"kind": one.kind.value, "document": str(one.document), "effective": format_instant(one.effective)}
            for one in trust.waiting
        ],
        "vetting_ending": [ending_row(one) for one in ending[:MOST]],
        "more_ending": max(0, len(ending) - MOST),
        "soon_days": reviews.SOON // reviews.DAY,
        "suspended": [*trust.suspended],
        "incidents": _incidents(visit),
        "assessment": None if notice is None else notice.facts(visit.now),
        "gauges": gauges(visit),
        "silent": _silent(visit),
        "log": _log(visit),
        "behind": visit.behind,
    }
    return Page("today.html", "Today", data)


def _silent(visit: Visit) -> list[Json]:
    """Return which responders the keeper doesn't hear, by the newest word of the log on each."""
    found = visit.look(Query(event="detection:responder"), WATCHED)
    newest = {entry.text("responder"): (index, entry) for index, entry in found.hits}
    return [
        {"responder": name, "since": format_instant(entry.at), "index": index}
        for name, (index, entry) in sorted(newest.items())
        if entry.event is EventName.RESPONDER_SILENT
    ]


def _log(visit: Visit) -> dict[str, Json]:
    """Return how far the log goes, how old its newest entry is, and whose word on it the policy asks for."""
    last = visit.look(Query(), 1).hits
    policy = visit.trust.policy
    wanted = None if policy is None else policy.witnesses
    return {
        "size": visit.trust.head.size,
        "root": str(visit.trust.head.root),
        "newest": format_instant(last[0][1].at) if last else None,
        "witnessed_seconds": None if wanted is None else wanted.max_age_seconds,
    }


def _incidents(visit: Visit) -> Json:
    """Return how many incidents are open, and the worst; None for who may not see that, and without a responder."""
    reader = visit.beside.incidents
    if reader is None or not may_see(visit.trust, visit.me.person):
        return None
    try:
        listed, broken = reader.incidents()
    except StrongroomError as error:
        # Also what a responder in other hands answers: it takes nobody's first page away.
        return {"why": error.message}
    still = [one for one in listed if one.is_open and one.drill is None]
    worst = max(still, key=lambda one: (one.severity.rank, one.opened), default=None)
    return {
        "why": "",
        "open": len(still),
        "drills": sum(1 for one in listed if one.is_open and one.drill is not None),
        "broken": len(broken),
        "worst": None if worst is None else worst.to_json(),
    }
