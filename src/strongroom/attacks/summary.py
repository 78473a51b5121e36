"""What a run of the suite comes to: counted, by RAND's vectors and capacities. Counted from results alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from strongroom.assurance.attack_results import AttackResult, AttackRun, Outcome
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import VectorId
from strongroom.framework.levels import OperationalCapacity

KINDS: Final = ("alert", "log", "program-log", "finding")
"""Kinds of signals, the strongest first."""
PEOPLE_TEST: Final = MappingProxyType(
    {
        VectorId("RUC-1"): "Scan what is installed for published flaws, and have testers try those that were found.",
        VectorId("RUC-2"): "Follow advisories without a fix for every part that is installed; have testers try each.",
        VectorId("RUC-4"): "Have a red team assume several unknown flaws at once, one in each layer that stands here.",
        VectorId(
            "NET-1"
        ): "Look for links out of networks that should have none: media, bridges, radios, service ports.",
        VectorId(
            "NET-2"
        ): "Have a laboratory measure timing, caches, power and emanations of the machines with weights.",
        VectorId(
            "PHY-2"
        ): "Leave doctored drives, cables and keyboards about; see who plugs them in, and what the host does.",
        VectorId("PHY-4"): "Have testers try the doors, badges, cameras and alarms of every place that holds weights.",
        VectorId("PHY-5"): "Have a laboratory try the hardened devices: cold boot, glitching, probing of memory buses.",
        VectorId("PHY-6"): "Rehearse with the guards what is destroyed, by whom and how fast, if a door is forced.",
        VectorId("PHY-7"): "Decide beforehand at which warning keys are destroyed, and rehearse it.",
        VectorId("HUM-4"): "Review owners, investors and partners for whoever could demand access.",
    }
)
"""Vector -> what people must test, because software can't act it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """A run in numbers."""

    executed: int
    blocked: int
    detected: int
    """Whatever stood anywhere afterwards; :func:`signals` says where."""
    unblocked: int
    unseen: int
    """Unblocked, and nothing showed it."""
    broken: int
    not_run: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Faced:
    """The executed attacks that are within reach of a class of attacker, and how many of them were blocked."""

    capacity: OperationalCapacity
    executed: int
    blocked: int


def totals(results: Sequence[AttackResult]) -> Totals:
    """Count a run's results."""
    executed = [one for one in results if one.outcome.executed]
    unblocked = [one for one in executed if one.outcome is Outcome.UNBLOCKED]
    return Totals(
        executed=len(executed),
        blocked=len(executed) - len(unblocked),
        detected=sum(one.detected for one in executed),
        unblocked=len(unblocked),
        unseen=sum(not one.detected for one in unblocked),
        broken=sum(one.outcome is Outcome.BROKEN for one in results),
        not_run=sum(one.outcome is Outcome.NOT_RUN for one in results),
    )


def signals(results: Sequence[AttackResult]) -> dict[str, int]:
    """Count the executed attacks by the kind of what was found of each: every one of :data:`KINDS`."""
    kinds = Counter(one.signal.partition(":")[0] for one in results if one.outcome.executed and one.detected)
    return {kind: kinds[kind] for kind in KINDS}


def acted_out(results: Sequence[AttackResult], catalogue: Catalogue) -> tuple[VectorId, ...]:
    """Return the vectors that at least one executed attack acts out, in the catalogue's order."""
    acted = {vector for one in results if one.outcome.executed for vector in one.vectors}
    return tuple(vector for vector in catalogue.vectors if vector in acted)


def by_capacity(results: Sequence[AttackResult]) -> tuple[Faced, ...]:
    """Return for each class of attacker, OC1 to OC5, what it could have tried of what was executed."""
    executed = [one for one in results if one.outcome.executed]
    found = []
    for capacity in OperationalCapacity:
        within = [one for one in executed if one.capacity.rank <= capacity.rank]
        blocked = sum(one.outcome is Outcome.BLOCKED for one in within)
        found.append(Faced(capacity=capacity, executed=len(within), blocked=blocked))
    return tuple(found)


def independent(run: AttackRun) -> tuple[str, ...]:
    """Return the layers without which everything that they stop was stopped all the same."""
    return tuple(trial.layer for trial in run.trials if trial.independent)
