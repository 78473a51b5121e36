"""Precautions in force, as pages tell of them: what responders took away for a while, from whom, and why. Pure."""

from __future__ import annotations

from strongroom.access.request import STOPS
from strongroom.client.trust import Trust
from strongroom.core.canonical import Json
from strongroom.core.clock import Instant
from strongroom.core.ids import ModelId
from strongroom.release.precaution_ledger import Standing
from strongroom.release.precautions import LIFTED, PrecautionKind
from strongroom.release.standing_precautions import lifted_through


def one_more(trust: Trust, person: str, now: Instant) -> Standing | None:
    """Return what asks for one approver more of a person's requests, if anything does."""
    return _of(trust, PrecautionKind.APPROVER, person, now)


def one_more_of(trust: Trust, person: str, action: str, now: Instant) -> Standing | None:
    """Return what asks for one approver more of a request, if anything does: never of one that only takes away."""
    return None if action in STOPS else one_more(trust, person, now)


def replayed(trust: Trust, model: str, now: Instant) -> Standing | None:
    """Return what has every answer of a model replayed, if anything does."""
    return _of(trust, PrecautionKind.SAMPLING, model, now)


def held(trust: Trust, model: str, now: Instant) -> Standing | None:
    """Return what keeps a model from being destroyed, if anything does: its own hold, or the deployment's."""
    return _of(trust, PrecautionKind.HOLD, model, now) or _of(trust, PrecautionKind.HOLD, None, now)


def holds(trust: Trust, now: Instant) -> list[Standing]:
    """Return every hold: the deployment's first, then by the model."""
    found = (one for one in trust.precautions if one.kind is PrecautionKind.HOLD and one.stands(now))
    return sorted(found, key=lambda one: one.subject or "")


def liftable(trust: Trust, now: Instant) -> list[Standing]:
    """Return what people may ask to have lifted."""
    return [one for one in trust.precautions if one.kind in LIFTED and one.stands(now)]


def liftable_through(trust: Trust, model: ModelId, now: Instant) -> list[Standing]:
    """Return what a request about a model may have lifted: the keeper refuses the others, after people agreed."""
    if trust.policy is None or all(terms.model != model for terms in trust.policy.models):
        return []
    return [one for one in liftable(trust, now) if lifted_through(one, model, trust.policy)]


def told(one: Standing | None) -> Json:
    """Return a precaution as JSON; None where there is none."""
    return None if one is None else one.to_json()


def _of(trust: Trust, kind: PrecautionKind, subject: str | None, now: Instant) -> Standing | None:
    found = (one for one in trust.precautions if (one.kind, one.subject) == (kind, subject) and one.stands(now))
    return next(found, None)
