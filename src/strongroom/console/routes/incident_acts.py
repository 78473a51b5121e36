"""What people do in incidents, signed in the browser: a form for each kind of act, the bytes, and handing them in.

An act from here is the same object that ``strongroom incident`` makes. The responder judges who signed it, and takes it
once; this console only shows and passes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote_plus

from strongroom.console.act_forms import TITLES, ActForm, Field, form_of, read_act
from strongroom.console.browser_wallet import ASSERTION_FIELDS, read_assertion
from strongroom.console.door import Draft
from strongroom.console.errors import NoPageError, NotShownError
from strongroom.console.forms import MAX_FORM, need_fields
from strongroom.console.incident_access import reader_of, require_signable, shown_of
from strongroom.console.routes.exposure import answer_of, entered, exposed_now, exposed_of
from strongroom.console.routes.incidents import logged
from strongroom.console.signing_in import to_sign
from strongroom.console.visits import GoTo, Page, Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.envelope import sign
from strongroom.core.ids import model_id
from strongroom.core.printable import printable
from strongroom.responder.people import may_act
from strongroom.responder.reading import Shown
from strongroom.response.acts import (
    ACT_KNOWN,
    ACT_TYPE,
    FRESH_SECONDS,
    NONCE_BYTES,
    Act,
    ActKind,
    ActRefusedError,
    said_of,
)
from strongroom.response.exports import title
from strongroom.response.incident import BrokenRecordError
from strongroom.response.subjects import Subject, SubjectKind

MAX_DRAFTED: Final = MAX_FORM - 4096
"""Bytes of a draft, as a form sends it, that may be filled in: a form that is cut short would be entered as sent."""

MAX_HOLDERS: Final = 20
"""Who could have had the bytes, named one by one before it is signed; the rest is counted, and all in the file."""
_EXPOSED: Final = {
    "model": "The model",
    "exposure": "The answer",
    "bits": "Bits that left",
    "bound": "Bits that a thief needs (0: unknown)",
    "people": "People",
    "hosts": "Machines",
    "holders": "Could have had them",
}


def ask(visit: Visit) -> Page:
    """Show the form of an act."""
    shown, form = _form(visit)
    drafted = _drafted(visit, shown, form)
    # Browsers send each end of a line as two characters.
    fits = len(quote_plus(drafted.replace("\n", "\r\n"))) <= MAX_DRAFTED
    data: dict[str, Json] = {
        "incident": shown.incident.id,
        "title": title(shown.incident),
        "kind": form.kind.value,
        "what": TITLES[form.kind],
        "about": form.about,
        "fields": [field.to_json() for field in _filled(form, drafted if fits else "")],
        "too_long": not fits,
        "query": {name: value for name, value in visit.query.items() if name in {"key", "clock"}},
    }
    return Page("act-form.html", TITLES[form.kind], data)


def _drafted(visit: Visit, shown: Shown, form: ActForm) -> str:
    """Return what the words of this act begin as: of what was sent, the draft of its clock, for people to fill in."""
    clock = next((field.given for field in form.fields if field.name == "clock"), "")
    drafted = shown.incident.drafts.get(clock)
    if form.kind is not ActKind.SENT or drafted is None:
        return ""
    return reader_of(visit).words(shown.incident.id, drafted).decode("utf-8", "replace")


def _filled(form: ActForm, words: str) -> Iterator[Field]:
    for field in form.fields:
        yield replace(field, value=words) if field.name == "words" else field


def draft(visit: Visit) -> GoTo:
    """Make the act that a form describes, and show it to be signed."""
    shown, form = _form(visit)
    exposed = entered(visit, shown) if form.kind is ActKind.DRAFT else {}
    facts, found = read_act(form, visit.form, shown, now=visit.now, exposed=exposed)
    if form.kind is ActKind.EXPOSE:
        facts = exposed_now(visit, model_id(str(facts["model"])))
    _require_here(visit, facts)
    made = Act(
        genesis=visit.trust.genesis.digest,
        incident=shown.incident.id,
        person=visit.me.person,
        at=visit.now,
        kind=form.kind,
        nonce=visit.random_bytes(NONCE_BYTES),
        facts=facts,
        found=found,
    )
    # What is signed is what every reader parses: an act that nobody could read is refused here.
    payload = made.to_bytes()
    Act.parse(payload)
    return GoTo(f"/incidents/{shown.incident.id}/acts/{visit.me.put_draft(Draft(ACT_TYPE, payload))}")


def _form(visit: Visit) -> tuple[Shown, ActForm]:
    shown = shown_of(visit)
    try:
        kind = ActKind(visit.path["kind"])
    except ValueError:
        raise NoPageError("there is no such act") from None
    if not may_act(visit.trust, visit.me.person):
        # The responder would refuse it; whoever only looks isn't led to touch a key for nothing.
        raise NotShownError("acts in incidents are for people with the role `responder`, and approvers of a resume")
    require_signable(visit, shown.incident.subject)
    said = logged(visit, shown)
    if said is not None and not said["same"]:
        raise BrokenRecordError("the log names another record than the responder shows")
    # What the way here fixed stands in the address, for the page; in the form, for what is sent.
    fixed = {name: visit.form[name] for name in ("key", "clock") if name in visit.form} or visit.query
    return shown, form_of(kind, shown, visit.beside.playbooks, fixed, models=visit.trust.models)


def _require_here(visit: Visit, facts: Mapping[str, str | int]) -> None:
    """Check that what an act says is signed here: it may be about something else than its incident."""
    if "subject" in facts:
        require_signable(visit, Subject.parse(str(facts["subject"])))
    if "exposure" in facts:
        require_signable(visit, Subject(SubjectKind.MODEL, exposed_of(visit, facts).model))


def act(visit: Visit) -> Page:
    """Show an act that waits for its signature."""
    shown, made = _draft(visit)
    payload = made.to_bytes()
    keys = visit.me.keys.keys
    words = str(made.facts.get("words", ""))
    exposed = exposed_of(visit, made.facts) if made.kind is ActKind.EXPOSE else None
    data: dict[str, Json] = {
        "incident": shown.incident.id,
        "title": title(shown.incident),
        "what": TITLES[made.kind],
        "hex": visit.path["digest"],
        "lines": [[name, value] for name, value in _lines(made)],
        "about": _about(shown, made) if exposed is None else f"what the log says of {exposed.model}",
        "words": [printable(line) for line in words.split("\n")] if words else [],
        "holders": [] if exposed is None else [*exposed.lines()[:MAX_HOLDERS]],
        "more_holders": 0 if exposed is None else max(0, int(made.facts["holders"]) - MAX_HOLDERS),
        "answer": "" if exposed is None else str(made.facts["exposure"]).removeprefix("sha256:"),
        "until": format_instant(made.at + FRESH_SECONDS),
        "sign": to_sign(ACT_TYPE, payload, keys[0].key.credential.rp_id, [one.credential_id for one in keys]),
    }
    return Page("act.html", "Sign what you do", data)


def _lines(made: Act) -> Iterator[tuple[str, str]]:
    for name, value in made.facts.items():
        if name != "words":
            yield _EXPOSED.get(name, name), str(value)
    for name, value in made.found.items():
        yield f"sets {name}", value


def _about(shown: Shown, made: Act) -> str:
    """Return what an act agrees to or answers, by the act itself: it's that which is signed.

    :raises NoPageError: it answers a question that isn't asked any more.
    """
    if "asked" not in made.facts:
        return f"{made.facts['action']} of {made.facts['subject']}" if "action" in made.facts else ""
    for one in shown.waits:
        if said_of(one.pending).items() <= made.facts.items():
            return one.pending.text
    raise NoPageError("what you were asked doesn't wait any more", remedy="load the incident again")


def submit(visit: Visit) -> GoTo:
    """Hand in an act that the person's key signed."""
    need_fields(visit.form, ASSERTION_FIELDS)
    shown, made = _draft(visit)
    require_signable(visit, shown.incident.subject)
    _require_here(visit, made.facts)
    signature = read_assertion(visit.form, visit.me.keys, visit.origin)
    # Looked up first: an answer that isn't here any more can't be handed in behind the act that names it.
    answer = answer_of(visit, made.facts) if made.kind is ActKind.EXPOSE else b""
    reader = reader_of(visit)
    try:
        reader.hand_in(sign(ACT_TYPE, made.to_bytes(), signature))
    except ActRefusedError as error:
        # Taken before, and its answer was lost behind it: that is handed in again.
        if not answer or error.reason != ACT_KNOWN:
            raise
    if answer:
        reader.hand_in_answer(shown.incident.id, answer)
    visit.me.drafts.pop(visit.path["digest"], None)
    return GoTo(f"/incidents/{shown.incident.id}")


def _draft(visit: Visit) -> tuple[Shown, Act]:
    shown = shown_of(visit)
    made = Act.parse(visit.me.draft(visit.path["digest"], ACT_TYPE))
    if made.incident != shown.incident.id:
        raise NoPageError("nothing waits here for your signature", remedy="make it anew")
    return shown, made
