"""Intake: what suppliers delivered, where each delivery stands, what its gate found, and reviews by security key.

The log says how far a delivery has come. What the gate found is read from the delivery's own folder, if this console
was given it, and shown only where the log names every record in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from shlex import quote
from typing import Final

from strongroom.audit.reading.query import Query
from strongroom.console.browser_wallet import ASSERTION_FIELDS, read_assertion
from strongroom.console.deliveries import READERS, Found, Logged, fits, fold, judged_by
from strongroom.console.door import Draft
from strongroom.console.errors import NoPageError, NotShownError
from strongroom.console.forms import need_fields
from strongroom.console.signing_in import to_sign
from strongroom.console.visits import File, GoTo, Page, Visit, entry_number, page_of, require_signable, signable
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.envelope import Envelope, payload_type, sign
from strongroom.core.errors import ConflictError, StrongroomError
from strongroom.core.ids import model_id, person_id
from strongroom.core.printable import printable
from strongroom.intake.reviews import REVIEW_TYPE, REVIEWER, Decision, Review
from strongroom.intake.states import State
from strongroom.intake.verdict import DeliveredFile
from strongroom.personnel.roster import UnknownPersonError
from strongroom.quarantine.gate import review_of
from strongroom.release.errors import STATEMENT_KNOWN
from strongroom.release.statements import StatementKind

ROWS: Final = 100
LISTED: Final = 20
"""Deliveries on one page."""
LOOKED_AT: Final = 60
"""Entries about deliveries that one page looks at for them: each takes calls of the log."""
STEPS: Final = 200
"""Entries of one delivery: it has seven states, and one review by each person."""
MOST_FACTS: Final = 12
MAX_FACT: Final = 200
_EVENTS: Final = Query(event="intake:delivery")
SIGNED: Final = payload_type("signed-intake-review.v1")
"""A signed review that waits to be saved by who signed it. Never signed itself."""
_WAITS: Final = {
    State.RECEIVED.value: "its operator goes on with it",
    State.HASHED.value: "its operator goes on with it",
    State.SIGNATURE_VERIFIED.value: "its operator goes on with it",
    State.FORMATS_CHECKED.value: "its operator goes on with it",
    State.SCANNED.value: "people review it",
    State.REVIEWED.value: "its operator seals it",
    State.SEALED.value: "",
    State.QUARANTINED.value: "",
}


def intake(visit: Visit) -> Page:
    """Show deliveries, what moved last first: where each stands, and what comes next.

    ``before`` is the index of the last entry that the page before looked at. A delivery stands on the one page that
    looks at its newest entry.
    """
    size = visit.log.size
    before = min(size, entry_number(visit.query["before"])) if "before" in visit.query else size
    looked, rows, older = visit.look(_EVENTS, LOOKED_AT, before).hits, list[Json](), before
    for index, entry in reversed(looked):
        if len(rows) == LISTED:
            break
        older = index
        one = _logged(visit, entry.text("delivery"))
        if one is not None and one.newest == index:
            rows.append(_summary(one))
    data: dict[str, Json] = {
        "deliveries": rows,
        # Where fewer were there than are looked at, nothing is before them.
        "older": older if looked and (len(looked) == LOOKED_AT or older > looked[0][0]) else None,
        "newest": "before" not in visit.query,
        "behind": visit.behind,
        "given": visit.beside.deliveries is not None,
    }
    return Page("intake.html", "Intake", data)


def delivery(visit: Visit) -> Page:
    """Show one delivery: its records in the log, and what the gate found."""
    logged = _one(visit)
    may = bool(visit.roles & READERS)
    found, problem = _in_folder(visit, logged) if may else (None, None)
    data: dict[str, Json] = {
        **_summary(logged),
        "behind": visit.behind,
        "steps": [
            {
                "index": one.index,
                "state": one.state,
                "at": format_instant(one.at),
                "record": one.record,
                "artifact": one.artifact,
            }
            for one in logged.steps
        ],
        "reviews": [
            {
                "index": one.index,
                "reviewer": one.reviewer,
                "decision": one.decision,
                "at": format_instant(one.at),
            }
            for one in logged.reviews
        ],
        "readers": [*sorted(READERS)],
        "shown": may,
        "given": visit.beside.deliveries is not None,
        "problem": None if problem is None else {"message": printable(problem.message), "code": problem.reason},
        "found": None if found is None else _findings(visit, logged, found),
        "review": None if found is None else _reviewing(visit, logged, found),
        "signed": _signed_name(visit),
    }
    return Page("delivery.html", f"Delivery {logged.delivery}", data)


def accept(visit: Visit) -> GoTo:
    """Hand in a review that lets a delivery in, signed by the person's key."""
    return _review(visit, Decision.ACCEPT)


