"""The five levels, and how far a deployment is up."""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.findings import State
from strongroom.assurance.levels import HIGHEST
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One level: ``holding`` of its own ``measures`` hold. ``cls`` is the colour of what ``word`` says."""

    level: SecurityLevel
    cls: str
    word: str
    holding: int
    measures: int


def ladder(assessment: Assessment, catalogue: Catalogue) -> tuple[Rung, ...]:
    """Return SL1 to SL5."""
    return tuple(_rung(level, assessment, catalogue) for level in SecurityLevel)


def _rung(level: SecurityLevel, assessment: Assessment, catalogue: Catalogue) -> Rung:
    findings = [assessment.findings[one.id] for one in catalogue.measures_of(level)]
    holding = sum(finding.state.holds for finding in findings)
    cls, word = _stands(level, assessment, complete=holding == len(findings))
    return Rung(level=level, cls=cls, word=word, holding=holding, measures=len(findings))


def _stands(level: SecurityLevel, assessment: Assessment, *, complete: bool) -> tuple[str, str]:
    if level.rank > HIGHEST.rank:
        return "nothing", "Only others can award it"
    if assessment.held is not None and level.rank <= assessment.held.rank:
        return State.MET.value, "Held"
    # All of its own measures may hold while one of a lower level doesn't.
    return (State.NOT_ASSESSED.value, "Lower level missing") if complete else (State.NOT_MET.value, "Not held")
