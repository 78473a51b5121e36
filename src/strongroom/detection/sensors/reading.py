"""What all readers share: bounds, JSON from anybody, and what comes of a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.matching import Value

MAX_LINE: Final = 262_144
MAX_TEXT: Final = 4096
METHODS: Final = {"sshd": "ssh", "sshd-session": "ssh", "login": "console"}
"""How somebody logged in, by the program that let them in."""
Event = dict[str, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What came of one line: events, or the kind that the reader has no event for."""

    events: tuple[Event, ...] = ()
    unknown: str = ""
    """Empty where it was known; else the kind in the sensor's own words, cut."""


Reader = Callable[[bytes], Read]
"""Reads one line or body. :raises MalformedError: it isn't one of that sensor's."""


def read_object(line: bytes) -> Mapping[str, object]:
    """Read a JSON object of whatever numbers and depth the sensor writes.

    :raises MalformedError: too long, not JSON, a member twice, or not an object.
    """
    if len(line) > MAX_LINE:
        raise MalformedError(f"a sensor's line has at most {MAX_LINE} bytes")
    try:
        # A file may be called by any bytes: one whose name isn't UTF-8 mustn't have its line refused.
        value = json.loads(line.decode("utf-8-sig", "replace"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise MalformedError("a sensor's line isn't JSON") from None
    if not isinstance(value, dict):
        raise MalformedError("a sensor's line isn't a JSON object")
    return value


def child(value: Mapping[str, object], *names: str) -> Mapping[str, object]:
    """Return an object inside, or an empty one."""
    for name in names:
        found = value.get(name)
        if not isinstance(found, dict):
            return {}
        value = found
    return value


def text(value: Mapping[str, object], name: str) -> str:
    """Return a text, cut; empty where there is none."""
    found = value.get(name)
    return found[:MAX_TEXT] if isinstance(found, str) else ""


def number(value: Mapping[str, object], name: str) -> int | None:
    """Return a whole number, also one that is written as text; None where there is none."""
    found = value.get(name)
    if isinstance(found, int) and not isinstance(found, bool):
        return found if abs(found) < 1 << 53 else None
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) <= 15:
        return int(found)
    return None


def event(name: str, source: str, **members: Value) -> Event:
    """Return an event without the members that aren't known."""
    told = {key: value for key, value in members.items() if value is not None and value != ""}
    return {"event": name, "source": source, **told}


def unknown(kind: str) -> Read:
    """Return that a line's kind has no event."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in kind[:96])
    return Read(unknown=plain or "unnamed")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        # Two readers would take two different ones.
        raise ValueError
    return made
