"""The forms in which an assessment is written out, by name; each is imported when it is asked for."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.reports.sheet import cell
from strongroom.framework.catalogue import Catalogue

Write = Callable[[Assessment, Catalogue], Mapping[str, bytes]]
_HERE: Final = "strongroom.assurance.reports"


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One form: the function that returns its files by name."""

    module: str
    function: str

    def writer(self) -> Write:
        """Import the function."""
        found: Write = getattr(importlib.import_module(self.module), self.function)
        return found


FORMS: Final[Mapping[str, Form]] = {
    "json": Form(module=f"{_HERE}.forms", function="as_json"),
    "csv": Form(module=f"{_HERE}.forms", function="as_csv"),
    "html": Form(module=f"{_HERE}.html", function="as_html"),
    "oscal": Form(module=f"{_HERE}.oscal", function="as_oscal"),
    "ciso": Form(module=f"{_HERE}.ciso", function="as_ciso"),
    "mappings": Form(module=f"{_HERE}.served", function="as_csv"),
}


def as_json(assessment: Assessment, _catalogue: Catalogue) -> Mapping[str, bytes]:
    """Return the canonical JSON: what the log names by its digest."""
    return {"assessment.json": assessment.to_bytes()}


def as_csv(assessment: Assessment, catalogue: Catalogue) -> Mapping[str, bytes]:
    """Return a line for each measure."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("measure", "level", "name", "state", "basis", "why", "next step", "command", "alternative"))
    for name, finding in assessment.findings.items():
        measure, step = catalogue.measures[name], finding.step
        row = (
            name,
            measure.level.value,
            measure.name,
            finding.state.value,
            finding.basis.value,
            finding.why,
            step.text if step else "",
            step.command if step else "",
            finding.alternative,
        )
        writer.writerow(map(cell, row))
    return {"assessment.csv": out.getvalue().encode()}
