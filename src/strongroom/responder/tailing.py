"""The deployment's log as events for the rules. Pure.

An entry's facts become fields as they are. An alert that is on the disk isn't told again after a crash: the record says
of which rule and of which entry each one was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.detection.engine import MAX_FIELDS
from strongroom.detection.matching import Value

LOG: Final = "log"
"""The source of these events; the settings may let it act, like a sensor."""
INDEX: Final = "index"
"""The field that says which entry an event is of."""


def entry_event(index: int, entry: Entry) -> dict[str, Value]:
    """Return an entry as an event."""
    facts = {name: value[:MAX_FIELDS] if isinstance(value, tuple) else value for name, value in entry.facts.items()}
    told: dict[str, Value] = {"event": entry.event.value, INDEX: index, "at": format_instant(entry.at), "source": LOG}
    return {**told, **{name: value for name, value in facts.items() if name not in told}}


def decoy_events(event: Mapping[str, Value], decoys: Collection[str]) -> tuple[dict[str, Value], ...]:
    """Return what an event of the log means if it names a decoy model: nobody has a reason to name one."""
    model = event.get("model")
    if model not in decoys:
        return ()
    who = next((event[name] for name in ("requester", "person") if isinstance(event.get(name), str)), None)
    told: dict[str, Value] = {
        "event": "detector:decoy:named",
        INDEX: event[INDEX],
        "at": event["at"],
        "source": LOG,
        "decoy_model": model,
        "entry": event["event"],
    }
    return ({**told, "person": who} if who else told,)


def told_before(lines: Iterable[Mapping[str, Json]], least: int) -> frozenset[tuple[str, int]]:
    """Return (rule, entry) of each alert that the record has about an entry from ``least`` on.

    :param lines: the facts of the record's lines.
    """
    found = set()
    for facts in lines:
        event, rule = facts.get("event"), facts.get("rule")
        index = event.get(INDEX) if isinstance(event, dict) else None
        if isinstance(rule, str) and isinstance(index, int) and index >= least:
            found.add((rule, index))
    return frozenset(found)
