"""Feeds that an operator's own systems write: badge readers, identity providers, patch scanners, build systems.

Each line is an event of the vocabulary as it stands. The settings name the events that one feed may tell: whoever
takes over a badge reader can lie about badges then, and about nothing else. What only the product can know is in no
such list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.detection.engine import read_event
from strongroom.detection.sensors.reading import MAX_TEXT, Read, Reader, read_object
from strongroom.detection.vocabulary import COUNTS, FLAGS, JUDGED, SCORES, VOCABULARY, fields_of

MOST: Final = 1 << 53
"""What a number stays below, as in other sensors' lines."""


def check_feed(events: tuple[str, ...]) -> tuple[str, ...]:
    """Check and return the events that a feed may tell.

    :raises MalformedError: none, one twice, one that isn't of the vocabulary (the log's own aren't), or one that only
        the product itself can know.
    """
    if not events or len({*events}) != len(events):
        # An empty list might be read as all of them, or as none.
        raise MalformedError("`events` names at least one event, and each once")
    for event in events:
        if event in JUDGED:
            raise MalformedError(f"no feed may tell `{event}`: only the product itself can know it")
        if event not in VOCABULARY:
            raise MalformedError(f"no feed may tell `{event}`: it isn't an event of the sensors' vocabulary")
    return events


def feed_reader(events: tuple[str, ...]) -> Reader:
    """Return what reads one feed's lines.

    :param events: what it may tell, from :func:`check_feed`.
    """
    allowed = frozenset(check_feed(events))

    def read(line: bytes) -> Read:
        told = read_object(line)
        name = told.get("event")
        if not isinstance(name, str) or name not in allowed:
            # Refused, and so counted and told: a feed has no lines that are somebody else's to read.
            raise MalformedError("a feed tells an event that its settings don't list")
        if not told.keys() <= (fields_of(name) or frozenset()):
            raise MalformedError(f"a line about `{name}` has a field that it doesn't have")
        _check_values(told)
        return Read(events=(read_event(told),))

    return read


def _check_values(told: Mapping[str, object]) -> None:
    for field, value in told.items():
        if not _fits(field, value):
            raise MalformedError(f"field `{field}` of a feed's line is of another type, too long or too large")


def _fits(field: str, value: object) -> bool:
    # Refused and not cut: a name that was cut may be somebody else's.
    if field in FLAGS:
        return isinstance(value, bool)
    if field in COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST
    if field in SCORES:
        # JSON here may say NaN: it is below nothing, and so refused.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST
    return isinstance(value, str) and len(value) <= MAX_TEXT
