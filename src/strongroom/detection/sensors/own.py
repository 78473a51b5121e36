"""Our own searches for copies, and our assessor: events of the vocabulary as they stand, of these kinds and no other.

What may write to that socket is a search or the assessor, never the keeper or guard: it can't say that a decoy opened.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.engine import read_event
from strongroom.detection.sensors.reading import Read, read_object, text, unknown
from strongroom.detection.vocabulary import fields_of

EVENTS: Final = frozenset({"scanner:copy:found", "register:copy:troubled", "assessor:measure:lost"})


def read_own(line: bytes) -> Read:
    """Read a line of ``strongroom scan``, ``strongroom copies check`` or ``strongroom assess``, each with ``--tell``.

    :raises MalformedError: not such a line, or one with a field that the event doesn't have.
    """
    told = read_object(line)
    name = text(told, "event")
    if name not in EVENTS:
        return unknown(name or "no event")
    if set(told) - (fields_of(name) or frozenset()):
        raise MalformedError(f"a line about `{name}` has a field that it doesn't have")
    return Read(events=({**read_event(told), "source": "strongroom"},))
