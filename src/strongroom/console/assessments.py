"""Assessments as the console shows them: one that somebody kept in a folder, and what the log says of the newest.

A file is believed for nothing: it is judged again from its own observations, and it counts as somebody's only where the
log names its digest. What isn't shown in it to who reads it, isn't made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.attack_results import AttackResult, AttackRun, Outcome
from strongroom.assurance.findings import Finding, State
from strongroom.assurance.levels import count
from strongroom.assurance.notice import ASSESSOR
from strongroom.assurance.reports.attack_table import OUTCOMES, told
from strongroom.assurance.reports.heat_map import words_of
from strongroom.assurance.reports.ladder import ladder
from strongroom.assurance.reports.matrix import row
from strongroom.assurance.reports.words import BASES, STATES
from strongroom.assurance.statements import ATTESTOR, Attested
from strongroom.assurance.thresholds import Thresholds
from strongroom.audit.entries import Entry
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant, parse_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel
from strongroom.framework.measures import MeasureCategory
from strongroom.personnel.roster import AUDITOR
from strongroom.release.heartbeat import RESPONDER

READERS: Final = frozenset({AUDITOR, ASSESSOR, ATTESTOR, RESPONDER})
"""Whom an assessment itself is shown: it is a list of weak places."""
FIRST_GAPS: Final = 12
_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Kept:
    """An assessment out of a folder, judged again, and its digest."""

    assessment: Assessment
    digest: Digest


class AssessmentShelf(Protocol):
    """Where the newest assessment is kept."""

    def newest(self) -> Kept | StrongroomError | None:
        """Return it, or what is wrong with it, or None: none is there."""
        ...

    def report(self, kept: Kept, form: str) -> Mapping[str, bytes]:
        """Return the files of a report of it, by name; ``form`` is one of ``FORMS``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the log says of an assessment. ``held`` None: not even SL1."""

    index: int
    assessment: Digest
    held: SecurityLevel | None
    goal: SecurityLevel
    made: Instant
    person: str

    @classmethod
    def of(cls, index: int, entry: Entry) -> Notice:
        """Read an entry of the event ``assurance:assessment:recorded``, proven before."""
        ranks = {level.rank: level for level in SecurityLevel}
        return cls(
            index=index,
            assessment=entry.digest("assessment"),
            held=ranks.get(entry.integer("held")),
            goal=ranks[entry.integer("goal")],
            made=parse_instant(entry.text("made")),
            person=entry.text("person"),
        )

    def facts(self, now: Instant) -> dict[str, Json]:
        """Return it for a page."""
        return {
            "index": self.index,
            "assessment": str(self.assessment),
            "held": None if self.held is None else self.held.value,
            "goal": self.goal.value,
            "made": format_instant(self.made),
            "person": self.person,
            "old": is_old(self.made, now),
        }


def is_old(made: Instant, now: Instant) -> bool:
    """Tell whether an assessment is older than the framework's checks take one to be of use."""
    return now - made > Thresholds().assessment_days * _DAY


def standing(kept: Kept, notice: Notice | None) -> str:
    """Say how a kept assessment stands to the newest one that the log names: one of ours, for the page to word."""
    if notice is None:
        return "unrecorded"
    if notice.assessment.matches(kept.digest):
        return "recorded"
    return "newer" if kept.assessment.at > notice.made else "older"


def summary(kept: Kept, catalogue: Catalogue, now: Instant) -> dict[str, Json]:
    """Return what the first page says of an assessment, without its long lists."""
    made = kept.assessment
    gaps = made.gaps(catalogue)
    counts = {level: count(made.findings[one.id] for one in catalogue.measures_of(level)) for level in SecurityLevel}
    rungs: list[Json] = [
        {"level": one.level.value, "cls": one.cls, "word": one.word, "holding": one.holding, "measures": one.measures}
        for one in ladder(made, catalogue)
    ]
    states: list[Json] = [
        {"state": state.value, "word": word, "counts": [counts[level][state] for level in SecurityLevel]}
        for state, word in STATES.items()
    ]
    return {
        "digest": str(kept.digest),
        "held": None if made.held is None else made.held.value,
        "goal": made.goal.value,
        "at": format_instant(made.at),
        "old": is_old(made.at, now),
        "version": made.version,
        "log_size": made.log_size,
        "ladder": rungs,
        "counts": states,
        "gaps": len(gaps),
        "first_gaps": [gap_facts(gap, catalogue) for gap in gaps[:FIRST_GAPS]],
        "unseen": sum(one.state is State.NOT_ASSESSED for one in made.findings.values()),
        "blind": len([one for one in made.observations if one.missing]),
        "attested": len(made.statements),
        "categories": [*_categories(made, catalogue)],
        "attacks": attack_summary(made.attacks),
    }


