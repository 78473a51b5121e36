"""The assessment as OSCAL 1.2: catalogue, a profile for each level, component definition, results, plan of action.

What isn't assessed has no finding there, and what doesn't apply is left out by name: OSCAL knows satisfied and not
satisfied only, and silence must not read as either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.checks.every import CHECKS
from strongroom.assurance.reports.oscal_parts import (
    CATALOG,
    Object,
    control_id,
    document,
    line,
    prop,
    statement_id,
)
from strongroom.assurance.reports.oscal_references import check_references
from strongroom.assurance.reports.oscal_results import plan_of_action, results
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.stable_uuid import stable_uuid
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel
from strongroom.framework.measures import Measure, MeasureCategory

COMPONENT: Final = "oscal-component-definition.json"
RESULTS: Final = "oscal-assessment-results.json"
PLAN: Final = "oscal-plan-of-action.json"


def as_oscal(assessment: Assessment, catalogue: Catalogue) -> Mapping[str, bytes]:
    """Return the documents by file name.

    :raises DanglingReferenceError: one points to what isn't there. It would be a fault of ours.
    """
    at = assessment.at
    made: dict[str, Object] = {CATALOG: _catalog(catalogue, at)}
    for level in SecurityLevel:
        made[_profile_name(level)] = _profile(level, catalogue, at)
    made[COMPONENT] = _component(catalogue, at)
    made[RESULTS] = results(assessment, catalogue)
    if assessment.gaps(catalogue):
        # A plan of action has at least one action.
        made[PLAN] = plan_of_action(assessment, catalogue)
    check_references(made)
    return {name: json.dumps(value, indent=1, ensure_ascii=False).encode() for name, value in made.items()}


def _profile_name(level: SecurityLevel) -> str:
    return f"oscal-profile-{level.value.lower()}.json"


def _catalog(catalogue: Catalogue, at: Instant) -> Object:
    groups: list[Json] = [
        {
            "id": category.name.lower().replace("_", "-"),
            "class": "category",
            "title": category.value,
            "controls": [_control(measure) for measure in catalogue.measures_in(category)],
        }
        for category in MeasureCategory
    ]
    title = "Measures of RAND's Security Levels for AI model weights, in our own words"
    return document("catalog", title, at, {"groups": groups}, remarks=catalogue.citation.line())


def _control(measure: Measure) -> Json:
    return {
        "id": control_id(measure.id),
        "class": measure.level.value,
        "title": measure.name,
        "props": [prop("label", measure.id), prop("level", measure.level.value)],
        "parts": [{"id": statement_id(measure.id), "name": "statement", "prose": measure.description}],
    }


def _profile(level: SecurityLevel, catalogue: Catalogue, at: Instant) -> Object:
    wanted = [control_id(measure.id) for measure in catalogue.measures_of(level, cumulative=True)]
    body: dict[str, Json] = {
        "imports": [{"href": CATALOG, "include-controls": [{"with-ids": [*wanted]}]}],
        "merge": {"as-is": True},
    }
    title = f"All that holding {level.value} takes: its own measures and those of the levels below it"
    return document("profile", title, at, body)


def _component(catalogue: Catalogue, at: Instant) -> Object:
    measures = [measure for measure in catalogue.measures.values() if measure.id in CHECKS]
    body: dict[str, Json] = {
        "components": [
            {
                "uuid": stable_uuid("component", "strongroom"),
                "type": "software",
                "title": "Strongroom",
                "description": "Keeps the keys of sealed model weights, and gives them to measured enclaves only.",
                "control-implementations": [
                    {
                        "uuid": stable_uuid("implementation", "strongroom"),
                        "source": CATALOG,
                        "description": "What Strongroom serves, and looks at in a running deployment.",
                        "implemented-requirements": [*_requirements(measures)],
                    }
                ],
            }
        ]
    }
    return document("component-definition", "Strongroom", at, body)


def _requirements(measures: Iterable[Measure]) -> Iterable[Json]:
    for measure in measures:
        left = CHECKS[measure.id].left
        people = f" Left to people: {left}." if left else ""
        yield {
            "uuid": stable_uuid("requirement", measure.id),
            "control-id": control_id(measure.id),
            "description": line(f"Looked at by software in a running deployment.{people}"),
        }
