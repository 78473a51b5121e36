"""Reports of an assessment, written into a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from strongroom.assurance.assessment import Assessment
from strongroom.assurance.reports.forms import FORMS
from strongroom.cli.session import write_file
from strongroom.core.errors import UsageError
from strongroom.framework.catalogue import Catalogue


def wanted(text: str) -> tuple[str, ...]:
    """Return the names in ``json,csv``.

    :raises UsageError: one isn't known.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FORMS:
            raise UsageError(f"no report is called `{name[:32]}`", remedy=f"there are {', '.join(FORMS)}")
    return names


def write_reports(names: Iterable[str], assessment: Assessment, catalogue: Catalogue, folder: Path) -> list[Path]:
    """Write reports into a folder, and return their files."""
    written = []
    for name in names:
        for file, data in FORMS[name].writer()(assessment, catalogue).items():
            write_file(folder / file, data)
            written.append(folder / file)
    return written
