"""Audit: the newest entries of the log, and each entry with the proof that it is there, checked while it is shown."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from strongroom.audit.entries import Entry
from strongroom.audit.facts import SCHEMA, Kind
from strongroom.audit.merkle import leaf_hash, verify_inclusion
from strongroom.audit.reading.proven import Found
from strongroom.audit.reading.query import REQUESTS, Outcome, Query, outcome_of, read_moment
from strongroom.audit.reading.view import entry_at
from strongroom.console.errors import FormError
from strongroom.console.visits import Page, Visit, entry_number
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName

COUNT: Final = 50
SEARCHED: Final = 20
"""Entries that a search shows at once: each takes calls of the log."""
ASKED: Final = ("person", "model", "event", "outcome", "request", "platform", "since", "until")
MAX_ASKED: Final = 128


def log(visit: Visit) -> Page:
    """Show entries, newest first, each proven to be in the log: all, or those that answer what is asked.

    ``before`` is the index after the last one that was looked at. However long the log is, a page takes some calls of
    it, and looks through some thousand entries of what is asked for: ``older`` is where the next one goes on.
    """
    opened, asked = visit.log, _asked(visit)
    before = min(opened.size, entry_number(visit.query["before"])) if "before" in visit.query else opened.size
    everything = asked == Query()
    found = _walked(visit, before) if everything else visit.reader.search(opened, asked, SEARCHED, before)
    enough = len(found.hits) == (COUNT if everything else SEARCHED)
    older = found.hits[0][0] if enough else found.looked
    data: dict[str, Json] = {
        "size": opened.size,
        "root": str(Digest.parse(f"sha256:{opened.head.root.hex()}")),
        "asked": {name: text for name in ASKED if (text := visit.query.get(name, ""))},
        "reach": found.reach,
        "entries": [_row(index, entry) for index, entry in reversed(found.hits)],
        "older": older or None,
        "further": bool(older) and not enough,
        "events": [event.value for event in EventName],
        "outcomes": [outcome.value for outcome in Outcome],
    }
    return Page("audit.html", "Audit", data)


def entry(visit: Visit) -> Page:
    """Show one entry, its place, and the audit path by which it was verified just now."""
    view, head, index = visit.log.view, visit.log.head, entry_number(visit.path["index"])
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
        elif name == "delivery":
            links |= {one: f"/intake/{quote(one)}" for one in values}
        elif kind is Kind.DIGEST and name in REQUESTS:
            links |= {one: f"/requests/{one.removeprefix('sha256:')}" for one in values}
    return links


def _walked(visit: Visit, before: int) -> Found:
    """Return the entries just before a place, whatever they are."""
    opened, places = visit.log, range(max(0, before - COUNT), before)
    found = visit.reader.proven.read(opened.view, opened.head, places)
    return Found(tuple(sorted(found.items())), opened.size)


def _asked(visit: Visit) -> Query:
    given = {name: text for name in ASKED if (text := asked_text(visit, name))}
    since, until = (read_moment(given[name], now=visit.now) if name in given else None for name in ("since", "until"))
    try:
        outcome = Outcome(given["outcome"]) if "outcome" in given else None
    except ValueError:
        raise FormError("outcomes are chosen from the list") from None
    traits = {name: given.get(name) for name in ("person", "model", "request", "platform", "event")}
    return Query(**traits, outcome=outcome, since=since, until=until)


def asked_text(visit: Visit, name: str) -> str:
    """Return what is asked under a name, or "".

    :raises FormError: it is too long.
    """
    text = visit.query.get(name, "").strip()
    if len(text) > MAX_ASKED:
        raise FormError(f"`{name}` is longer than anything that the log names")
    return text