def _categories(made: Assessment, catalogue: Catalogue) -> Iterator[Json]:
    for category in MeasureCategory:
        measures = catalogue.measures_in(category)
        holding = sum(made.findings[one.id].state.holds for one in measures)
        yield {"slug": slug(category), "name": category.value, "holding": holding, "measures": len(measures)}


def slug(category: MeasureCategory) -> str:
    """Return a category's name as an address has it."""
    return category.name.lower().replace("_", "-")


def map_facts(made: Assessment, catalogue: Catalogue) -> list[Json]:
    """Return the heat map: the vectors by RAND's categories, each with a cell for each class of attacker."""
    found: list[Json] = []
    for category in catalogue.categories.values():
        rows: list[Json] = []
        for vector in catalogue.vectors_in(category.id):
            cells: list[Json] = []
            for cell in row(vector, made, catalogue):
                said = words_of(cell)
                cells.append(
                    {"capacity": cell.capacity.value, "cls": said.cls, "word": said.word, "lines": [*said.lines]}
                )
            rows.append({"vector": vector.id, "name": vector.name, "cells": cells})
        found.append({"category": category.name, "vectors": rows})
    return found


def gap_facts(gap: Finding, catalogue: Catalogue) -> dict[str, Json]:
    """Return one gap: what is missing, why, and the next step."""
    step = gap.step
    return {
        "measure": gap.measure,
        "name": catalogue.measures[gap.measure].name,
        "level": catalogue.measures[gap.measure].level.value,
        "state": gap.state.value,
        "word": STATES[gap.state],
        "why": gap.why,
        "step": None
        if step is None
        else {"text": step.text, "command": step.command, "effort": step.effort, "unlocks": step.unlocks.value},
    }


def gaps_by_level(made: Assessment, catalogue: Catalogue) -> dict[str, tuple[Finding, ...]]:
    """Return every gap up to the goal, by level, each level's cheapest step first."""
    found = made.gaps(catalogue)
    return {
        level.value: tuple(some) for level, some in groupby(found, lambda gap: catalogue.measures[gap.measure].level)
    }


def measure_facts(made: Assessment, catalogue: Catalogue, category: MeasureCategory) -> list[Json]:
    """Return a category's measures: state, what it rests on, and why."""
    found: list[Json] = []
    for measure in catalogue.measures_in(category):
        finding = made.findings[measure.id]
        found.append(
            {
                "measure": measure.id,
                "name": measure.name,
                "level": measure.level.value,
                "state": finding.state.value,
                "word": STATES[finding.state],
                "basis": BASES[finding.basis],
                "why": finding.why,
                "instead": finding.alternative,
            }
        )
    return found


def attested_facts(one: Attested, catalogue: Catalogue) -> dict[str, Json]:
    """Return what people signed of a measure."""
    said = one.statement
    known = catalogue.measures.get(said.measure)
    return {
        "measure": said.measure,
        # A statement may be on a measure that the framework hasn't: then it counted for nothing.
        "name": "no such measure" if known is None else known.name,
        "claim": said.claim.value,
        "text": said.text,
        "scope": said.scope,
        "signers": [*one.signers],
        "since": format_instant(said.at),
        "until": format_instant(said.expires),
        "documents": [{"name": paper.name, "digest": str(paper.digest)} for paper in said.documents],
    }


def attack_summary(run: AttackRun | None) -> Json:
    """Return what came of the attack suite in a few lines; what got through, or went unseen, by name."""
    if run is None:
        return None
    through = [one for one in run.results if one.outcome is Outcome.UNBLOCKED]
    unseen = [one for one in run.results if one.outcome.executed and not one.detected]
    return {
        "told": told(run),
        "results": len(run.results),
        "through": [{"attack": one.attack, "title": one.title, "detected": one.detected} for one in through],
        "unseen": [{"attack": one.attack, "title": one.title} for one in unseen if one.outcome is Outcome.BLOCKED],
        "broken": [one.attack for one in run.results if one.outcome is Outcome.BROKEN],
    }


def attack_facts(one: AttackResult) -> dict[str, Json]:
    """Return one attack."""
    word, cls = OUTCOMES[one.outcome]
    return {
        "attack": one.attack,
        "title": one.title,
        "vectors": [*one.vectors],
        "capacity": one.capacity.value,
        "outcome": one.outcome.value,
        "word": word,
        "cls": cls,
        "why": one.refusal or one.detail,
        "seen": (one.signal or "yes") if one.detected else "no",
        "measures": [*one.measures],
        "layers": [*one.layers],
    }
