"""The heat map: RAND's attack vectors by operational capacity, each cell the weakest of what counters it there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.attack_results import AttackResult, Outcome
from strongroom.assurance.findings import Finding, State
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId, VectorId
from strongroom.framework.levels import OperationalCapacity
from strongroom.framework.vectors import AttackVector

_WEAKEST_FIRST: Final = (State.NOT_MET, State.NOT_ASSESSED, State.PARTLY, State.MET, State.NOT_APPLICABLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One vector as one class of attacker finds it.

    :ivar feasibility: RAND's score of how likely it succeeds undefended, 1 (up to 20 percent) to 5 (above 80).
    :ivar state: the weakest of the measures against it that the level made for this class asks for; None where no
        measure up to that level counters it.
    :ivar measures: those measures. ``open``: those of them that don't hold.
    :ivar attacks: what was acted out along this vector by this class or a lesser one, and not left out.
    """

    vector: VectorId
    capacity: OperationalCapacity
    feasibility: int
    state: State | None
    measures: tuple[MeasureId, ...]
    open: tuple[MeasureId, ...]
    attacks: tuple[AttackResult, ...]

    @property
    def got_through(self) -> bool:
        """Whether an attack wasn't blocked."""
        return any(attack.outcome is Outcome.UNBLOCKED for attack in self.attacks)


def weakest(states: Iterable[State]) -> State | None:
    """Return the weakest of some states; None of none. What doesn't apply weakens nothing."""
    found = set(states)
    return next((state for state in _WEAKEST_FIRST if state in found), None)


def state_of(findings: Mapping[MeasureId, Finding], measure: MeasureId) -> State:
    """Return a measure's state; one without a finding wasn't assessed."""
    return findings[measure].state if measure in findings else State.NOT_ASSESSED


def row(vector: AttackVector, assessment: Assessment, catalogue: Catalogue) -> tuple[Cell, ...]:
    """Return the cells of one vector, OC1 to OC5."""
    return tuple(_cell(vector, capacity, assessment, catalogue) for capacity in OperationalCapacity)


def _cell(vector: AttackVector, capacity: OperationalCapacity, assessment: Assessment, catalogue: Catalogue) -> Cell:
    # Level n is the one that RAND made for capacity n, and it takes all levels below it.
    asked = tuple(name for name in vector.mitigations if catalogue.measures[name].level.rank <= capacity.rank)
    states = {name: state_of(assessment.findings, name) for name in asked}
    run = () if assessment.attacks is None else assessment.attacks.results
    return Cell(
        vector=vector.id,
        capacity=capacity,
        feasibility=vector.feasibility.score(capacity),
        state=weakest(states.values()),
        measures=asked,
        open=tuple(name for name, state in states.items() if not state.holds),
        attacks=tuple(
            attack
            for attack in run
            if vector.id in attack.vectors and attack.capacity.rank <= capacity.rank and attack.outcome.executed
        ),
    )