def deny(visit: Visit) -> GoTo:
    """Hand in a review that refuses a delivery for good, signed by the person's key."""
    return _review(visit, Decision.DENY)


def signed_review(visit: Visit) -> File:
    """Return the review that this person signed just now, for the delivery's operator."""
    payload = visit.me.draft(visit.path["digest"], SIGNED)
    return File(name=f"review-{visit.me.person}.json", media_type="application/json", data=payload)


def _review(visit: Visit, decision: Decision) -> GoTo:
    need_fields(visit.form, ASSERTION_FIELDS)
    logged = _one(visit)
    # First: what is wrong with a folder is told to nobody else.
    if not _may_review(visit, logged):
        raise NotShownError("this delivery isn't yours to review here")
    found, problem = _in_folder(visit, logged)
    if found is None:
        raise problem or NoPageError("no folder here is this delivery's")
    require_signable(visit.trust, model_id(logged.model))
    said = review_of(found.terms, found.standing, visit.me.person, decision)
    envelope = sign(REVIEW_TYPE, said.to_bytes(), read_assertion(visit.form, visit.me.keys, visit.origin))
    try:
        visit.session.api.hand_in(StatementKind.INTAKE_REVIEW, envelope)
    except ConflictError as error:
        # Signed anew for the file alone, or the first answer was lost.
        if error.reason != STATEMENT_KNOWN:
            raise
    name = visit.me.put_draft(Draft(SIGNED, envelope.to_bytes()))
    return GoTo(f"/intake/{logged.delivery}?signed={name}")


def _may_review(visit: Visit, logged: Logged) -> bool:
    waits = logged.state == State.SCANNED and not logged.denied
    return waits and REVIEWER in visit.roles and visit.me.person != logged.operator


def _reviewing(visit: Visit, logged: Logged, found: Found) -> Json:
    """Return what this person may sign of a delivery, for which decision; None where it is nothing."""
    if not _may_review(visit, logged):
        return None
    if not signable(visit.trust, model_id(logged.model)):
        return {"here": False, "accept": None, "deny": None, "again": False}
    keys = visit.me.keys.keys
    names = [one.credential_id for one in keys]
    told: dict[str, Json] = {"here": True}
    for decision in Decision:
        said = review_of(found.terms, found.standing, visit.me.person, decision)
        told[decision.value] = to_sign(REVIEW_TYPE, said.to_bytes(), keys[0].key.credential.rp_id, names)
    told["again"] = any(one.reviewer == visit.me.person for one in logged.reviews)
    return told


def _signed_name(visit: Visit) -> str:
    name = visit.query.get("signed", "")
    draft = visit.me.drafts.get(name)
    if draft is None or draft.payload_type != SIGNED:
        return ""
    said = Review.parse(Envelope.parse(draft.payload).payload)
    return name if said.delivery == visit.path["delivery"] else ""


def _logged(visit: Visit, delivery: str) -> Logged | None:
    """Return a delivery, if the index knows of its beginning."""
    return fold(visit.look(Query(delivery=delivery), STEPS).hits).get(delivery)


def _one(visit: Visit) -> Logged:
    found = _logged(visit, visit.path["delivery"])
    if found is None:
        raise NoPageError(
            "what this console knows of the log tells of no such delivery",
            remedy="strongroom audit ls --delivery ID reads the whole log",
        )
    return found


