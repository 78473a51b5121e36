"""What researchers may take out of a workspace (SL3-WPI-01, alternative B): exact sums over the last 365 days.

Drops are reviewed one by one and few, so each stands in the log and nothing is kept beside it. A drop that passes here
goes through the governor as well, like an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import PersonId
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import Limit, LimitReachedError
from strongroom.egress.policy import EgressPolicy

YEAR: Final = 365 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """What one person took out at one time."""

    person: PersonId
    bits: int
    at: Instant


def check_drop(policy: EgressPolicy, drops: Iterable[Drop], drop: Drop) -> None:
    """Check a drop against those of its model that the log holds.

    :raises LimitReachedError: the person's quota, everybody's, or the number of people who hold one.
    :raises UsageError: a drop of nothing.
    """
    if drop.bits < 1:
        raise UsageError("a drop has at least one bit")
    # A drop from the future counts too: a clock that went back frees nothing.
    year = [one for one in drops if one.at > drop.at - YEAR]
    own = [one for one in year if one.person == drop.person]
    for limit, quota, used in (
        (Limit.WORKSPACE_PERSON_YEAR, policy.workspace_person_bits, own),
        (Limit.WORKSPACE_YEAR, policy.workspace_year_bits, year),
    ):
        left = quota - sum(one.bits for one in used)
        if drop.bits > left:
            raise LimitReachedError(limit, seen=max(0, left), wanted=drop.bits, passes_at=_passes(used, left, drop))
    holders = {one.person for one in year}
    if drop.person not in holders and len(holders) >= policy.quota_holders:
        raise LimitReachedError(Limit.QUOTA_HOLDERS, seen=0, wanted=1, passes_at=None, unit="people")


def _passes(used: list[Drop], left: int, drop: Drop) -> Instant | None:
    """Return when enough drops are a year old."""
    for one in sorted(used, key=lambda each: each.at):
        left += one.bits
        if left >= drop.bits:
            return one.at + YEAR
    return None
