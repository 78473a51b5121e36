"""Incidents: which there are, one with all that is known of it, and its files. Shown to those who may see them."""

from __future__ import annotations

import json
import re
from typing import Final

from strongroom.audit.reading.query import Query
from strongroom.console import incident_facts
from strongroom.console.errors import NoPageError
from strongroom.console.incident_access import by_desk, reader_of, require_may_see, shown_of, signable
from strongroom.console.visits import File, Page, Visit, entry_number, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import LATEST, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError
from strongroom.core.events import EventName
from strongroom.core.printable import printable
from strongroom.responder.people import may_act
from strongroom.responder.reading import Brief, DeskReader, Listed, Shown
from strongroom.response.drills import Measured, measure, planned_at_once
from strongroom.response.exports import Form, exported, title
from strongroom.response.incident import BrokenRecordError
from strongroom.response.subjects import SubjectKind

ENTRIES: Final = 30
"""Entries of a record on one page."""
MAX_SHOWN: Final = 60_000
"""Characters of what somebody wrote that a page shows."""
MAX_BROKEN: Final = 20
LOOKED: Final = 20
"""Entries of the log about records that are looked at for this one's: each may take a call of the log."""
_RECORDED: Final = Query(event=EventName.INCIDENT_RECORDED.value)
_KEPT: Final = re.compile(
    r"(?:evidence|draft)-[0-9a-z-]{1,64}\.json|exposure-([0-9a-f]{64})\.json|words-([0-9a-f]{64})"
)
_NAMED: Final = ("note", "report", "lessons", "exposure")
"""Facts that name, by its digest, what is kept."""


def incidents(visit: Visit) -> Page:
    """Show incidents: open ones first, the newest first among them."""
    empty: dict[str, Json] = {"incidents": [], "next": "", "broken": [], "more_broken": 0}
    return Page("incidents.html", "Incidents", by_desk(visit, empty, _listed))


def _listed(visit: Visit, reader: DeskReader) -> dict[str, Json]:
    listed, broken = reader.incidents()
    shown, following = page_of(sorted(listed, key=place), place, visit.query.get("after", ""))
    rows: list[Json] = [one.to_json() for one in shown]
    unread: list[Json] = [[name, code] for name, code in sorted(broken.items())[:MAX_BROKEN]]
    return {
        "incidents": rows,
        "next": following,
        "broken": unread,
        "more_broken": max(0, len(broken) - MAX_BROKEN),
    }


def place(one: Listed) -> str:
    """Return what incidents are listed by: open ones before closed ones, then the newest, then the id."""
    return f"{'o' if one.is_open else 'x'}{LATEST - one.opened:012d}{one.incident}"


def incident(visit: Visit) -> Page:
    """Show one incident, with the newest entries of its record; ``before`` is the number after the last one shown."""
    require_may_see(visit)
    # The log first: what it names then, the record has to have.
    _head = visit.log
    shown = shown_of(visit)
    about = shown.incident
    before = min(about.size, entry_number(visit.query["before"])) if "before" in visit.query else about.size
    start = max(0, before - ENTRIES)
    acts, here, said = may_act(visit.trust, visit.me.person), signable(visit, about.subject), logged(visit, shown)
    data: dict[str, Json] = {
        **incident_facts.told(
            shown,
            visit.beside.playbooks,
            person=visit.me.person,
            here=lambda subject: signable(visit, subject),
            now=visit.now,
        ),
        "entries": [incident_facts.entry(one) for one in reversed(shown.entries[start:before])],
        "older": start if start > 0 else None,
        "newest": before == about.size,
        "measured": None if (told := measured(visit, shown)) is None else told.to_json(),
        "model": _model(visit, shown),
        "logged": said,
        "may_act": acts,
        "signable": here,
        "acts": acts and here and about.is_open and not (said and not said["same"]),
        "forms": [form.value for form in Form],
    }
    return Page("incident.html", title(about), data)


