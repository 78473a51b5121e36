"""Who could have had a model's bytes, read from the log a bounded part at a time, and kept for whoever asks next.

A visit reads some of the entries that the index names of a model; of a model with many, a thread reads on beside the
pages. The fold takes entries in the order of the log, so what it says before it is through is what the first so many
entries of the log say: right for them, and said to be that. Nothing is entered in an incident before it is through.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.protocol import MAX_PROVEN
from strongroom.audit.reading.exposure import EVENTS, Exposure, ExposureFold, Window
from strongroom.audit.reading.proven import read_proven
from strongroom.audit.reading.query import Query
from strongroom.audit.reading.search import Index, IndexWrongError
from strongroom.audit.reading.view import LogView
from strongroom.console.reading_on import ReadsOn
from strongroom.core.ids import ModelId

NAMED: Final = 512
"""Places that one step asks the index for."""
CALLS: Final = 2
"""Calls of the log that a visit makes for what is to be read, and a step beside the pages too."""
MOST_ENTRIES: Final = 200_000
"""Entries that the readings which are kept rest on together, the newest one's aside: some hundred megabytes."""
MOST_READINGS: Final = 64
"""Readings that are kept: a name that no model has costs one, too."""
_ANSWERS: Final = 4
"""Answers of one reading that are kept, for other windows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSoFar:
    """What is known of a model's exposure."""

    answer: Exposure
    """What the log's first ``through`` entries say."""
    read: int
    named: int
    """How many entries the index names, as far as it was asked."""
    through: int
    reach: int
    """How much of the log the index knew."""
    searched: bool
    """Whether it was asked for all that it knows: ``named`` grows until then."""

    @property
    def whole(self) -> bool:
        """Whether all that the index names is read."""
        return self.searched and self.read == self.named


@dataclass(slots=True)
class _Reading:
    """How far one model's exposure is read. Changed under the shelf's lock; the log and the index are asked without."""

    fold: ExposureFold
    target: int = 0
    """Up to here places are looked for, or to be read."""
    done: int = 0
    """All before this place that the index named is in the fold."""
    cursors: dict[str, int] = field(default_factory=dict)
    """Event -> down to where the index was asked for it."""
    places: list[int] = field(default_factory=list)
    """What is to be read: found newest first, and turned round when nothing is left to find."""
    read: int = 0
    step: int = 0
    """Counts changes: what two read at once, only the first one's counts."""
    answers: OrderedDict[Window, tuple[int, Exposure]] = field(default_factory=OrderedDict)

    @property
    def more(self) -> bool:
        """Whether anything is left to be looked for or read, up to the target."""
        return bool(self.cursors or self.places)

    @property
    def through(self) -> int:
        """Up to where the fold has everything."""
        return self.places[-1] if self.places and not self.cursors else self.done

    def begin(self, reach: int) -> None:
        """Look for what came since, up to where the index goes."""
        if not self.more and self.target < reach:
            self.target, self.cursors = reach, {event.value: reach for event in sorted(EVENTS)}

    def found(self, event: str, places: tuple[int, ...], looked: int) -> None:
        """Take what the index named."""
        self.places += [place for place in places if place >= self.done]
        if looked > self.done:
            self.cursors[event] = looked
        else:
            del self.cursors[event]
        if not self.cursors:
            # The next one to read last: taking it off moves nothing.
            self.places = sorted(set(self.places), reverse=True)
            self._passed()

    def took(self, count: int) -> None:
        """Take the next places off: they are in the fold."""
        del self.places[-count:]
        self.read += count
        self._passed()

    def _passed(self) -> None:
        if not self.places:
            self.done = self.target

    def answer(self, window: Window) -> Exposure:
        """Return what the fold says; kept until it has more."""
        kept = self.answers.get(window)
        if kept is None or kept[0] != self.read:
            kept = self.answers[window] = self.read, self.fold.answer(window=window)
        self.answers.move_to_end(window)
        while len(self.answers) > _ANSWERS:
            self.answers.popitem(last=False)
        return kept[1]


