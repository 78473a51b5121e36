"""What is done on a decision, in the order that costs a thief most; all of it begins before any of it is waited for.

1 deny      the keeper hears of the freeze; it counts there from that moment
2 drop      the kernel drops whatever leaves the models' enclaves
3 record    the alert is on the disk here, and the freeze in the deployment's log
4 the rest  the gates' marks, the request for the broker's store, whoever listens
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from strongroom.core.canonical import Json
from strongroom.core.clock import Clock, Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.detection.engine import read_event
from strongroom.responder.deciding import Decider, Decision, Why
from strongroom.responder.record import Line, event_json, plain_text

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What became of a freeze."""

    request: Digest
    index: int | None
    """Where the freeze stands in the log; None when the model was frozen already."""


class Stops(Protocol):
    """Freezes models at the keeper."""

    async def stop(self, model: ModelId) -> Stopped:
        """Freeze a model; the keeper has heard of it when this first waits, and it is durable when this returns.

        :raises StrongroomError: it isn't known to be frozen.
        """
        ...

    async def stored(self, stopped: Stopped) -> None:
        """Have the request of a freeze that was recorded stored where people look it up.

        :raises StrongroomError: it isn't.
        """
        ...


class Gate(Protocol):
    """The way out of some models' enclaves."""

    name: str

    def begin(self) -> asyncio.Future[None]:
        """Begin to drop everything; the future ends when the kernel was seen to."""
        ...

    async def mark(self, cause: str) -> None:
        """Remember durably that it is shut."""
        ...

    async def is_shut(self) -> bool:
        """Tell whether the kernel drops everything there now."""
        ...


class Record(Protocol):
    """The responder's own record."""

    async def append(self, facts: dict[str, Json]) -> Line | None:
        """Add a line; it is on the disk when this returns. None: it is one of a flood, and only counted."""
        ...

    def settle(self, line: Line) -> int:
        """Take that a line is dealt with; returns how many are, from the first on."""
        ...


@dataclass(slots=True)
class Times:
    """When each hop was reached: nanoseconds of the monotonic clock; 0 for never."""

    opened: int = 0
    decided: int = 0
    asked: int = 0
    dropped: int = 0
    recorded: int = 0
    logged: int = 0

    def to_json(self) -> Json:
        """Return them by name."""
        return {name: getattr(self, name) for name in self.__slots__}


SOON: Final = 2.0
"""Seconds after which a decision is told whose freezes aren't answered yet."""


@dataclass(slots=True)
class Outcome:
    """What was done on a decision."""

    decision: Decision
    times: Times
    stopped: dict[ModelId, Stopped] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    """What couldn't be done, and the code of why."""
    line: Line | None = None
    told: bool = False
    """Whether whoever hears of decisions was told of this one."""
    """The alert in the responder's record; whoever is told settles it, once it is in an incident or belongs in none."""


