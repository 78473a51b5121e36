"""What other frameworks ask, and how the measures that serve it stand here. The links are our reading."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.findings import State
from strongroom.assurance.reports.matrix import state_of, weakest
from strongroom.assurance.reports.sheet import cell
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import MeasureId


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One thing that another framework asks.

    :ivar state: the weakest of the measures that serve it, None where none is known to: never taken for met.
    """

    framework: str
    id: str
    text: str
    measures: tuple[MeasureId, ...]
    holding: int
    state: State | None


def served(assessment: Assessment, catalogue: Catalogue) -> tuple[Served, ...]:
    """Return every requirement of every framework that is known here, in the order of the data."""
    return tuple(
        Served(
            framework=framework,
            id=name,
            text=text,
            measures=measures,
            holding=sum(state_of(assessment.findings, measure).holds for measure in measures),
            state=weakest(state_of(assessment.findings, measure) for measure in measures),
        )
        for framework, name, text, measures in _asked(catalogue)
    )


def as_csv(assessment: Assessment, catalogue: Catalogue) -> Mapping[str, bytes]:
    """Return a line for each requirement."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("framework", "requirement", "what it asks", "state", "holding", "measures"))
    for one in served(assessment, catalogue):
        state = "no measure serves it" if one.state is None else one.state.value
        row = (one.framework, one.id, one.text, state, f"{one.holding} of {len(one.measures)}", " ".join(one.measures))
        writer.writerow(map(cell, row))
    return {"mappings.csv": out.getvalue().encode()}


_Asked = tuple[str, str, str, tuple[MeasureId, ...]]


def _asked(catalogue: Catalogue) -> Iterator[_Asked]:
    yield from _controls(catalogue, "NIST SP 800-53")
    yield from _functions(catalogue, "NIST CSF 1.1")
    for control in catalogue.sl5_controls:
        yield "SL5 Standard v0.1", control.id, control.title, control.related_measures
    for mitigation in catalogue.atlas_mitigations:
        yield "MITRE ATLAS", mitigation.id, mitigation.name, mitigation.related_measures
    for technique in catalogue.atlas_techniques:
        yield "MITRE ATLAS", technique.id, technique.name, _against(catalogue, technique.id)
    for asked in catalogue.external_requirements:
        yield asked.instrument, asked.id, asked.requirement, asked.related_measures


def _controls(catalogue: Catalogue, framework: str) -> Iterator[_Asked]:
    serving: dict[str, list[MeasureId]] = {}
    for measure in catalogue.measures.values():
        for control in measure.nist_800_53:
            serving.setdefault(control, []).append(measure.id)
    for control in sorted(serving, key=_sorted_by):
        yield framework, control, "", tuple(serving[control])


def _functions(catalogue: Catalogue, framework: str) -> Iterator[_Asked]:
    for name in sorted({measure.nist_csf_1_1 for measure in catalogue.measures.values()}):
        yield framework, name, "", tuple(one.id for one in catalogue.measures.values() if one.nist_csf_1_1 == name)


def _against(catalogue: Catalogue, technique: str) -> tuple[MeasureId, ...]:
    vectors = (vector for vector in catalogue.vectors.values() if technique in vector.atlas_techniques)
    return tuple(_once(measure for vector in vectors for measure in vector.mitigations))


def _once(names: Iterable[MeasureId]) -> Iterable[MeasureId]:
    return dict.fromkeys(names)


def _sorted_by(control: str) -> tuple[str, int, int]:
    family, _, rest = control.partition("-")
    number, _, part = rest.partition("(")
    return family, int(number), int(part.rstrip(")") or 0)
