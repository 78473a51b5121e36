"""The assessment as one page that needs nothing but itself: no script, no other file, no connection.

It reads the same on paper, on a telephone and without colour: whatever a colour says stands there as text.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from itertools import groupby
from typing import TYPE_CHECKING

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.findings import Finding, State
from strongroom.assurance.levels import count
from strongroom.assurance.reports.attack_table import put_attacks
from strongroom.assurance.reports.heat_map import put_map
from strongroom.assurance.reports.ladder import ladder
from strongroom.assurance.reports.markup import add, page, table, write
from strongroom.assurance.reports.served import Served, served
from strongroom.assurance.reports.words import BASES, STATES
from strongroom.core.clock import format_instant
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import SecurityLevel
from strongroom.framework.measures import Measure, MeasureCategory

if TYPE_CHECKING:
    from strongroom.assurance.reports.markup import Node

_SECTIONS = (
    ("gaps", "What is missing"),
    ("map", "Attack vectors"),
    ("measures", "Measures"),
    ("attacks", "Attacks"),
    ("attested", "Attested by people"),
    ("unseen", "Not assessed"),
    ("served", "Other frameworks"),
)


def as_html(assessment: Assessment, catalogue: Catalogue) -> Mapping[str, bytes]:
    """Return the page."""
    style = files(__package__ or "strongroom.assurance.reports").joinpath("page.css").read_text("utf-8")
    root, body = page(f"Security assessment of {assessment.deployment}", style)
    _header(add(body, "header"), assessment)
    main = add(body, "main")
    _ladder(main, assessment, catalogue)
    parts = {name: _section(main, name, title) for name, title in _SECTIONS}
    _gaps(parts["gaps"], assessment, catalogue)
    put_map(parts["map"], assessment, catalogue)
    _measures(parts["measures"], assessment, catalogue)
    put_attacks(parts["attacks"], assessment.attacks)
    _attested(parts["attested"], assessment, catalogue)
    _unseen(parts["unseen"], assessment, catalogue)
    _served(parts["served"], served(assessment, catalogue))
    footer = add(body, "footer")
    add(footer, "p", catalogue.citation.line())
    add(footer, "p", catalogue.caution)
    return {"assessment.html": write(root)}


def _header(header: Node, assessment: Assessment) -> None:
    level = "no RAND Security Level" if assessment.held is None else assessment.held.value
    add(header, "p", "Assessment of a deployment against RAND's Security Levels", cls="soft")
    add(header, "h1", f"{assessment.deployment} holds {level}")
    facts = add(header, "dl")
    log = "not read" if assessment.log_size is None else f"{assessment.log_size} entries, root {assessment.log_root}"
    for name, value in (
        ("Assessed", format_instant(assessment.at)),
        ("Goal", assessment.goal.value),
        ("Verified log", log),
        ("Deployment", str(assessment.genesis)),
        ("This assessment", str(assessment.digest)),
        ("Software", f"Strongroom {assessment.version}"),
    ):
        add(facts, "dt", name)
        add(facts, "dd", value)
    links = add(add(header, "nav", aria_label="Sections"), "ul")
    for name, title in _SECTIONS:
        add(add(links, "li"), "a", title, href=f"#{name}")


def _section(main: Node, name: str, title: str) -> Node:
    made = add(main, "section", id=name, aria_labelledby=f"{name}-title")
    add(made, "h2", title, id=f"{name}-title")
    return made


def _ladder(main: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    rungs = add(main, "ol", cls="ladder", aria_label="Levels")
    for one in ladder(assessment, catalogue):
        goal = one.level is assessment.goal
        rung = add(rungs, "li", cls=f"{one.cls} goal" if goal else one.cls)
        add(rung, "b", one.level.value)
        add(rung, "span", f"{one.word}{', the goal' if goal else ''}. ")
        add(rung, "span", f"{one.holding} of {one.measures} measures hold")
    _counts(_section(main, "counts", "How the measures stand"), assessment, catalogue)


def _counts(part: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    counts = {
        level: count(assessment.findings[one.id] for one in catalogue.measures_of(level)) for level in SecurityLevel
    }
    body = table(part, "Measures of each level, by state", ("State", *SecurityLevel), "counts")
    for state, word in STATES.items():
        row = add(body, "tr")
        add(add(row, "th", scope="row"), "span", word, cls=f"tag {state.value}")
        for level in SecurityLevel:
            add(row, "td", str(counts[level][state]))


def _gaps(part: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    gaps = assessment.gaps(catalogue)
    if not gaps:
        add(part, "p", f"Nothing: every measure up to {assessment.goal} holds.")
        return
    text = f"{len(gaps)} measures keep {assessment.goal} from being held. Lowest level first, there the cheapest step."
    add(part, "p", text, cls="soft")
    for level, found in groupby(gaps, lambda gap: catalogue.measures[gap.measure].level):
        add(part, "h3", f"Between here and {level}")
        listed = add(part, "ol", cls="gaps")
        for gap in found:
            _gap(add(listed, "li"), gap, catalogue.measures[gap.measure])


def _gap(item: Node, gap: Finding, measure: Measure) -> None:
    head = add(item, "p", cls="head")
    add(head, "code", measure.id)
    add(head, "span", measure.name)
    add(head, "span", STATES[gap.state], cls=f"tag {gap.state.value}")
    add(item, "p", gap.why, cls="soft")
    if gap.step is not None:
        add(item, "p", f"Next: {gap.step.text} (effort {gap.step.effort} of 5)")
        if gap.step.command:
            add(add(item, "p"), "code", gap.step.command)


def _measures(part: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    for category in MeasureCategory:
        measures = catalogue.measures_in(category)
        held = sum(assessment.findings[one.id].state.holds for one in measures)
        add(part, "h3", category.value)
        caption = f"{category.value}: {held} of {len(measures)} hold"
        body = table(part, caption, ("Measure", "Level", "State", "Rests on", "Why"), "measures")
        for measure in measures:
            finding, row = assessment.findings[measure.id], add(body, "tr")
            _name(row, measure.id, catalogue)
            add(row, "td", measure.level.value, data_head="Level")
            _state(row, finding.state)
            add(row, "td", BASES[finding.basis], data_head="Rests on")
            instead = f"; instead: {finding.alternative}" if finding.alternative else ""
            add(row, "td", f"{finding.why}{instead}", data_head="Why")


def _attested(part: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    if not assessment.statements:
        add(part, "p", "Nothing: no statement of a person counts in this assessment.")
        return
    heads = ("Measure", "By", "What", "Until", "Documents")
    body = table(part, f"{len(assessment.statements)} signed statements that counted at that time", heads, "words")
    for one in assessment.statements:
        said, row = one.statement, add(body, "tr")
        _name(row, said.measure, catalogue)
        add(row, "td", ", ".join(one.signers), data_head="By")
        add(row, "td", f"{said.claim.value}: {said.text} ({said.scope})", data_head="What")
        until = f"{format_instant(said.expires)}, since {format_instant(said.at)}"
        add(row, "td", until, data_head="Until")
        papers = add(row, "td", "" if said.documents else "none", data_head="Documents")
        for document in said.documents:
            add(papers, "div", document.name)
            add(papers, "code", str(document.digest))


def _unseen(part: Node, assessment: Assessment, catalogue: Catalogue) -> None:
    unseen = [one for one in assessment.findings.values() if one.state is State.NOT_ASSESSED]
    blind = [one for one in assessment.observations if one.missing]
    add(part, "p", f"{len(unseen)} of {len(assessment.findings)} measures. None of them counts as met.")
    if unseen:
        body = table(part, "Measures that nothing was seen of, and nobody attested", ("Measure", "Level", "Why"), "")
        for finding in unseen:
            measure, row = catalogue.measures[finding.measure], add(body, "tr")
            _name(row, measure.id, catalogue)
            add(row, "td", measure.level.value, data_head="Level")
            add(row, "td", finding.why, data_head="Why")
    if blind:
        body = table(part, "What couldn't be looked at", ("Collector", "Subject", "Why"), "")
        for look in blind:
            row = add(body, "tr")
            add(row, "th", look.collector, scope="row")
            add(row, "td", look.subject, data_head="Subject")
            add(row, "td", look.missing, data_head="Why")


def _served(part: Node, asked: tuple[Served, ...]) -> None:
    add(
        part, "p", "What others ask, with the measures that serve it. The links are our reading, and no opinion on law."
    )
    for framework, group in groupby(asked, lambda one: one.framework):
        rows = tuple(group)
        held = sum(one.state is not None and one.state.holds for one in rows)
        fold = add(part, "details")
        add(fold, "summary", f"{framework}: of {len(rows)} requirements, the measures for {held} all hold")
        body = table(fold, framework, ("Requirement", "State", "Hold", "Measures"), "served")
        for one in rows:
            row = add(body, "tr")
            name = add(row, "th", scope="row")
            add(name, "code", one.id)
            add(name, "div", one.text)
            _state(row, one.state)
            add(row, "td", f"{one.holding} of {len(one.measures)}", data_head="Hold")
            add(row, "td", ", ".join(one.measures) or "none is known", data_head="Measures")


def _name(row: Node, measure: MeasureId, catalogue: Catalogue) -> None:
    name = add(row, "th", scope="row")
    add(name, "code", measure)
    # A statement may be on a measure that the framework hasn't: then it counted for nothing.
    add(name, "div", catalogue.measures[measure].name if measure in catalogue.measures else "no such measure")


def _state(row: Node, state: State | None) -> None:
    word, cls = ("no measure", "nothing") if state is None else (STATES[state], state.value)
    add(add(row, "td", data_head="State"), "span", word, cls=f"tag {cls}")
