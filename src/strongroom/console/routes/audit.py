"""Audit: the newest entries of the log, and each entry with the proof that it is there, checked while it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from strongroom.audit.entries import Entry
from strongroom.audit.facts import SCHEMA, Kind
from strongroom.audit.merkle import leaf_hash, verify_inclusion
from strongroom.audit.reading.exposure import EVENTS, UNKNOWABLE, ExposureFold, Holding, Window
from strongroom.audit.reading.growth import stretch
from strongroom.audit.reading.proven import Found
from strongroom.audit.reading.query import REQUESTS, Outcome, Query, outcome_of, read_moment
from strongroom.audit.reading.view import entry_at
from strongroom.console.errors import FormError
from strongroom.console.log_reader import Opened
from strongroom.console.visits import ROWS, Page, Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, model_id

COUNT: Final = 50
SEARCHED: Final = 20
"""Entries that a search shows at once: each takes calls of the log."""
HELD: Final = 60
MOST_READ: Final = 2000
"""Entries of one model that an answer about exposure rests on. Of more, the command line reads the whole log."""
CALLS: Final = 48
"""Calls of the log that one visit's answer may take."""
ASKED: Final = ("person", "model", "event", "outcome", "request", "platform", "since", "until")
MAX_ASKED: Final = 128
_MAX_DIGITS: Final = 15


def log(visit: Visit) -> Page:
    """Show entries, newest first, each proven to be in the log: all, or those that answer what is asked.

    ``before`` is the index after the last one shown. However long the log is, a page takes some calls of it.
    """
    opened, asked = visit.log, _asked(visit)
    before = min(opened.size, _number(visit.query["before"])) if "before" in visit.query else opened.size
    found = _walked(opened, before) if asked == Query() else visit.look(asked, SEARCHED, before)
    first = found.hits[0][0] if found.hits else 0
    more = first > 0 if asked == Query() else len(found.hits) == SEARCHED
    data: dict[str, Json] = {
        "size": opened.size,
        "root": str(Digest.parse(f"sha256:{opened.head.root.hex()}")),
        "asked": {name: text for name in ASKED if (text := visit.query.get(name, ""))},
        "reach": found.reach,
        "entries": [_row(index, entry) for index, entry in reversed(found.hits)],
        "older": first if more else None,
        "events": [event.value for event in EventName],
        "outcomes": [outcome.value for outcome in Outcome],
    }
    return Page("audit.html", "Audit", data)


def exposure(visit: Visit) -> Page:
    """Show who and what could have had a model's bytes within a time, by the entries that the index names.

    Entries that weren't proven yet take calls of the log: of a model with many, each visit reads some more of them.
    """
    opened = visit.log
    asked = {name: text for name in ("model", "since", "until") if (text := _text(visit, name))}
    names: list[Json] = [*sorted(visit.trust.models)]
    data: dict[str, Json] = {"asked": {**asked}, "models": names[:ROWS], "answer": None}
    if "model" in asked:
        try:
            name = model_id(asked["model"])
        except MalformedError:
            raise FormError("that isn't a model's name") from None
        data["answer"] = _exposed(visit, opened, name, _window(visit, asked))
    return Page("exposure.html", "Exposure", data)