class Exposures:
    """Reads models' exposure for all visits, each entry once. What it holds, everybody in the roster may read.

    :param beside: what reads on beside the pages; None: only visits read.
    """

    def __init__(self, beside: ReadsOn | None = None) -> None:
        self._readings: OrderedDict[ModelId, _Reading] = OrderedDict()
        self._turn = threading.Lock()
        self._index: Index | None = None
        self._beside = beside

    def look(self, view: LogView, head: Checkpoint, index: Index, model: ModelId, window: Window) -> ReadSoFar:
        """Read on, as far as one visit does, and return what is known then.

        :raises LogError: the log isn't what was signed; what was found wrong beside the pages is told here.
        """
        if self._beside is not None:
            self._beside.check()
        self._index = index
        try:
            reach = index.grow(view, head)
        except IndexWrongError:
            self._thrown_away(index)
            reach = 0
        with self._turn:
            reading = self._reading(model, reach, head)
        # What is named for each kind of event once, and some calls of the log: all there is of most models.
        left = len(EVENTS)
        while left > 0 and self._search(reading, index):
            left -= 1
        self._calls(reading, view, head, index)
        with self._turn:
            told = ReadSoFar(
                answer=reading.answer(window),
                read=reading.read,
                named=reading.read + len(set(reading.places)),
                through=min(reading.through, head.size),
                reach=min(reach, head.size),
                # By what this visit was told of the index: another one may be told of less, and looks for no more.
                searched=not reading.cursors and reading.target >= reach,
            )
            more = reading.more
        if more and self._beside is not None:
            self._beside.later("log", partial(self._read_on, view, head))
        return told

    def _reading(self, model: ModelId, reach: int, head: Checkpoint) -> _Reading:
        reading = self._readings.get(model)
        if reading is None or reach < min(reading.target, head.size):
            # An index that goes less far was begun anew: whatever the one before hid is looked for again. One that goes
            # as far as this visit's head wasn't: somebody was shown a newer one meanwhile.
            reading = self._readings[model] = _Reading(ExposureFold(model))
        reading.begin(reach)
        self._readings.move_to_end(model)
        self._let_go()
        return reading

    def _let_go(self) -> None:
        while len(self._readings) > 1 and (
            len(self._readings) > MOST_READINGS or sum(one.read for one in self._readings.values()) > MOST_ENTRIES
        ):
            self._readings.popitem(last=False)

    def _read_on(self, view: LogView, head: Checkpoint) -> bool:
        """Read on for whatever was asked for last and isn't through; false where nothing is left, or behind a head."""
        with self._turn:
            # What is read here counts, too.
            self._let_go()
            reading = next((one for one in reversed(self._readings.values()) if one.more), None)
            index = self._index
        if reading is None or index is None:
            return False
        before = reading.step
        if not self._search(reading, index):
            self._calls(reading, view, head, index)
        return reading.step != before

    def _search(self, reading: _Reading, index: Index) -> bool:
        """Ask the index once more; false where it named everything."""
        with self._turn:
            if not reading.cursors:
                return False
            step, (event, before) = reading.step, next(iter(reading.cursors.items()))
        try:
            found = index.find(Query(model=reading.fold.model, event=event), NAMED, before)
            if not found.looked < before:
                raise IndexWrongError("the index doesn't get on with a search")
        except IndexWrongError:
            self._thrown_away(index)
            return False
        with self._turn:
            if reading.step == step:
                reading.found(event, found.found, found.looked)
                reading.step += 1
        return True

    def _calls(self, reading: _Reading, view: LogView, head: Checkpoint, index: Index) -> None:
        for _ in range(CALLS):
            with self._turn:
                if reading.cursors:
                    return
                step = reading.step
                places = [place for place in reversed(reading.places[-MAX_PROVEN:]) if place < head.size]
            if not places:
                return
            try:
                entries = read_proven(view, head, places)
            except IndexWrongError:
                self._thrown_away(index)
                return
            with self._turn:
                if reading.step == step:
                    for place in places:
                        reading.fold.apply(place, entries[place])
                    reading.took(len(places))
                    reading.step += 1

    def _thrown_away(self, index: Index) -> None:
        index.discard()
        with self._turn:
            self._readings.clear()
