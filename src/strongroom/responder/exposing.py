"""Who could have had which bytes, read from the log for every open incident: when it opens, and again while it lasts.

The answer is kept with the incident. An entry is made when it says something else than the last one: a record has room
for so many entries, and people have to read them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.core.canonical import Json, encode
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId, model_id
from strongroom.responder.cases import Case, regrade
from strongroom.response.entries import Fact, Happened
from strongroom.response.exposure import answer_name, read_exposure
from strongroom.response.incident import Incident
from strongroom.response.subjects import SubjectKind

AGAIN_SECONDS: Final = 600.0
"""While an incident is open, its exposure is read so often."""
LOOK_SECONDS: Final = 2.0
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
    """Reads what is exposed, for every open incident that is about one model and isn't a drill's.

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
        self._due: dict[str, float] = {}

    async def serve(self) -> None:
        """Go on until it is cancelled. The whole log is read, so nothing waits for this."""
        while True:
            for case in tuple(self._cases.values()):
                model = model_of(case.incident)
                if model is not None and self._ticks() >= self._due.get(case.id, 0.0):
                    self._due[case.id] = self._ticks() + AGAIN_SECONDS
                    try:
                        await self.look(case, model)
                    except StrongroomError as error:
                        self._failed("exposure", error)
            await asyncio.sleep(LOOK_SECONDS)

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


def model_of(incident: Incident) -> ModelId | None:
    """Return the one model that an open, real incident is about: itself, or what it acts on; None where it is none."""
    if not incident.is_open or incident.shadow:
        return None
    subjects = {incident.subject}
    if incident.subject.kind is not SubjectKind.MODEL:
        # Whatever else is done, one about a model stays about that.
        subjects |= {one.subject for one in incident.doings.values()}
    models = {one.name for one in subjects if one.kind is SubjectKind.MODEL and not one.shadow}
    return model_id(models.pop()) if len(models) == 1 else None


def _is_known(case: Case, facts: Mapping[str, str | int]) -> bool:
    """Tell whether this was entered last time, whatever else the answer holds. What people entered since stays."""
    mine = [one for one in case.entries if one.happened is Happened.EXPOSURE_READ and one.by == case.by]
    return bool(mine) and not is_news(mine[-1].facts, facts)


def is_news(before: Mapping[str, Fact], now: Mapping[str, Fact]) -> bool:
    """Tell whether what was read says something that an entry of before doesn't.

    A model that is served lets something out every minute: entries and answers of that alone would fill the disk.
    """
    return any(before[name] != now[name] for name in ("bound", "people", "hosts", "holders")) or (
        _share(before) != _share(now)
    )


def _share(facts: Mapping[str, Fact]) -> int:
    bits, bound = int(facts["bits"]), int(facts["bound"])
    return bits if bound <= 0 else bits * _PARTS // bound