def _exposed(visit: Visit, opened: Opened, name: ModelId, window: Window) -> Json:
    queries = [Query(model=name, event=event.value) for event in sorted(EVENTS)]
    found = visit.reader.all_of(opened, queries, MOST_READ, CALLS)
    told: dict[str, Json] = {
        "read": len(found.hits),
        "named": found.named,
        "enough": found.enough,
        "whole": found.whole,
        "reach": found.reach,
        "size": opened.size,
    }
    if not found.whole:
        return told
    fold = ExposureFold(name)
    for index, entry in found.hits:
        fold.apply(index, entry)
    answer = fold.answer(window=window)
    newest = sorted(answer.holdings, key=lambda one: one.since, reverse=True)
    people: list[Json] = [*sorted({one.person for one in newest if one.person})]
    hosts: list[Json] = [*sorted({one.platform for one in newest if one.platform is not None})]
    return {
        **told,
        "people": people[:ROWS],
        "hosts": hosts[:ROWS],
        "let_out": answer.let_out.to_json(),
        "count": len(newest),
        "holdings": [_holding(one, visit.now) for one in newest[:HELD]],
        "freezes": [one.to_json() for one in answer.freezes[-HELD:]],
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


def entry(visit: Visit) -> Page:
    """Show one entry, its place, and the audit path by which it was verified just now."""
    view, head, index = visit.log.view, visit.log.head, _number(visit.path["index"])
    data, found = entry_at(view, head, index)
    tree = view.extent(index)
    path = view.inclusion(index, tree.end)
    # Asked for again, to be shown: so it is checked again.
    verify_inclusion(index=index - tree.base, size=tree.size, leaf=leaf_hash(data), proof=path, root=tree.root)
    facts: dict[str, Json] = {}
    for name, value in found.facts.items():
        facts[name] = (
            [str(item) for item in value] if isinstance(value, tuple) else None if value is None else str(value)
        )
    told: dict[str, Json] = {
        **_row(index, found),
        "seq": found.seq,
        "facts": facts,
        "links": _links(found),
        "leaf": leaf_hash(data).hex(),
        "path": [one.hex() for one in path],
        "shard": {"base": tree.base, "end": tree.end, "root": tree.root.hex()},
        "log_size": head.size,
        "last": head.size - 1,
    }
    return Page("entry.html", f"Log entry {index}", told)


def _row(index: int, entry: Entry) -> dict[str, Json]:
    model, request = (entry.facts.get(name) for name in ("model", "request"))
    return {
        "index": index,
        "event": entry.event.value,
        "at": format_instant(entry.at),
        "by": entry.by.value,
        "outcome": outcome_of(entry.event).value,
        "model": model if isinstance(model, str) else None,
        "request": None if request is None else str(request),
    }


def _links(entry: Entry) -> dict[str, Json]:
    """Return where a fact's value leads: to what it names, or to the other entries that name it."""
    links: dict[str, Json] = {}
    for name, kind in SCHEMA[entry.event].items():
        value = entry.facts[name]
        values = [str(one) for one in (value if isinstance(value, tuple) else (value,)) if one is not None]
        if kind is Kind.MODEL:
            links |= {one: f"/models/{quote(one)}" for one in values}
        elif kind in {Kind.PERSON, Kind.PERSONS}:
            links |= {one: f"/audit?person={quote(one)}" for one in values}
        elif kind is Kind.PLATFORM:
            links |= {one: f"/audit?platform={quote(one)}" for one in values}
        elif kind is Kind.DIGEST and name in REQUESTS:
            links |= {one: f"/requests/{one.removeprefix('sha256:')}" for one in values}
    return links


def _walked(opened: Opened, before: int) -> Found:
    """Return the entries just before a place, whatever they are."""
    start, found = max(0, before - COUNT), list[tuple[int, Entry]]()
    while start < before:
        part = stretch(opened.view, opened.head, start, before - start)
        found += part
        start += len(part)
    return Found(tuple(found), opened.size)


def _asked(visit: Visit) -> Query:
    given = {name: text for name in ASKED if (text := _text(visit, name))}
    since, until = (read_moment(given[name], now=visit.now) if name in given else None for name in ("since", "until"))
    try:
        outcome = Outcome(given["outcome"]) if "outcome" in given else None
    except ValueError:
        raise FormError("outcomes are chosen from the list") from None
    traits = {name: given.get(name) for name in ("person", "model", "request", "platform", "event")}
    return Query(**traits, outcome=outcome, since=since, until=until)


def _text(visit: Visit, name: str) -> str:
    text = visit.query.get(name, "").strip()
    if len(text) > MAX_ASKED:
        raise FormError(f"`{name}` is longer than anything that the log names")
    return text


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise FormError("an entry is named by its number")
    return int(text)