def measured(visit: Visit, shown: Shown | Brief) -> Measured | None:
    """Return what a drill came to; None for what isn't one, or practises no playbook that comes with the program."""
    book = next(
        (one for one in visit.beside.playbooks.values() if shown.token and one.name == shown.token.playbook), None
    )
    return None if book is None else measure(shown.entries, planned_at_once(book))


def _model(visit: Visit, shown: Shown) -> Json:
    """Return the model that an incident is about, and whether it is frozen; None for others and for stand-ins."""
    subject = shown.incident.subject
    known = {str(name): status.frozen for name, status in visit.trust.models.items()}
    if subject.kind is not SubjectKind.MODEL or subject.name not in known:
        return None
    return {"model": subject.name, "frozen": known[subject.name]}


def logged(visit: Visit, shown: Shown) -> dict[str, Json] | None:
    """Hold a record to what the log says of it: the newest entry among those looked at; None where none is."""
    for index, entry in reversed(visit.look(_RECORDED, LOOKED).hits):
        if entry.text("incident") == shown.incident.id:
            count = entry.integer("entries")
            same = 0 < count <= len(shown.entries) and str(shown.entries[count - 1].digest) == entry.text("entry")
            return {"index": index, "at": format_instant(entry.at), "entries": count, "same": same}
    return None


def export(visit: Visit) -> File:
    """Return an incident in another system's form, JSON."""
    shown = shown_of(visit)
    try:
        form = Form(visit.path["form"])
    except ValueError:
        raise NoPageError("incidents are exported in no such form") from None
    made = exported(form, shown.incident, shown.entries, now=visit.now)
    data = json.dumps(made, indent=2, ensure_ascii=False).encode()
    return File(name=f"{shown.incident.id}.{form.value}.json", media_type="application/json", data=data)


def kept(visit: Visit) -> File:
    """Return a file that the responder keeps: evidence as the record names it, a draft, or what somebody wrote."""
    shown, name = shown_of(visit), visit.path["name"]
    found = _KEPT.fullmatch(name)
    if found is None:
        raise NoPageError("nothing is kept under such a name")
    for digest in filter(None, found.groups()):
        _require_named(shown, Digest.parse(f"sha256:{digest}"))
    try:
        data = reader_of(visit).kept(shown.incident.id, name)
    except NotFoundError:
        raise NoPageError("nothing is kept under that name") from None
    if name.startswith("evidence-") and Digest.of(data) not in shown.incident.evidence:
        raise BrokenRecordError("the responder shows other evidence than the record names")
    if name.startswith("words-"):
        return File(name=f"{name}.md", media_type="text/markdown; charset=utf-8", data=data)
    return File(name=name, media_type="application/json", data=data)


def words(visit: Visit) -> Page:
    """Show what somebody wrote: a note, a report, or what was learned."""
    shown, digest = shown_of(visit), visit.digest("digest")
    _require_named(shown, digest)
    try:
        text = reader_of(visit).words(shown.incident.id, digest).decode("utf-8", "backslashreplace")
    except NotFoundError:
        raise NoPageError("no such words are kept in this incident") from None
    # Which clock's draft it is: from there it may be entered as sent.
    clock = next((name for name, one in shown.incident.drafts.items() if one == digest), "")
    data: dict[str, Json] = {
        "incident": shown.incident.id,
        "title": title(shown.incident),
        "digest": str(digest),
        "hex": visit.path["digest"],
        "lines": [printable(line) for line in text[:MAX_SHOWN].split("\n")],
        "cut": len(text) > MAX_SHOWN,
        "clock": clock,
    }
    return Page("words.html", "What was written", data)


def _require_named(shown: Shown, digest: Digest) -> None:
    # Else a responder in other hands shows anybody's words, under a heading that says that the record names them.
    if not any(one.facts.get(name) == str(digest) for one in shown.entries for name in _NAMED):
        raise NoPageError("nothing of that digest is named in this incident's record")
