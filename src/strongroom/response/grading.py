"""How bad an incident is: from how sure the signal is, how much could have left, and how well the model is guarded."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Certainty(StrEnum):
    """How sure a signal is. The words are those of detection's rules."""

    SURE = "sure"
    """No benign cause exists: containment may begin by itself."""
    LIKELY = "likely"
    HINT = "hint"


class Severity(StrEnum):
    """How bad an incident is, from least to worst."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Its place from the least, 0, to the worst, 3."""
        return ORDER.index(self)


ORDER: Final = (Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)
HIGH_LEVEL: Final = 3
"""The security level (SL1 to SL5) from which a model's incidents weigh one step more."""
SHARE_PARTS: Final = (4, 2)
"""A quarter and a half of the theft bound: where the odometer alone makes an incident medium and high."""


def grade(certainty: Certainty, *, exposed_bits: int, theft_bits: int, level: int) -> Severity:
    """Return an incident's severity.

    :param exposed_bits: the most that may have left, as the odometer counts it.
    :param theft_bits: the model's theft bound: the least that a thief must move. 0 where no model is concerned or
        no bound is known, which is graded as if nothing had a share in it.
    :param level: the model's security level, 1 to 5; 0 where none is concerned.
    """
    by_signal = {Certainty.SURE: 2, Certainty.LIKELY: 1, Certainty.HINT: 0}[certainty]
    raised = by_signal + (level >= HIGH_LEVEL and certainty is not Certainty.HINT)
    return ORDER[min(len(ORDER) - 1, max(raised, _by_share(exposed_bits, theft_bits)))]


def _by_share(exposed: int, bound: int) -> int:
    if bound <= 0:
        return 0
    if exposed >= bound:
        # The weights could be outside already: nothing is worse, however weak the signal was that made us look.
        return len(ORDER) - 1
    quarter, half = SHARE_PARTS
    return (exposed * quarter >= bound) + (exposed * half >= bound)
