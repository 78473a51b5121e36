"""The theft bound: how long it takes to steal a model through its own answers, if every bit of them is the thief's.

A bucket of B bits a day lets (d + 1) x B out within d days, so a model of W bits takes W / B - 1 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from strongroom.egress.bits import MILLI, effective_bits
from strongroom.egress.buckets import DAY
from strongroom.egress.errors import BoundBrokenError
from strongroom.egress.policy import DEFAULT_MILLIBITS, RAND_MILLIBITS, STRICT_MILLIBITS, EgressPolicy

MILLIBITS: Final = (16000, RAND_MILLIBITS, 1000, DEFAULT_MILLIBITS, STRICT_MILLIBITS)
"""bf16 as it lies in memory; RAND's 4 bits; 16-fold compression; RAND's tenfold discount; 100-fold compression."""
SMALL_TOKENS: Final = 1_000_000
"""Tokens a day, about 12 a second: one busy stream. A cap below it is lifted sooner or later, and protects nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheftRow:
    """What an attacker needs who compresses weights to so many bits each."""

    millibits: int
    size: int
    """Bits to move."""
    seconds: int
    """From nothing, at the full budget."""
    seconds_left: int
    """As much again as what was spent so far leaves to do: 0 if the model may be gone."""
    before_stop_permille: int
    """Share of the size that leaves before the odometer stops; 1,000 or more is all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TheftBound:
    """The bound of one policy, with what was spent so far."""

    policy: EgressPolicy
    spent: int
    rows: tuple[TheftRow, ...]
    seconds: int
    """Time to steal at the policy's own bits per weight."""
    tokens_per_day: int
    """Traffic that the day's budget serves, ends of answers left out."""

    @property
    def holds(self) -> bool:
        """Whether stealing takes as long as the policy demands."""
        return self.seconds >= self.policy.min_days_to_steal * DAY

    @property
    def small(self) -> bool:
        """Whether caps alone can't protect this model: a budget that holds serves less than one busy stream."""
        day = self.policy.effective_size // (self.policy.min_days_to_steal + 1)
        return day * MILLI // self.policy.token_millibits < SMALL_TOKENS


def theft_bound(policy: EgressPolicy, *, spent: int = 0) -> TheftBound:
    """Work out the bound; ``spent`` is the odometer's total, in bits."""
    day = policy.model_day_bits
    sizes = [(each, effective_bits(policy.parameters, each)) for each in MILLIBITS]
    return TheftBound(
        policy=policy,
        spent=spent,
        rows=tuple(
            TheftRow(
                millibits=each,
                size=size,
                seconds=_seconds(size, day),
                seconds_left=_seconds(size - spent, day),
                before_stop_permille=policy.lifetime_bits * MILLI // size if size else MILLI,
            )
            for each, size in sizes
        ),
        seconds=_seconds(policy.effective_size, day),
        tokens_per_day=day * MILLI // policy.token_millibits,
    )


def check_policy(policy: EgressPolicy) -> None:
    """Refuse a policy that breaks its own bound: nothing is served under it.

    :raises BoundBrokenError: the model could be stolen sooner than the policy allows.
    """
    bound = theft_bound(policy)
    if not bound.holds:
        most = policy.effective_size // (policy.min_days_to_steal + 1)
        raise BoundBrokenError(
            f"`{policy.model}` could be stolen in {bound.seconds // DAY} days; its policy demands "
            f"{policy.min_days_to_steal}",
            remedy=f"lower `model_day_bits` to {most}, or decide on another time and say so in the policy",
        )


def _seconds(bits: int, day: int) -> int:
    return max(0, (bits - day) * DAY // day)