def _summary(one: Logged) -> dict[str, Json]:
    last = one.steps[-1]
    return {
        "delivery": one.delivery,
        "model": one.model,
        "operator": one.operator,
        "state": one.state,
        "open": one.open,
        "denied": one.denied,
        "accepted": len({said.reviewer for said in one.reviews if said.decision == Decision.ACCEPT}),
        "waits": "its operator records the denial" if one.denied and one.open else _WAITS.get(one.state, ""),
        "at": format_instant(last.at),
        "index": last.index,
    }


def _in_folder(visit: Visit, logged: Logged) -> tuple[Found | None, StrongroomError | None]:
    """Return what lies in the delivery's folder, if its records are the log's; else what is wrong, if anything is."""
    shelf = visit.beside.deliveries
    problem: StrongroomError | None = None
    for one in () if shelf is None else shelf.find(logged.delivery):
        if isinstance(one, StrongroomError):
            problem = one
        elif one.terms.genesis != visit.trust.genesis.digest or not fits(one, logged):
            problem = ConflictError(
                "the records in the delivery's folder aren't those that the log names",
                remedy="load the page again in a moment; if it stays so, somebody changed the folder",
                reason="intake-records-differ",
            )
        else:
            return one, None
    return None, problem


def _findings(visit: Visit, logged: Logged, found: Found) -> Json:
    terms, last = found.terms, found.standing.last
    shown, following = page_of(found.files, lambda one: one.name, visit.query.get("after", ""), ROWS)
    records: list[Json] = [
        {
            "state": one.state.value,
            "waived": one.waived,
            "tools": [f"{tool.name} {tool.version}" for tool in one.tools],
            "documents": [str(digest) for digest in one.documents],
        }
        for one in found.standing.records
    ]
    return {
        "folder": printable(found.name),
        # Somebody else's text, in commands that people copy: it is never an option of theirs.
        "argument": quote(f"./{printable(found.name)}"),
        "rule": None if last.rule is None else last.rule.value,
        "signature_asked": terms.signature is not None,
        "scanners": [f"{one.name} {one.version}" for one in terms.rules.scanners],
        "reviews_needed": terms.rules.reviews,
        "leave_out": [*sorted(terms.leave_out)],
        "converted": terms.converted_from is not None,
        "records": records,
        "files": [*_files(found, shown)],
        "count": len(found.files),
        "bytes": sum(one.size for one in found.files),
        "next": following,
        "verdict": _verdict(visit, logged, found),
    }


def _files(found: Found, shown: Iterable[DeliveredFile]) -> Iterator[Json]:
    for one in shown:
        checked = found.checks.get(one.name)
        facts = checked[1] if checked is not None and isinstance(checked[1], dict) else {}
        yield {
            "name": one.name,
            "bytes": one.size,
            "sha256": one.digest.value.hex(),
            "format": None if checked is None else checked[0].value,
            # Of a pickle these are the names of what it would call: a page of them is no page.
            "facts": [[name, _short(value)] for name, value in sorted(facts.items())],
        }


def _short(value: Json) -> str:
    parts = value if isinstance(value, list) else [value]
    text = ", ".join(str(one) for one in parts[:MOST_FACTS])
    more = len(parts) - MOST_FACTS
    return f"{text[:MAX_FACT]}{'…' if len(text) > MAX_FACT else ''}{f' and {more} more' if more > 0 else ''}"


def _verdict(visit: Visit, logged: Logged, found: Found) -> Json:
    roster = visit.trust.roster
    try:
        operator = None if roster is None else roster.person(person_id(logged.operator))
        verdict = None if operator is None else judged_by(found, operator)
    except UnknownPersonError:
        return {"word": "", "problem": "the roster in force doesn't list its operator any more"}
    except StrongroomError as error:
        return {"word": "", "problem": error.message}
    if verdict is None:
        return None
    return {"word": "accepted" if verdict.accepted else "refused", "problem": ""}
