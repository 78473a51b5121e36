"""What is due to be looked at again: access that nobody uses, and vetting that ends (SP 800-53 AC-2(3), PS-3). Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from strongroom.client.state import PersonStanding
from strongroom.client.told import GrantShown
from strongroom.core.clock import Instant

DAY: Final = 86400
SOON: Final = 30 * DAY
"""Seconds: vetting that ends sooner is told of."""
UNUSED: Final = 30 * DAY
"""Seconds without a use after which a live grant is looked at again."""


def unused(grants: Iterable[GrantShown], now: Instant, *, seconds: int = UNUSED) -> list[GrantShown]:
    """Return the live grants that nobody used for so long, the longest first. One never used counts from its issue."""
    found = (one for one in grants if one.live and now - (one.last_used or one.issued) >= seconds)
    return sorted(found, key=lambda one: (one.last_used or one.issued, one.grant.value))


def ending(people: Iterable[PersonStanding], now: Instant) -> list[PersonStanding]:
    """Return the active people who are vetted, and for no longer than :data:`SOON`; who ends first is first."""
    found = (one for one in people if one.cleared(now) and (one.vetted_until or 0) <= now + SOON)
    return sorted(found, key=lambda one: (one.vetted_until or 0, one.person))


def uncleared(people: Iterable[PersonStanding], now: Instant) -> list[PersonStanding]:
    """Return the active people who aren't vetted, or not any more, by their names."""
    return sorted((one for one in people if one.active and not one.cleared(now)), key=lambda one: one.person)
