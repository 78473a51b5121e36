"""From an event to what is to be done about it. Pure: the detector, the list of decoys and the limits, joined.

Only what is sure may act, and only on the word of a sensor that the settings let act. Everything else is told; of whom
it asks one approver more, :mod:`~strongroom.responder.asking` says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.clock import Instant
from strongroom.core.ids import ModelId, PersonId
from strongroom.detection.detector import Alert, Detector
from strongroom.detection.matching import View
from strongroom.detection.rules import Certainty
from strongroom.responder.limits import FreezeLimits
from strongroom.responder.tailing import INDEX, LOG

MEANWHILE: Final = 2000
"""Events of other sensors that are remembered, too, of those that come while the past is: the newest."""


class Why(StrEnum):
    """Why an alert is acted on, or isn't."""

    SURE = "sure"
    """The models are frozen and their gates shut."""
    NOT_SURE = "not-sure"
    NOT_TRUSTED = "sensor-may-not-act"
    """The settings don't let this sensor's word freeze anything."""
    LIMITED = "limited"
    """The sensor's word froze as often as it may in an hour: people decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """An alert, and the models that are to be frozen because of it: none unless it is acted on."""

    alert: Alert
    source: str
    why: Why
    models: tuple[ModelId, ...] = ()
    asks: PersonId | None = None
    """Of whom one approver more is asked from now on."""


class Decider:
    """Everything that is decided on.

    :param decoys: path, or a decoy model's name, -> the model that it stands for.
    :param models: what is frozen when an alert names none of them: all.
    :param acting: sensors whose word may freeze.
    :param told: (rule, entry of the log) of alerts that were told before this process began.
    :param asks: returns of whom an alert asks one approver more: the alert, the sensor, and the time.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        decoys: Mapping[str, ModelId],
        models: Collection[ModelId],
        acting: Collection[str],
        limits: FreezeLimits,
        told: Collection[tuple[str, int]] = (),
        asks: Callable[[Alert, str, Instant], PersonId | None] = lambda _alert, _source, _now: None,
    ) -> None:
        self._asks = asks
        self._detector = detector
        self._decoys = decoys
        self._models = tuple(dict.fromkeys(models))
        self._acting = frozenset(acting)
        self._limits = limits
        self._told = frozenset(told)
        self._latest: Instant = 0
        self._past: Detector | None = None
        """Is shown what was before, in its own time, while the other one goes on with what comes now."""
        self._past_latest: Instant = 0
        self._meanwhile: deque[tuple[View, Instant]] | None = deque(maxlen=MEANWHILE)
        """What came before all of the past was remembered; None afterwards."""

    def observe(self, event: View, source: str, now: Instant) -> tuple[Decision, ...]:
        """Return what an event gives reason to tell or do.

        :param event: from :func:`strongroom.detection.engine.read_event`.
        :param now: the detector's own time in seconds. One that falls is taken for the latest that was seen.
        """
        return tuple(self._decided(alert, source, now) for alert in self._observed(event, now) if self._is_new(alert))

    def remember(self, event: View, at: Instant) -> None:
        """Show the rules an event of before, so that what comes is counted with it; nothing is told of it.

        Before :meth:`remembered` it counts for nothing. What other sensors say meanwhile has a later time, and windows
        don't go back: the days of months would become one.
        """
        if self._past is None:
            self._past = self._detector.anew()
        self._past_latest = max(self._past_latest, at)
        self._past.observe(event, self._past_latest)

    def remembered(self) -> None:
        """Count from now on with all that was shown of before; another time this does nothing."""
        meanwhile, self._meanwhile = self._meanwhile, None
        if self._past is None:
            return
        for event, at in meanwhile or ():
            self._past_latest = max(self._past_latest, at)
            self._past.observe(event, self._past_latest)
        self._latest = max(self._latest, self._past_latest)
        self._detector, self._past = self._past, None

    def took_effect(self, decision: Decision, now: Instant) -> None:
        """Count a freeze that a decision brought about."""
        self._limits.count(decision.source, now)

    def _observed(self, event: View, now: Instant) -> tuple[Alert, ...]:
        self._latest = max(self._latest, now)
        if self._meanwhile is not None:
            self._meanwhile.append((event, self._latest))
        return self._detector.observe(event, self._latest)

    def _is_new(self, alert: Alert) -> bool:
        index = alert.event.get(INDEX)
        return not (isinstance(index, int) and alert.event.get("source") == LOG and (alert.rule, index) in self._told)

    def _decided(self, alert: Alert, source: str, now: Instant) -> Decision:
        why = self._why(alert, source, now)
        models = self._concerned(alert) if why is Why.SURE else ()
        return Decision(alert=alert, source=source, why=why, models=models, asks=self._asks(alert, source, now))

    def _why(self, alert: Alert, source: str, now: Instant) -> Why:
        if alert.about.certainty is not Certainty.SURE:
            return Why.NOT_SURE
        if source not in self._acting:
            return Why.NOT_TRUSTED
        return Why.SURE if self._limits.allow(source, now) else Why.LIMITED

    def _concerned(self, alert: Alert) -> tuple[ModelId, ...]:
        path, named = alert.event.get("path"), alert.event.get("model")
        decoy = alert.event.get("decoy_model")
        if isinstance(decoy, str) and decoy in self._decoys:
            return (self._decoys[decoy],)
        if isinstance(path, str) and path in self._decoys:
            return (self._decoys[path],)
        known = tuple(model for model in self._models if model == named)
        # What isn't known to be about one model may be about any.
        return known or self._models
