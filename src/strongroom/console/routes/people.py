"""People: who is who today, whose vetting ends, how many hold access, and what access is due to be reviewed."""

from __future__ import annotations

from typing import Final

from strongroom.audit.reading.query import Query
from strongroom.client import reviews
from strongroom.client.state import PersonStanding
from strongroom.console.taken_away import one_more, told
from strongroom.console.visits import Page, Visit, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.events import EventName

MOST: Final = 20
REVIEWS: Final = 5


def people(visit: Visit) -> Page:
    """Show everybody of the roster as the keeper says they stand, the caps, and what is due to be reviewed."""
    standing, caps = visit.session.api.people()
    ordered = sorted(standing, key=lambda one: one.person)
    shown, following = page_of(ordered, lambda one: one.person, visit.query.get("after", ""))
    ending, over = reviews.ending(standing, visit.now), reviews.uncleared(standing, visit.now)
    data: dict[str, Json] = {
        "people": [
            {
                "person": one.person,
                "kind": one.kind,
                "unit": one.unit,
                "roles": [*one.roles],
                "tier": one.tier,
                "vetted_until": None if one.vetted_until is None else format_instant(one.vetted_until),
                "cleared": one.cleared(visit.now),
                "active": one.active,
                "suspended": one.suspended,
                "hardware_keys": one.hardware_keys,
                "one_more": told(one_more(visit.trust, one.person, visit.now)),
            }
            for one in shown
        ],
        "next": following,
        "caps": [{"access": one.access, "people": one.people, "cap": one.cap} for one in caps],
        "ending": [ending_row(one) for one in ending[:MOST]],
        "ending_count": len(ending),
        "uncleared": [one.person for one in over[:MOST]],
        "soon_days": reviews.SOON // reviews.DAY,
        "unused_days": reviews.UNUSED // reviews.DAY,
        "uncleared_count": len(over),
        **_reviews(visit),
        "behind": visit.behind,
    }
    return Page("people.html", "People", data)


def ending_row(one: PersonStanding) -> dict[str, Json]:
    """Return whose vetting ends, and when."""
    return {"person": one.person, "until": None if one.vetted_until is None else format_instant(one.vetted_until)}


def _reviews(visit: Visit) -> dict[str, Json]:
    """Return the live grants that nobody used for a while, which a review decides on, and the reviews before."""
    unused = reviews.unused(visit.session.api.grants(), visit.now)
    done = visit.look(Query(event=EventName.ACCESS_REVIEWED.value), REVIEWS).hits
    opened = visit.look(Query(event=EventName.BREAK_GLASS_REVIEWED.value), REVIEWS).hits
    return {
        "unused": [
            {
                "grant": str(one.grant),
                "requester": one.requester,
                "model": one.model,
                "access": one.access,
                "since": format_instant(one.last_used or one.issued),
                "used": one.last_used is not None,
                "expires": format_instant(one.expires),
            }
            for one in unused[:MOST]
        ],
        "unused_count": len(unused),
        "reviewed": [
            {
                "reviewer": entry.text("reviewer"),
                "kept": entry.integer("kept"),
                "removed": len(entry.texts("removed")),
                "at": format_instant(entry.at),
                "index": index,
            }
            for index, entry in reversed(done)
        ],
        "break_glass": [
            {
                "request": entry.text("request"),
                "reviewers": [*entry.texts("reviewers")],
                "outcome": entry.text("outcome"),
                "at": format_instant(entry.at),
                "index": index,
            }
            for index, entry in reversed(opened)
        ],
    }
