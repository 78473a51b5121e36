"""``strongroom framework``: read RAND's levels, measures and attack vectors."""

from __future__ import annotations

import dataclasses
import json
import shutil
import textwrap
from collections.abc import Iterable

import click

from strongroom.framework.catalogue import Catalogue, load
from strongroom.framework.levels import LevelProfile, OperationalCapacity, SecurityLevel
from strongroom.framework.measures import Measure
from strongroom.framework.vectors import AttackVector, VectorCategory

_LEVELS = click.Choice([level.value for level in SecurityLevel], case_sensitive=False)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("framework")
def framework() -> None:
    """Read RAND's framework: security levels, measures and attack vectors."""


@framework.command("show")
@click.argument("level", type=_LEVELS)
@click.option("--cumulative", is_flag=True, help="Include the measures of the levels below.")
@_as_json
def show(level: str, *, cumulative: bool, as_json: bool) -> None:
    """Show what a security level is for and the measures that it asks for."""
    catalogue = load()
    profile = catalogue.level(level)
    measures = catalogue.measures_of(profile.id, cumulative=cumulative)
    if as_json:
        _print_json(
            catalogue,
            level=dataclasses.asdict(profile),
            cumulative=cumulative,
            measures=[dataclasses.asdict(measure) for measure in measures],
        )
        return
    _print_level(catalogue, profile)
    section = ""
    for measure in measures:
        heading = " / ".join(filter(None, (measure.category.value, measure.subcategory)))
        if heading != section:
            section = heading
            click.echo(f"\n{heading}")
        _print_entry(measure.id, measure.name)
    added = f"{profile.id} asks for {len(measures)} measures in all" if cumulative else f"{len(measures)} measures"
    click.echo(f"\n{added}.")
    if not cumulative and profile.id.rank > 1:
        click.echo("Those of the levels below are needed too: add --cumulative.")
    _print_credit(catalogue)


@framework.command("vectors")
@click.option("--category", metavar="ID", help="Only one category, e.g. RUC.")
@_as_json
def vectors(*, category: str | None, as_json: bool) -> None:
    """List the attack vectors, with how feasible each is for each class of attacker."""
    catalogue = load()
    shown = [catalogue.category(category)] if category else list(catalogue.categories.values())
    if as_json:
        _print_json(
            catalogue,
            categories=[dataclasses.asdict(entry) for entry in shown],
            vectors=[dataclasses.asdict(vector) for entry in shown for vector in catalogue.vectors_in(entry.id)],
        )
        return
    for entry in shown:
        _print_category(entry, catalogue.vectors_in(entry.id))
    click.echo("Scores, OC1 to OC5: 1 is a chance of success of up to 20 percent, 5 of more than 80 percent.")
    _print_credit(catalogue)


@framework.command("measure")
@click.argument("measure_id", metavar="ID")
@_as_json
def measure(measure_id: str, *, as_json: bool) -> None:
    """Show one measure: what it asks, what it works against, and what it maps to."""
    catalogue = load()
    entry = catalogue.measure(measure_id)
    asked = catalogue.requirements_for(entry.id)
    if as_json:
        _print_json(
            catalogue,
            measure=dataclasses.asdict(entry),
            external_requirements=[dataclasses.asdict(requirement) for requirement in asked],
        )
        return
    _print_measure(catalogue, entry)
    if asked:
        click.echo("\nAsked for elsewhere")
        for requirement in asked:
            _print_entry("", f"{requirement.instrument}, {requirement.reference} ({requirement.status})", mark="- ")
    _print_credit(catalogue)


def _print_level(catalogue: Catalogue, profile: LevelProfile) -> None:
    attacker = catalogue.capacities[profile.capacity]
    click.echo(f"{profile.id}: {profile.goal}")
    _paragraph(f"{profile.capacity}, {attacker.title}: {attacker.summary}")
    for theme in profile.key_themes:
        _print_entry("", theme, mark="- ")


def _print_category(category: VectorCategory, members: Iterable[AttackVector]) -> None:
    click.echo(f"{category.id}  {category.name}")
    for vector in members:
        scores = " ".join(str(vector.feasibility.score(capacity)) for capacity in OperationalCapacity)
        _print_entry(f"{vector.id:<6} {scores}", f"{vector.name} (from {vector.addressed_from_level})")
    click.echo()


def _print_measure(catalogue: Catalogue, entry: Measure) -> None:
    click.echo(f"{entry.id}: {entry.name}")
    _paragraph(entry.description)
    for requirement in entry.sub_requirements:
        _print_entry("", requirement, mark="- ")
    click.echo()
    rungs = catalogue.ladders[entry.ladder] if entry.ladder else ()
    against = "; ".join(f"{name} {catalogue.vector(name).name}" for name in entry.counters)
    basis = f" (basis: {entry.nist_800_53_basis.replace('reading', 'our reading')})" if entry.nist_800_53_basis else ""
    rows = {
        "Level": entry.level.value,
        "Category": " / ".join(filter(None, (entry.category.value, entry.subcategory))),
        "Software can": ", ".join(entry.automation),
        "Works against": against,
        "SP 800-53": ", ".join(entry.nist_800_53) + basis if entry.nist_800_53 else "",
        "CSF 1.1": entry.nist_csf_1_1,
        "MITRE ATLAS": ", ".join(entry.atlas_mitigations),
        "Figures": "; ".join(f"{figure.name} = {figure.value}" for figure in entry.parameters),
        "Ladder": f"{entry.ladder}: {' < '.join(rungs)}" if rungs else "",
        "Group": entry.group,
        "Reliability": entry.reliability,
        "Read in": f"{entry.provenance.reference} (confidence {entry.provenance.confidence})",
    }
    for label, text in rows.items():
        if text:
            _print_entry(f"{label:<13}", text)


def _print_json(catalogue: Catalogue, **members: object) -> None:
    click.echo(json.dumps({**members, "credit": catalogue.citation.line()}, indent=2, ensure_ascii=False))


def _print_credit(catalogue: Catalogue) -> None:
    click.echo()
    _paragraph(catalogue.citation.line())


def _paragraph(text: str) -> None:
    click.echo(textwrap.fill(text, _width(), break_on_hyphens=False))


def _print_entry(name: str, text: str, *, mark: str = "") -> None:
    first = f"  {mark}{name}{'  ' if name else ''}"
    click.echo(
        textwrap.fill(text, _width(), initial_indent=first, subsequent_indent=" " * len(first), break_on_hyphens=False)
    )


def _width() -> int:
    # Below 40 columns the indented text would have nowhere to go; beyond 120 lines are hard to read.
    return min(max(shutil.get_terminal_size().columns, 40), 120)
