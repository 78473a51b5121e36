"""Exposure: who and what could have had a model's bytes, and when, by the entries that the log's index names.

In an incident it is entered by a signed act, which holds the answer's digest. The answer waits in the session, under
that digest: what the page shows beside the act is what the act is about. Once that is handed in, the responder keeps
the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.audit.reading.exposure import UNKNOWABLE, Holding, Window
from strongroom.audit.reading.query import read_moment
from strongroom.console.door import Draft
from strongroom.console.errors import FormError
from strongroom.console.incident_access import reader_of
from strongroom.console.routes.audit import asked_text
from strongroom.console.visits import ROWS, File, Page, Visit
from strongroom.core.canonical import Json, encode
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId, model_id
from strongroom.responder.reading import Shown
from strongroom.response.exposure import Exposed, read_answer

HELD: Final = 60
ANSWER: Final = payload_type("exposure-answer.v1")
"""An answer that waits to be saved by who had it read. Never signed itself."""


def exposure(visit: Visit) -> Page:
    """Show who and what could have had a model's bytes within a time, by the entries that the index names.

    Of a model with many, a visit reads some of them and the rest is read beside the pages: until then the page says
    what the first so many entries of the log say, and that it is no more than that.
    """
    asked = {name: text for name in ("model", "since", "until") if (text := asked_text(visit, name))}
    names: list[Json] = [*sorted(visit.trust.models)]
    data: dict[str, Json] = {"asked": {**asked}, "models": names[:ROWS], "answer": None}
    if "model" in asked:
        try:
            name = model_id(asked["model"])
        except MalformedError:
            raise FormError("that isn't a model's name") from None
        data["answer"] = _shown(visit, name, _window(visit, asked))
    return Page("exposure.html", "Exposure", data)


def exposed_now(visit: Visit, model: ModelId) -> dict[str, str | int]:
    """Read a model's exposure, keep the answer in the session, and return the facts of an act that enters it.

    :raises FormError: it isn't all read: half an answer would be a wrong one.
    """
    found = visit.reader.exposure(visit.log, model, Window())
    if not found.whole or found.reach < visit.log.size:
        raise FormError(
            f"{found.read} of {found.named} entries about `{model}` are read, and {found.reach} of"
            f" {visit.log.size} searched",
            remedy="send the form again in a moment: it is read on meanwhile",
        )
    answer = encode(found.answer.to_json())
    rules = visit.trust.egress_by_model.get(model)
    exposed = read_answer(answer, theft_bits=0 if rules is None else rules.effective_size)
    visit.me.put_draft(Draft(ANSWER, answer))
    return exposed.facts(Digest.of(answer))


def answer_of(visit: Visit, facts: Mapping[str, str | int]) -> bytes:
    """Return the answer whose digest an act holds.

    :raises NoPageError: it isn't in this session any more.
    """
    return visit.me.draft(str(facts["exposure"]).removeprefix("sha256:"), ANSWER)


def exposed_of(visit: Visit, facts: Mapping[str, str | int]) -> Exposed:
    """Return what an act enters, from the answer whose digest it holds; raises as :func:`answer_of`."""
    return read_answer(answer_of(visit, facts), theft_bits=int(facts["bound"]))


def entered(visit: Visit, shown: Shown) -> dict[str, Exposed]:
    """Return the answers that an incident's newest exposures name, by models; none where nobody has it any more.

    The responder keeps those that it read itself, and those that people handed in with their act.

    :raises BrokenRecordError: it shows another one than the record names.
    """
    found: dict[str, Exposed] = {}
    for model, read in shown.incident.exposures.items():
        draft = visit.me.drafts.get(read.answer.value.hex())
        if draft is not None and draft.payload_type == ANSWER:
            data: bytes | None = draft.payload
        else:
            data = reader_of(visit).answer(shown.incident.id, read.answer)
        if data is not None:
            found[model] = read_answer(data, theft_bits=read.bound)
    return found


def answer(visit: Visit) -> File:
    """Return an answer that this person had read for an act just now, for reports, and for whoever asks later."""
    data = visit.me.draft(visit.path["digest"], ANSWER)
    return File(name=f"exposure-{visit.path['digest']}.json", media_type="application/json", data=data)


def _shown(visit: Visit, name: ModelId, window: Window) -> Json:
    found = visit.reader.exposure(visit.log, name, window)
    told_of = found.answer
    newest = sorted(told_of.holdings, key=lambda one: one.since, reverse=True)
    people: list[Json] = [*sorted({one.person for one in newest if one.person})]
    hosts: list[Json] = [*sorted({one.platform for one in newest if one.platform is not None})]
    return {
        "read": found.read,
        "named": found.named,
        "searched": found.searched,
        "whole": found.whole,
        "through": found.through,
        "reach": found.reach,
        "size": visit.log.size,
        "people": people[:ROWS],
        "hosts": hosts[:ROWS],
        "let_out": told_of.let_out.to_json(),
        "count": len(newest),
        "holdings": [_holding(one, visit.now) for one in newest[:HELD]],
        "freezes": [one.to_json() for one in told_of.freezes[-HELD:]],
        "unknowable": [*UNKNOWABLE],
    }


def _holding(one: Holding, now: Instant) -> Json:
    return {
        **one.to_json(),
        "entries": [*one.proof[:1], *one.proof[1:][-1:]],
        "may_now": one.until is None or (one.ended is None and one.until >= now),
    }


def _window(visit: Visit, asked: Mapping[str, str]) -> Window:
    since, until = (read_moment(asked[name], now=visit.now) if name in asked else None for name in ("since", "until"))
    if since is not None and until is not None and since >= until:
        raise FormError("the time ends before it begins")
    return Window(since=since, until=until)
