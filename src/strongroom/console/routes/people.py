"""People: who is who today, whose vetting ends, and how many hold access."""

from __future__ import annotations

from strongroom.console.visits import Page, Visit, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant


def people(visit: Visit) -> Page:
    """Show everybody of the roster as the keeper says they stand, and the caps."""
    standing, caps = visit.session.api.people()
    ordered = sorted(standing, key=lambda one: one.person)
    shown, following = page_of(ordered, lambda one: one.person, visit.query.get("after", ""))
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
            }
            for one in shown
        ],
        "next": following,
        "caps": [{"access": one.access, "people": one.people, "cap": one.cap} for one in caps],
    }
    return Page("people.html", "People", data)
