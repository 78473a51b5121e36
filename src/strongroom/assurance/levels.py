"""Which level the findings carry: RAND's own rules, no others.

Levels are cumulative, nothing is averaged, and one measure that doesn't hold keeps a level from being held, whatever
else is strong (the report's pages 33 and 74). SL5 is never found here: RAND judged it out of reach, and nobody can
award it to themselves (assessment rule AR8).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from strongroom.assurance.findings import Finding, State
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import SecurityLevel

HIGHEST: Final = SecurityLevel.SL4
"""The highest level that a self-assessment may find."""


def held(findings: Mapping[MeasureId, Finding], catalogue: Catalogue) -> SecurityLevel | None:
    """Return the highest level that is held; None where not even SL1 is.

    A measure without a finding counts as not assessed.
    """
    found = None
    for level in HIGHEST.up_to():
        if any(not _holds(findings, measure.id) for measure in catalogue.measures_of(level)):
            break
        found = level
    return found


def gaps(findings: Mapping[MeasureId, Finding], catalogue: Catalogue, goal: SecurityLevel) -> tuple[Finding, ...]:
    """Return what keeps the goal from being held: lowest level first, there the cheapest step first."""
    missing = [
        findings[measure.id]
        for measure in catalogue.measures_of(goal, cumulative=True)
        if measure.id in findings and not findings[measure.id].state.holds
    ]
    return tuple(sorted(missing, key=_order))


def count(findings: Iterable[Finding]) -> Mapping[State, int]:
    """Return how many findings have each state."""
    found = dict.fromkeys(State, 0)
    for finding in findings:
        found[finding.state] += 1
    return found


def _holds(findings: Mapping[MeasureId, Finding], measure: MeasureId) -> bool:
    return measure in findings and findings[measure].state.holds


def _order(finding: Finding) -> tuple[str, int, str]:
    step = finding.step
    return finding.measure[:3], 9 if step is None else step.effort, finding.measure
