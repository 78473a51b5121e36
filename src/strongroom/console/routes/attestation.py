"""Attestation: the enrolled platforms, by the keeper's signed records, and the images that may run."""

from __future__ import annotations

from strongroom.client.requests import known_platforms
from strongroom.console.visits import Page, Visit, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant


def platforms(visit: Visit) -> Page:
    """Show platforms with their class of isolation, and what the reference values in force list."""
    session, trust = visit.session, visit.trust
    records = sorted(known_platforms(trust.genesis, session.api.platforms()), key=lambda one: one.platform)
    shown, following = page_of(records, lambda one: one.platform, visit.query.get("after", ""))
    values = trust.reference_values
    collateral = session.api.collateral()
    data: dict[str, Json] = {
        "platforms": [
            {"platform": one.platform, "isolation": one.isolation.value, "enrolled": format_instant(one.enrolled)}
            for one in shown
        ],
        "next": following,
        "images": [
            {"image": one.image, "measurement": str(one.measurement), "revoked": one.revoked}
            for one in (values.images if values is not None else ())
        ],
        "collateral": [
            {
                "kind": one.kind.value,
                "name": one.name,
                "issued": format_instant(one.issued),
                "ends": format_instant(one.ends),
                "current": one.issued <= visit.now < one.ends,
            }
            for one in collateral.items
        ],
    }
    return Page("attestation.html", "Attestation", data)
