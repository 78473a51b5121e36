"""Who could have had which bytes, read from the log for every open incident: when it opens, and again while it lasts.

The answer is kept with the incident. An entry is made when it says something else than the last one: a record has room
for so many entries, and people have to read them. Of an incident about several models each is read by itself, and each
answer is an entry of its own; what isn't read is entered, too, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, StrongroomError
from strongroom.core.ids import ModelId, model_id
from strongroom.responder.cases import Case, regrade
from strongroom.response.entries import Fact, Happened
from strongroom.response.exposure import answer_name, read_exposure
from strongroom.response.incident import Incident

AGAIN_SECONDS: Final = 600.0
"""While an incident is open, its exposure is read so often."""
LOOK_SECONDS: Final = 2.0
MAX_MODELS: Final = 8
"""Models of one incident that are read, those that were named first: for each the log is gone through.

A name that no model has counts as none of them: whoever has made-up names told first hides nothing behind them.
"""
TOO_MANY: Final = "too-many-models"
NO_MODEL: Final = "no-such-model"
_PARTS: Final = 1000
"""In such parts of the theft bound what left is told: less than one more is no news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAnswer:
    """What the log says about one model, as ``strongroom audit exposure --json`` prints it, and its theft bound."""

    told: Mapping[str, Json]
    theft_bits: int
    """0 where no egress policy in force says one."""


class Exposures(Protocol):
    """Asks the log."""

    async def read(self, model: ModelId) -> LogAnswer:
        """Say who could have had a model's bytes.

        :raises StrongroomError: the log can't be read, or isn't what it was.
        """
        ...


class Exposing:
    """Reads what is exposed, for every open incident that is about models and isn't a drill's.

    :param level: the security level of an incident's subject.
    :param ticks: seconds of the monotonic clock.
    :param failed: hears of what couldn't be read; it is read again later.
    """

    def __init__(
        self,
        cases: Mapping[str, Case],
        exposures: Exposures,
        *,
        level: Callable[[Incident], int],
        ticks: Callable[[], float],
        failed: Callable[[str, StrongroomError], None],
    ) -> None:
        self._cases = cases
        self._exposures = exposures
        self._level = level
        self._ticks = ticks
        self._failed = failed
        self._due: dict[tuple[str, ModelId], float] = {}

    async def serve(self) -> None:
        """Go on until it is cancelled. The whole log is read, so nothing waits for this."""
        while True:
            for case in tuple(self._cases.values()):
                await self._read(case)
            await asyncio.sleep(LOOK_SECONDS)

    async def _read(self, case: Case) -> None:
        room = MAX_MODELS
        for model in models_of(case.incident):
            if room > 0:
                room -= await self._read_one(case, model)
            else:
                await self._leave_out(case, model, TOO_MANY)

    async def _read_one(self, case: Case, model: ModelId) -> int:
        """Read a model's exposure if that is due; return 1, or 0 where there is no such model."""
        place = (case.id, model)
        if self._ticks() < self._due.get(place, 0.0):
            return int(case.incident.unread.get(model) != NO_MODEL)
        self._due[place] = self._ticks() + AGAIN_SECONDS
        # One that can't be read keeps no other from being read.
        try:
            await self.look(case, model)
        except NotFoundError as error:
            self._failed("exposure", error)
            await self._leave_out(case, model, NO_MODEL)
            return 0
        except StrongroomError as error:
            self._failed("exposure", error)
        return 1

    async def _leave_out(self, case: Case, model: ModelId, cause: str) -> None:
        """Enter that a model isn't read, where nothing says that yet, and people entered no answer either."""
        if model in case.incident.unread or model in case.incident.exposures:
            return
        try:
            await case.note(Happened.EXPOSURE_UNREAD, {"model": model, "cause": cause})
        except StrongroomError as error:
            self._failed("exposure", error)

    async def look(self, case: Case, model: ModelId) -> None:
        """Read a model's exposure into an incident.

        :raises StrongroomError: the log can't be read, the disk refuses, or the incident was closed meanwhile.
        """
        answer = await self._exposures.read(model)
        exposed = read_exposure(dict(answer.told), theft_bits=answer.theft_bits)
        text = encode(dict(answer.told))
        digest = Digest.of(text)
        facts = exposed.facts(digest)
        if _is_known(case, facts):
            return
        await case.keep(answer_name(digest), text)
        await case.note(Happened.EXPOSURE_READ, facts)
        await regrade(case, self._level(case.incident))


def models_of(incident: Incident) -> tuple[ModelId, ...]:
    """Return the models that an open, real incident is about, those first that were named first."""
    return tuple(model_id(one) for one in incident.models) if incident.is_open and not incident.shadow else ()


def _is_known(case: Case, facts: Mapping[str, str | int]) -> bool:
    """Tell whether this was entered last time, whatever else the answer holds. What people entered since stays."""
    read = (one for one in case.entries if one.happened is Happened.EXPOSURE_READ and one.by == case.by)
    mine = [one for one in read if one.facts["model"] == facts["model"]]
    return bool(mine) and not is_news(mine[-1].facts, facts)


def is_news(before: Mapping[str, Fact], now: Mapping[str, Fact]) -> bool:
    """Tell whether what was read of a model says something that an entry of before doesn't.

    A model that is served lets something out every minute: entries and answers of that alone would fill the disk.
    """
    return any(before[name] != now[name] for name in ("bound", "people", "hosts", "holders")) or (
        _share(before) != _share(now)
    )


def _share(facts: Mapping[str, Fact]) -> int:
    bits, bound = int(facts["bits"]), int(facts["bound"])
    return bits if bound <= 0 else bits * _PARTS // bound
