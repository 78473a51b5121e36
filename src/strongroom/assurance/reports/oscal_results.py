"""The assessment's results and its plan of action in OSCAL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.findings import Finding, State
from strongroom.assurance.observations import Method, Observation
from strongroom.assurance.reports.oscal_parts import (
    Object,
    control_id,
    document,
    line,
    observation_id,
    prop,
    statement_id,
    word_id,
)
from strongroom.assurance.reports.words import BASES, STATES
from strongroom.assurance.statements import Attested
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.stable_uuid import stable_uuid
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId

_METHODS: Final = {
    Method.TOLD: "EXAMINE",
    Method.READ: "EXAMINE",
    Method.REPLAYED: "EXAMINE",
    Method.TRIED: "TEST",
}
_FOUND: Final = frozenset({State.MET, State.PARTLY, State.NOT_MET})


def results(assessment: Assessment, catalogue: Catalogue) -> Object:
    """Return the assessment results."""
    findings = [one for one in assessment.findings.values() if one.state in _FOUND]
    unseen = [one.measure for one in assessment.findings.values() if one.state is State.NOT_ASSESSED]
    held = "none" if assessment.held is None else assessment.held.value
    result: Object = {
        "uuid": stable_uuid("result", str(assessment.digest)),
        "title": line(f"{assessment.deployment}: {held} is held"),
        "description": "Judged by RAND's rules: cumulative, no averages, and SL5 never by self-assessment.",
        "start": format_instant(assessment.at),
        "props": [
            prop("level-held", held),
            prop("goal", assessment.goal.value),
            prop("assessment", assessment.digest),
            prop("genesis", assessment.genesis),
            prop("log-size", "none" if assessment.log_size is None else assessment.log_size),
            prop("not-assessed", len(unseen)),
        ],
        "local-definitions": {"components": [*_subjects(assessment)]},
        "reviewed-controls": {"control-selections": [_selection(assessment)]},
        "observations": [*_evidence(assessment)],
        "findings": [_finding(one, catalogue) for one in findings],
        "remarks": line(f"Not assessed, and not taken for satisfied: {', '.join(unseen) or 'nothing'}."),
    }
    plan = stable_uuid("plan", "how it is judged")
    body: Object = {
        "import-ap": {"href": f"#{plan}"},
        "results": [result],
        "back-matter": {
            "resources": [
                {
                    "uuid": plan,
                    "title": "How it is judged",
                    "description": "Each measure has a check over observations; what no check sees, people attest.",
                }
            ]
        },
    }
    title = f"Assessment of {assessment.deployment}"
    return document("assessment-results", title, assessment.at, body, parties=[*_parties(assessment)])


def plan_of_action(assessment: Assessment, catalogue: Catalogue) -> Object:
    """Return what is to be done for the goal, in order: the gaps with their next steps."""
    gaps = assessment.gaps(catalogue)
    body: Object = {
        "system-id": {"id": str(assessment.genesis)},
        "risks": [_risk(gap, catalogue) for gap in gaps],
        "poam-items": [
            {
                "uuid": stable_uuid("item", gap.measure),
                "title": _titled(gap.measure, catalogue),
                "description": line(gap.why),
                "props": [prop("state", gap.state.value), prop("order", place)],
                "related-risks": [{"risk-uuid": _risk_id(gap.measure)}],
            }
            for place, gap in enumerate(gaps, 1)
        ],
    }
    return document("plan-of-action-and-milestones", f"On the way to {assessment.goal}", assessment.at, body)


def _selection(assessment: Assessment) -> Json:
    def named(states: Iterable[State]) -> list[Json]:
        wanted = frozenset(states)
        return [{"control-id": control_id(one.measure)} for one in assessment.findings.values() if one.state in wanted]

    # OSCAL has no empty lists.
    parts = {
        "include-controls": named(_FOUND),
        "exclude-controls": named({State.NOT_APPLICABLE, State.NOT_ASSESSED}),
    }
    kept: Object = {name: [*controls] for name, controls in parts.items() if controls}
    return {"description": "Left out: what doesn't apply, and what wasn't assessed.", **kept}


def _parties(assessment: Assessment) -> Iterable[Json]:
    for name in dict.fromkeys(name for one in assessment.statements for name in one.signers):
        yield {"uuid": _party_id(name), "type": "person", "name": line(name)}
    yield {"uuid": _party_id(""), "type": "organization", "name": line(assessment.deployment)}


def _subjects(assessment: Assessment) -> Iterable[Json]:
    for subject in dict.fromkeys(("deployment", *(one.subject for one in assessment.observations))):
        yield {
            "uuid": _subject_id(subject),
            "type": "this-system",
            "title": line(subject),
            "description": "What was looked at.",
            "status": {"state": "operational"},
        }


def _evidence(assessment: Assessment) -> Iterable[Json]:
    # What is there twice has one id, and stands once.
    yield from map(_observation, {one.digest: one for one in assessment.observations}.values())
    yield from map(_word, {one.digest: one for one in assessment.statements}.values())


def _observation(one: Observation) -> Json:
    told = "; ".join(f"{name}: {_fact(fact)}" for name, fact in one.facts.items())
    return {
        "uuid": observation_id(one.digest),
        "title": one.collector,
        "description": line((one.missing and f"Nothing could be seen: {one.missing}") or told),
        "props": [
            prop("collector-version", one.version),
            prop("configuration", one.configuration),
            prop("digest", one.digest),
            prop("method", one.method.value),
            prop("log-index", "none" if one.log_index is None else one.log_index),
        ],
        "methods": [_METHODS[one.method]],
        "subjects": [{"subject-uuid": _subject_id(one.subject), "type": "component"}],
        "collected": format_instant(one.at),
        "expires": format_instant(one.expires),
    }


def _fact(fact: object) -> str:
    return ", ".join(fact) if isinstance(fact, tuple) else str(fact)


def _word(one: Attested) -> Json:
    said = one.statement
    papers: list[Json] = [
        {"description": line(paper.name), "props": [prop("digest", paper.digest)]} for paper in said.documents
    ]
    made: Object = {
        "uuid": word_id(one.digest),
        "title": f"statement on {said.measure}",
        "description": line(f"{said.text} ({said.scope})"),
        "props": [prop("digest", one.digest), prop("claim", said.claim.value)],
        "methods": ["INTERVIEW"],
        "origins": [{"actors": [{"type": "party", "actor-uuid": _party_id(name)} for name in one.signers]}],
        "subjects": [{"subject-uuid": _subject_id("deployment"), "type": "component"}],
        "collected": format_instant(said.at),
        "expires": format_instant(said.expires),
    }
    return made | {"relevant-evidence": papers} if papers else made


def _finding(one: Finding, catalogue: Catalogue) -> Json:
    satisfied = one.state is State.MET
    rests = [observation_id(digest) for digest in dict.fromkeys(one.observations)]
    rests += [] if one.statement is None else [word_id(one.statement)]
    made: Object = {
        "uuid": stable_uuid("finding", one.measure),
        "title": _titled(one.measure, catalogue),
        "description": line(f"{one.why}{f'; instead: {one.alternative}' if one.alternative else ''}"),
        "props": [prop("state", one.state.value), prop("rests-on", BASES[one.basis])],
        "target": {
            "type": "statement-id",
            "target-id": statement_id(one.measure),
            "status": {
                "state": "satisfied" if satisfied else "not-satisfied",
                "reason": "pass" if satisfied else "fail",
                "remarks": STATES[one.state],
            },
        },
    }
    related: list[Json] = [{"observation-uuid": name} for name in rests]
    return made | {"related-observations": related} if related else made


def _risk(gap: Finding, catalogue: Catalogue) -> Json:
    made: Object = {
        "uuid": _risk_id(gap.measure),
        "title": _titled(gap.measure, catalogue),
        "description": line(gap.why),
        "statement": line(f"It keeps {catalogue.measures[gap.measure].level} from being held."),
        "status": "open",
    }
    if gap.step is None:
        return made
    command = f" ({gap.step.command})" if gap.step.command else ""
    step: Json = {
        "uuid": stable_uuid("step", gap.measure),
        "lifecycle": "recommendation",
        "title": line(f"next step, effort {gap.step.effort} of 5"),
        "description": line(f"{gap.step.text}{command}"),
    }
    return made | {"remediations": [step]}


def _titled(measure: MeasureId, catalogue: Catalogue) -> str:
    return line(f"{measure} {catalogue.measures[measure].name}")


def _risk_id(measure: MeasureId) -> str:
    return stable_uuid("risk", measure)


def _party_id(name: str) -> str:
    return stable_uuid("party", name)


def _subject_id(subject: str) -> str:
    return stable_uuid("subject", subject)
