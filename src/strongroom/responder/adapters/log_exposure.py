"""The log asked about exposure: read once from its beginning, and from then on only what is new."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.audit.reading.exposure import ExposureFold, Limits
from strongroom.audit.reading.growth import Place, grow
from strongroom.audit.reading.view import LogView, judged
from strongroom.core.errors import NotFoundError
from strongroom.core.ids import ModelId
from strongroom.responder.exposing import LogAnswer

MAX_READINGS: Final = 16
"""Models whose reading is gone on with; of others it begins anew."""
PAUSE_SECONDS: Final = 0.5
"""After each some thousand entries: the broker counts our calls, and freezes must find room among them."""


class Models(Protocol):
    """Which models there are."""

    def theft_bound(self, model: ModelId) -> int | None:
        """Return a model's theft bound in bits, 0 where none is in force; None: there is no such model."""
        ...


@dataclass(slots=True)
class _Reading:
    """What was read for one model, and how far."""

    fold: ExposureFold
    place: Place

    def step(self, view: LogView, steps: Iterator[tuple[Place, tuple[bytes, ...]]]) -> bool:
        """Take the next entries; false at the log's end."""
        for after, entries in steps:
            for index, data in enumerate(entries, after.size - len(entries)):
                self.fold.apply(index, judged(view, index, data))
            self.place = after
            return True
        return False


class LogExposures:
    """Answers for every model, in a thread, one at a time.

    :param view: where the log is read; nothing else reads by it.
    """

    def __init__(self, view: LogView, models: Models) -> None:
        self._view = view
        self._models = models
        self._readings: dict[ModelId, _Reading] = {}
        self._one = asyncio.Lock()

    async def read(self, model: ModelId) -> LogAnswer:
        """Say who could have had a model's bytes, by the longest times that any deployment allows.

        :raises NotFoundError: there is no such model: whoever writes names must not have the log read for each.
        :raises LogError: the log isn't what it was. :raises UnavailableError: nobody answers.
        """
        bound = self._models.theft_bound(model)
        if bound is None:
            raise NotFoundError(f"there is no model `{model}`")
        async with self._one:
            head = await asyncio.to_thread(self._view.head)
            # Taken out: what fails halfway, or is cancelled, is read from the beginning the next time.
            begun = self._readings.pop(model, None)
            reading = begun or _Reading(ExposureFold(model, Limits()), Place.start(head.origin))
            steps = grow(self._view, reading.place, head)
            while True:
                if not await asyncio.to_thread(reading.step, self._view, steps):
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            self._readings[model] = reading
            if len(self._readings) > MAX_READINGS:
                self._readings.pop(next(iter(self._readings)))
            # Of many holdings that takes a while, in which freezes must go on.
            told = await asyncio.to_thread(lambda: reading.fold.answer().to_json())
            return LogAnswer(told=told, theft_bits=bound)
