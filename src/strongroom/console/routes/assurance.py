"""Assurance: the level that was found, what keeps a higher one from being held, the heat map, and reports to keep.

Everybody sees what the log says of the newest assessment. The assessment itself lists weak places: who holds none of
the roles that work on them isn't shown it, under whichever address.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Final

from strongroom.assurance.reports.forms import FORMS
from strongroom.assurance.reports.heat_map import LEGEND
from strongroom.audit.reading.query import Query
from strongroom.console.assessments import (
    READERS,
    Kept,
    Notice,
    attack_facts,
    attested_facts,
    gap_facts,
    gaps_by_level,
    map_facts,
    measure_facts,
    slug,
    standing,
    summary,
)
from strongroom.console.errors import NoPageError, NotShownError
from strongroom.console.visits import File, Page, Visit, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.errors import StrongroomError
from strongroom.core.events import EventName
from strongroom.framework.catalogue import load
from strongroom.framework.measures import MeasureCategory

ROWS: Final = 100
_RECORDED: Final = Query(event=EventName.ASSESSMENT_RECORDED)
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".yaml": "application/yaml",
}
_EARLIEST: Final = (1980, 1, 1, 0, 0, 0)


def notice_of(visit: Visit) -> Notice | None:
    """Return what the log says of the newest assessment that the index knows of."""
    found = visit.look(_RECORDED, 1)
    return Notice.of(*found.hits[-1]) if found.hits else None


def assurance(visit: Visit) -> Page:
    """Show the level, the ladder, the first gaps, the heat map, and what came of attacks."""
    notice = notice_of(visit)
    data: dict[str, Json] = {
        "notice": None if notice is None else notice.facts(visit.now),
        "behind": visit.behind,
        "readers": [*sorted(READERS)],
        "shown": bool(visit.roles & READERS),
        "given": visit.beside.assessments is not None,
        "problem": None,
        "kept": None,
    }
    if data["shown"] and visit.beside.assessments is not None:
        found = _found(visit)
        if isinstance(found, Kept):
            catalogue = load()
            data["kept"] = {
                **summary(found, catalogue, visit.now),
                "standing": standing(found, notice),
                "map": map_facts(found.assessment, catalogue),
                "classes": [[one.id, one.title] for one in catalogue.capacities.values()],
                "legend": LEGEND,
            }
        elif found is not None:
            data["problem"] = {"message": found.message, "code": found.reason, "remedy": found.remedy}
    return Page("assurance.html", "Assurance", data)


def gaps(visit: Visit) -> Page:
    """Show every gap of one level."""
    kept, catalogue = _kept(visit), load()
    found = gaps_by_level(kept.assessment, catalogue)
    level = visit.query.get("level", next(iter(found), ""))
    if level not in found and (found or level):
        raise NoPageError("nothing is missing at that level")
    data: dict[str, Json] = {
        **_head(visit, kept),
        "level": level,
        "levels": [[name, len(some)] for name, some in found.items()],
        "gaps": [gap_facts(one, catalogue) for one in found.get(level, ())],
    }
    return Page("assurance-gaps.html", "What is missing", data)


def measures(visit: Visit) -> Page:
    """Show the measures of one of RAND's categories."""
    kept, catalogue = _kept(visit), load()
    category = next((one for one in MeasureCategory if slug(one) == visit.path["category"]), None)
    if category is None:
        raise NoPageError("RAND has no such category of measures")
    rows = measure_facts(kept.assessment, catalogue, category)
    return Page("assurance-measures.html", category.value, {**_head(visit, kept), "measures": rows})


def attacks(visit: Visit) -> Page:
    """Show what the attack suite tried, and what came of it."""
    kept = _kept(visit)
    run = kept.assessment.attacks
    ordered = sorted(() if run is None else run.results, key=lambda one: one.attack)
    shown, following = page_of(ordered, lambda one: one.attack, visit.query.get("after", ""), ROWS)
    trials: list[Json] = [
        {"layer": one.layer, "stopped": len(one.stopped), "passed": [*one.passed], "independent": one.independent}
        for one in (() if run is None else run.trials)
    ]
    data: dict[str, Json] = {
        **_head(visit, kept),
        "attacks": [attack_facts(one) for one in shown],
        "next": following,
        "trials": trials,
    }
    return Page("assurance-attacks.html", "Attacks", data)


def attested(visit: Visit) -> Page:
    """Show what people signed, and what couldn't be looked at."""
    kept, catalogue = _kept(visit), load()
    made = kept.assessment
    said = sorted(made.statements, key=lambda one: str(one.digest))
    shown, following = page_of(said, lambda one: str(one.digest), visit.query.get("after", ""), ROWS)
    unseen = [one for one in made.observations if one.missing]
    blind: list[Json] = [
        {"collector": one.collector, "subject": one.subject, "why": one.missing} for one in unseen[:ROWS]
    ]
    data: dict[str, Json] = {
        **_head(visit, kept),
        "statements": [attested_facts(one, catalogue) for one in shown],
        "next": following,
        "blind": blind,
        "more_blind": len(unseen) - len(blind),
    }
    return Page("assurance-attested.html", "Attested by people", data)


def report(visit: Visit) -> File:
    """Make a report of the assessment, to be kept. One of several files comes as a zip."""
    kept, form, shelf = _kept(visit), visit.path["form"], visit.beside.assessments
    if form not in FORMS or shelf is None:
        raise NoPageError("no report is called that")
    files = shelf.report(kept, form)
    if len(files) == 1:
        ((name, data),) = files.items()
        return File(name=name, media_type=_TYPES[name[name.rindex(".") :]], data=data)
    return File(name=f"{form}.zip", media_type="application/zip", data=_zip(files))


def _zip(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            # One date for all: the same assessment gives the same bytes.
            made.writestr(zipfile.ZipInfo(name, _EARLIEST), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _head(visit: Visit, kept: Kept) -> dict[str, Json]:
    made = kept.assessment
    return {
        "digest": str(kept.digest),
        "at": format_instant(made.at),
        "goal": made.goal.value,
        "standing": standing(kept, notice_of(visit)),
    }


def _kept(visit: Visit) -> Kept:
    """Return the assessment, for whom it is shown.

    :raises NotShownError: this person holds no role that it is shown to.
    :raises NoPageError: there is none. :raises StrongroomError: what is wrong with it.
    """
    if not visit.roles & READERS:
        raise NotShownError(
            "an assessment lists weak places, and is shown to people who work on them",
            remedy=f"ask somebody with one of the roles {', '.join(sorted(READERS))}",
        )
    found = None if visit.beside.assessments is None else _found(visit)
    if found is None:
        raise NoPageError("no assessment is kept here", remedy="start the console with --assessments")
    if isinstance(found, StrongroomError):
        raise found
    return found


def _found(visit: Visit) -> Kept | StrongroomError | None:
    shelf = visit.beside.assessments
    found = None if shelf is None else shelf.newest()
    if isinstance(found, Kept) and found.assessment.genesis != visit.trust.genesis.digest:
        # Of another deployment: nothing of it is anybody's here.
        return NoPageError("the assessment that lies there is another deployment's")
    return found
