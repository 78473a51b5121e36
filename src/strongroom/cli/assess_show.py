"""An assessment as text for a person: the level, the counts, and what to do next."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from typing import Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.findings import Basis, Finding, State
from strongroom.assurance.levels import HIGHEST, count, gaps
from strongroom.assurance.plan import SecurityPlan, differences
from strongroom.assurance.reports.words import STATES
from strongroom.cli.output import table
from strongroom.core.clock import format_instant
from strongroom.core.printable import printable
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel

_SHOWN: Final = 12


def lines(assessment: Assessment, catalogue: Catalogue, *, everything: bool) -> Iterator[str]:
    """Yield the whole report; ``everything`` lists every gap up to the goal."""
    goal = assessment.goal
    yield headline(assessment)
    yield ""
    yield _counts(assessment, catalogue)
    yield ""
    yield _bases(assessment, catalogue)
    missing = assessment.gaps(catalogue)
    if missing:
        yield ""
        yield from _gaps(missing, catalogue, goal, everything=everything)
    if goal.rank > HIGHEST.rank:
        yield ""
        yield f"{goal} can't be found by a self-assessment: RAND judged it out of reach, and others have to award it."
    yield ""
    yield from _wrapped(catalogue.citation.line())


def headline(assessment: Assessment) -> str:
    """Return the level, when it was found, and how much of the log was read."""
    level = "no level is held" if assessment.held is None else f"{assessment.held} is held"
    size = "the log wasn't read" if assessment.log_size is None else f"{assessment.log_size} log entries verified"
    who = printable(assessment.deployment)
    return f"{who}: {level}, {format_instant(assessment.at)}, {size}"


def _counts(assessment: Assessment, catalogue: Catalogue) -> str:
    levels = assessment.goal.up_to()
    counts = {
        level: count(assessment.findings[measure.id] for measure in catalogue.measures_of(level)) for level in levels
    }
    rows = [(word, *(str(counts[level][state]) for level in levels)) for state, word in STATES.items()]
    return table(rows, ("", *levels))


def _bases(assessment: Assessment, catalogue: Catalogue) -> str:
    wanted = catalogue.measures_of(assessment.goal, cumulative=True)
    holding = [assessment.findings[measure.id] for measure in wanted if assessment.findings[measure.id].state.holds]
    seen = sum(finding.basis is Basis.AUTOMATIC for finding in holding)
    said = sum(finding.basis is Basis.ATTESTED for finding in holding)
    out = sum(finding.state is State.NOT_APPLICABLE or bool(finding.alternative) for finding in holding)
    decided = sum(assessment.findings[measure.id].basis in {Basis.AUTOMATIC, Basis.BOTH} for measure in wanted)
    return (
        f"Up to {assessment.goal} {len(holding)} of {len(wanted)} measures hold: {seen} by what was seen, "
        f"{said} by what people attested, {len(holding) - seen - said} by both.\n"
        f"{out} hold because two people said that something else serves, or that they don't apply.\n"
        f"{decided} of {len(wanted)} were looked at by software."
    )


def _gaps(
    missing: tuple[Finding, ...], catalogue: Catalogue, goal: SecurityLevel, *, everything: bool
) -> Iterator[str]:
    first = catalogue.measures[missing[0].measure].level
    here = missing if everything else tuple(gap for gap in missing if catalogue.measures[gap.measure].level is first)
    shown = here if everything else here[:_SHOWN]
    what = f"{goal}" if everything else f"{first}"
    yield f"Between you and {what}, the cheapest step first ({len(shown)} of {len(here)}):"
    for gap in shown:
        measure = catalogue.measures[gap.measure]
        yield ""
        yield f"{gap.measure}  {STATES[gap.state]:<12}  {measure.name}"
        yield from _wrapped(gap.why, indent=4)
        if gap.step is not None:
            yield from _wrapped(f"-> {gap.step.text}", indent=4)
            if gap.step.command:
                yield f"       {gap.step.command}"
    more = len(missing) - len(shown)
    if more:
        yield ""
        yield f"{more} more up to {goal}: add --all."


def drift(before: Assessment, after: Assessment) -> Iterator[str]:
    """Yield what changed since an earlier assessment."""
    if before.held is not after.held:
        yield f"level: {before.held or 'none'} before, {after.held or 'none'} now"
    for name, finding in after.findings.items():
        was = before.findings.get(name)
        if was is not None and was.state is not finding.state:
            yield f"{name}: {STATES[was.state]} before, {STATES[finding.state]} now: {finding.why}"


def against_plan(plan: SecurityPlan, assessment: Assessment, catalogue: Catalogue) -> tuple[str, ...]:
    """Return how a plan and an assessment differ, up to the plan's goal."""
    open_ = gaps(assessment.findings, catalogue, plan.goal)
    return differences(plan, open_, assessment.models, assessment.at)


def _wrapped(text: str, *, indent: int = 0) -> list[str]:
    width = min(max(shutil.get_terminal_size().columns, 40), 120)
    return textwrap.wrap(
        printable(text),
        width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + 3 * (indent > 0)),
        break_on_hyphens=False,
    )
