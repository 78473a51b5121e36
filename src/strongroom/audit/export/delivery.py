"""Getting records out: in batches, at least once, with patience that ends. Pure: sinks, sleep and chance are given.

The log waits for no receiver: whoever exports is a reader like any other. A batch is taken whole or not at all, and
only then is the cursor moved, durably; a crash between the two sends it again, never leaves it out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.export.record import Body, Format, Record, record_of
from strongroom.audit.merkle import leaf_hash
from strongroom.audit.reading.growth import Place, grow, next_frontier
from strongroom.audit.reading.view import LogView, judged
from strongroom.core.errors import DeniedError, UnavailableError

MAX_BATCH: Final = 2000
MAX_ANSWER: Final = 64 * 1024
FIRST_SECONDS: Final = 1.0
MOST_SECONDS: Final = 60.0
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class SinkLostError(UnavailableError):
    """A receiver didn't answer, or said that it can't now, for as long as it was tried. The cursor stands."""

    code = "export-sink-lost"


class SinkRefusedError(DeniedError):
    """A receiver refused a batch, or a part of it. Sending it again wouldn't help, and leaving it out isn't done."""

    code = "export-sink-refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered; ``status`` 0 when nobody did."""

    status: int
    data: bytes = b""
    retry_after: float | None = None
    """Seconds."""


class Sink(Protocol):
    """Where records go."""

    def take(self, records: tuple[Record, ...]) -> None:
        """Take a batch; it is safe at the receiver when this returns.

        :raises SinkLostError: not now. :raises SinkRefusedError: never. :raises OSError: the disk refused.
        """
        ...


class Post(Protocol):
    """One HTTP request."""

    def __call__(self, body: Body) -> Answer:
        """Send a body; an unreachable receiver is an answer of status 0."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How often a batch is tried, and how the pauses are made.

    :ivar chance: returns a number from 0 to 1, another one each time: many exporters must not come back at once.
    """

    attempts: int
    sleep: Callable[[float], None]
    chance: Callable[[], float]


def pause(failures: int, chance: float) -> float:
    """Return how long to wait after so many failures, in seconds: doubling, bounded, half of it by chance."""
    return min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - 1, 20)) * (0.5 + chance / 2)


class HttpSink:
    """Sends batches over HTTP, and sends again what may be taken later."""

    def __init__(self, written: Format, post: Post, patience: Patience) -> None:
        self._format = written
        self._post = post
        self._patience = patience

    def take(self, records: tuple[Record, ...]) -> None:
        """Send a batch.

        :raises SinkLostError: nobody took it in time. :raises SinkRefusedError: it was refused, wholly or in part.
        """
        body = self._format.body(records)
        if body is None:
            raise SinkRefusedError("records of that format aren't sent over HTTP", remedy="export to a file")
        answer = Answer(0)
        for failures in range(1, self._patience.attempts + 1):
            answer = self._post(body)
            if 200 <= answer.status < 300:
                _check_whole(answer)
                return
            if answer.status and answer.status not in _TRY_AGAIN:
                raise SinkRefusedError(f"the receiver refused entries from {records[0].index} on ({answer.status})")
            if failures < self._patience.attempts:
                wait = max(pause(failures, self._patience.chance()), min(answer.retry_after or 0.0, MOST_SECONDS))
                self._patience.sleep(wait)
        told = f"answered {answer.status}" if answer.status else "didn't answer"
        raise SinkLostError(
            f"the receiver {told}, {self._patience.attempts} times, to entries from {records[0].index} on",
            remedy="run the export again later: it goes on where it stopped",
        )


def _check_whole(answer: Answer) -> None:
    """Refuse an answer that says that records were left out (OTLP's partial success); any other body says nothing."""
    try:
        body = json.loads(answer.data)
        rejected = body["partialSuccess"]["rejectedLogRecords"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if rejected not in (None, 0, "0"):
        raise SinkRefusedError("the receiver took a batch but for some of its records")


def export(
    view: LogView,
    place: Place,
    head: Checkpoint,
    *,
    most: int,
    change: Callable[[Record], Record],
    sink: Sink,
    moved: Callable[[Place], None],
) -> Place:
    """Hand everything from ``place`` to the head to a sink, at most ``most`` entries at a time.

    :param change: what is done to each record on its way: pseudonyms, or nothing.
    :param moved: makes the place durable; called only after the sink took what is before it.
    :raises LogError: the log isn't what was signed. :raises SinkLostError: as the sink does. :raises SinkRefusedError:
        likewise.
    """
    for _after, entries in grow(view, place, head):
        for start in range(0, len(entries), most):
            part = entries[start : start + most]
            first = place.size
            frontier = next_frontier(place, view.extent(first))
            sink.take(
                tuple(
                    change(record_of(head.origin, index, data, judged(view, index, data)))
                    for index, data in enumerate(part, first)
                )
            )
            for data in part:
                frontier.append(leaf_hash(data))
            place = Place(place.origin, first + len(part), frontier.to_bytes())
            moved(place)
    return place