class Responder:
    """Takes events, and acts.

    :param gates: the gates of each model.
    :param ticks: nanoseconds of the monotonic clock.
    :param told: hears of every decision once what can be done was done, or :data:`SOON` after it was recorded.
    """

    def __init__(
        self,
        decider: Decider,
        stops: Stops,
        gates: Mapping[ModelId, Sequence[Gate]],
        record: Record,
        *,
        clock: Clock,
        ticks: Callable[[], int],
        told: Callable[[Outcome], None],
    ) -> None:
        self._decider = decider
        self._stops = stops
        self._gates = gates
        self._record = record
        self._clock = clock
        self._ticks = ticks
        self._told = told
        self._latest: Instant = 0
        self._acting: set[asyncio.Task[None]] = set()
        self._under_way: set[ModelId] = set()

    def take(self, event: Mapping[str, object], source: str, *, opened: int = 0) -> tuple[Decision, ...]:
        """Show an event to the rules, and begin what is to be done. Returns without waiting.

        :raises MalformedError: not an event.
        """
        # The machine's clock may be put back; the rules' time doesn't follow it.
        self._latest = max(self._latest, self._clock.now())
        decisions = self._decider.observe(read_event(event), source, self._latest)
        for decision in decisions:
            times = Times(opened=opened, decided=self._ticks())
            task = asyncio.get_running_loop().create_task(self._act(Outcome(decision, times)))
            self._acting.add(task)
            task.add_done_callback(self._acting.discard)
        return decisions

    async def settled(self) -> None:
        """Wait until everything that was begun before this call is done: what is to be recorded of it is."""
        await asyncio.gather(*self._acting)

    async def rest(self) -> None:
        """Wait until everything that was begun is done."""
        while self._acting:
            await asyncio.gather(*self._acting)

    async def _act(self, outcome: Outcome) -> None:
        decision, times = outcome.decision, outcome.times
        # One freeze of a model at a time: a flood of signals asks the keeper no more than a single one does.
        models = [model for model in decision.models if model not in self._under_way]
        self._under_way.update(models)
        try:
            stops = [asyncio.ensure_future(self._stops.stop(model)) for model in models]
            # Each runs up to its first wait: the keeper's socket has every request before the kernel is spoken to.
            await asyncio.sleep(0)
            times.asked = self._ticks() if stops else 0
            gates = {gate.name: gate for model in models for gate in self._gates.get(model, ())}
            drops = {name: gate.begin() for name, gate in gates.items()}
            recording = asyncio.ensure_future(self._record.append(_facts(decision, self._latest)))
            for name, drop in drops.items():
                await _tried(drop, f"drop:{name}", outcome)
            times.dropped = self._ticks() if drops and not outcome.failed else 0
            outcome.line = await _tried(recording, "record", outcome)
            times.recorded = 0 if "record" in outcome.failed else self._ticks()
            # A keeper that stands still is waited for much longer: people hear of it meanwhile.
            soon = asyncio.get_running_loop().call_later(SOON, self._tell, outcome)
            for model, stop in zip(models, stops, strict=True):
                stopped = await _tried(stop, f"stop:{model}", outcome)
                if stopped is not None:
                    outcome.stopped[model] = stopped
            times.logged = self._ticks() if outcome.stopped else 0
        finally:
            self._under_way.difference_update(models)
        if any(stopped.index is not None for stopped in outcome.stopped.values()):
            self._decider.took_effect(decision, self._latest)
        for name in drops:
            await _tried(asyncio.ensure_future(gates[name].mark(decision.alert.rule)), f"mark:{name}", outcome)
        for stopped in outcome.stopped.values():
            if stopped.index is not None:
                await _tried(asyncio.ensure_future(self._stops.stored(stopped)), "store", outcome)
        if models:
            line = await _tried(asyncio.ensure_future(self._record.append(_done(outcome))), "record", outcome)
            if line is not None:
                self._record.settle(line)
        soon.cancel()
        self._tell(outcome)

    def _tell(self, outcome: Outcome) -> None:
        if not outcome.told:
            outcome.told = True
            self._told(outcome)


async def _tried(work: asyncio.Future[T], name: str, outcome: Outcome) -> T | None:
    # Whatever fails, the rest is done: each of them alone stops something.
    try:
        return await work
    except StrongroomError as error:
        outcome.failed[name] = error.reason
        return None


def _facts(decision: Decision, now: Instant) -> dict[str, Json]:
    alert = decision.alert
    return {
        "at": format_instant(now),
        "rule": alert.rule,
        "certainty": alert.about.certainty.value,
        "severity": alert.about.severity.value,
        "playbook": alert.about.playbook,
        "subject": plain_text(alert.subject, 512),
        "source": decision.source,
        "why": decision.why.value,
        "freezes": [*decision.models],
        "event": event_json(alert.event),
        **({} if decision.asks is None else {"asks": decision.asks}),
    }


def _done(outcome: Outcome) -> dict[str, Json]:
    return {
        "rule": outcome.decision.alert.rule,
        "frozen": {
            model: {"request": str(stopped.request), "index": stopped.index}
            for model, stopped in outcome.stopped.items()
        },
        "failed": dict(outcome.failed),
        "times": outcome.times.to_json(),
        "acted": outcome.decision.why is Why.SURE,
    }
