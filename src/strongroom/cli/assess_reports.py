"""The forms in which an assessment is written out, by name; each is imported when it is asked for."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.reports.sheet import cell
from strongroom.cli.session import write_file
from strongroom.core.errors import UsageError
from strongroom.framework.catalogue import Catalogue

Write = Callable[[Assessment, Catalogue], Mapping[str, bytes]]
_PURE: Final = "strongroom.assurance.reports"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One form: the function that returns its files by name."""

    module: str
    function: str

    def writer(self) -> Write:
        """Import the function."""
        found: Write = getattr(importlib.import_module(self.module), self.function)
        return found


REPORTS: Final[Mapping[str, Report]] = {
    "json": Report(module=__name__, function="as_json"),
    "csv": Report(module=__name__, function="as_csv"),
    "html": Report(module=f"{_PURE}.html", function="as_html"),
    "oscal": Report(module=f"{_PURE}.oscal", function="as_oscal"),
    "ciso": Report(module=f"{_PURE}.ciso", function="as_ciso"),
    "mappings": Report(module=f"{_PURE}.served", function="as_csv"),
}


def wanted(text: str) -> tuple[str, ...]:
    """Return the names in ``json,csv``.

    :raises UsageError: one isn't known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in REPORTS:
            raise UsageError(f"no report is called `{name[:32]}`", remedy=f"there are {', '.join(REPORTS)}")
    return names


def write_reports(names: Iterable[str], assessment: Assessment, catalogue: Catalogue, folder: Path) -> list[Path]:
    """Write reports into a folder, and return their files."""
    written = []
    for name in names:
        for file, data in REPORTS[name].writer()(assessment, catalogue).items():
            write_file(folder / file, data)
            written.append(folder / file)
    return written


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
