"""Our own searches for copies, assessor and gateways: events of the vocabulary as they stand, of these kinds alone.

What may write to that socket is one of those, never the keeper or guard: it can't say that a decoy opened.
"""

from __future__ import annotations

from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.engine import read_event
from strongroom.detection.sensors.reading import Read, read_object, text, unknown
from strongroom.detection.vocabulary import fields_of

EVENTS: Final = frozenset(
    {
        "assessor:measure:lost",
        "detector:state:evicted",
        "gateway:request:refused",
        "gateway:usage:counted",
        "register:copy:troubled",
        "scanner:copy:found",
    }
)


def read_own(line: bytes) -> Read:
    """Read a line of ``strongroom scan``, ``copies check``, ``assess`` or ``enclave serve``, each with ``--tell``.

    :raises MalformedError: not such a line, or one with a field that the event doesn't have.
    """
    told = read_object(line)
    name = text(told, "event")
    if name not in EVENTS:
        return unknown(name or "no event")
    if set(told) - (fields_of(name) or frozenset()):
        raise MalformedError(f"a line about `{name}` has a field that it doesn't have")
    return Read(events=({**read_event(told), "source": "strongroom"},))
