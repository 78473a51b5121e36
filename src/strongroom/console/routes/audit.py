"""Audit: the newest entries of the log, and each entry with the proof that it is there, checked while it is shown."""

from __future__ import annotations

from typing import Final

from strongroom.audit.entries import Entry
from strongroom.audit.merkle import leaf_hash, verify_inclusion
from strongroom.audit.reading.growth import stretch
from strongroom.audit.reading.query import outcome_of
from strongroom.audit.reading.view import entry_at
from strongroom.client.log_view import BrokerLog
from strongroom.console.errors import FormError
from strongroom.console.visits import Page, Visit
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest

COUNT: Final = 50
_MAX_DIGITS: Final = 15


def log(visit: Visit) -> Page:
    """Show entries, newest first, each proven to be in the log; ``before`` is the index after the last one shown."""
    view = _view(visit)
    head = view.head()
    before = min(head.size, _number(visit.query["before"])) if "before" in visit.query else head.size
    start = max(0, before - COUNT)
    found: list[tuple[int, Entry]] = []
    while start < before:
        part = stretch(view, head, start, before - start)
        found += part
        start += len(part)
    first = found[0][0] if found else 0
    data: dict[str, Json] = {
        "size": head.size,
        "root": str(Digest.parse(f"sha256:{head.root.hex()}")),
        "entries": [_row(index, entry) for index, entry in reversed(found)],
        "older": first if first > 0 else None,
    }
    return Page("audit.html", "Audit", data)


def entry(visit: Visit) -> Page:
    """Show one entry, its place, and the audit path by which it was verified just now."""
    view, index = _view(visit), _number(visit.path["index"])
    head = view.head()
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
        "leaf": leaf_hash(data).hex(),
        "path": [one.hex() for one in path],
        "shard": {"base": tree.base, "end": tree.end, "root": tree.root.hex()},
        "log_size": head.size,
        "last": head.size - 1,
    }
    return Page("entry.html", f"Log entry {index}", told)


def _row(index: int, entry: Entry) -> dict[str, Json]:
    model = entry.facts.get("model")
    return {
        "index": index,
        "event": entry.event.value,
        "at": format_instant(entry.at),
        "by": entry.by.value,
        "outcome": outcome_of(entry.event).value,
        "model": model if isinstance(model, str) else None,
    }


def _view(visit: Visit) -> BrokerLog:
    # No waiting for one's turn here: a page that takes minutes is none.
    return BrokerLog(visit.session, lambda _seconds: None)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise FormError("an entry is named by its number")
    return int(text)
