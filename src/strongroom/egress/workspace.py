"""What researchers may take out of a workspace (SL3-WPI-01, alternative B): exact sums over the last 365 days.

Drops are reviewed one by one and few, so each stands in the log and nothing is kept beside it. A drop that passes here
also counts in the model's odometer, for good, like an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.errors import UsageError
from strongroom.core.ids import PersonId
from strongroom.egress.bits import Output
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import Limit, LimitReachedError, OutputNotAllowedError
from strongroom.egress.policy import EgressPolicy

YEAR: Final = 365 * DAY
MAX_DROP: Final = 64 << 20
"""Bytes of one drop."""


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


def drop_bits(policy: EgressPolicy, size: int) -> int:
    """Return what a drop of ``size`` bytes costs, in bits: its bytes, and that it has this length and no other.

    :raises OutputNotAllowedError: the model's policy lets no bytes leave.
    :raises UsageError: of no size that a drop may have.
    """
    if Output.BYTES not in policy.outputs:
        raise OutputNotAllowedError(
            f"the egress policy of `{policy.model}` lets no files leave",
            remedy="have a policy adopted whose `outputs` name `bytes`",
        )
    if not 1 <= size <= MAX_DROP:
        raise UsageError(f"a drop has 1 to {MAX_DROP} bytes")
    return policy.cost(Output.BYTES, size, most=MAX_DROP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What the last 365 days leave of a model's quotas, for one person. In bits, but for the people."""

    own_used: int
    own: int
    all_used: int
    all: int
    holders: int
    """People who took something out."""
    most_holders: int
    holds: bool
    """Whether the person is one of them."""


def quota_left(policy: EgressPolicy, drops: Iterable[Drop], person: PersonId, now: Instant) -> Quota:
    """Return how far the quotas are used, by the drops that the log holds."""
    year = [one for one in drops if one.at > now - YEAR]
    holders = {one.person for one in year}
    return Quota(
        own_used=sum(one.bits for one in year if one.person == person),
        own=policy.workspace_person_bits,
        all_used=sum(one.bits for one in year),
        all=policy.workspace_year_bits,
        holders=len(holders),
        most_holders=policy.quota_holders,
        holds=person in holders,
    )


def _passes(used: list[Drop], left: int, drop: Drop) -> Instant | None:
    """Return when enough drops are a year old."""
    for one in sorted(used, key=lambda each: each.at):
        left += one.bits
        if left >= drop.bits:
            return one.at + YEAR
    return None
