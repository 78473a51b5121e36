"""Models: their versions, who holds access, and how much of them went out."""

from __future__ import annotations

from strongroom.client.odometer import proven_reading
from strongroom.console.errors import NoPageError
from strongroom.console.visits import Page, Visit, level_of, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.errors import MalformedError, NotFoundError
from strongroom.core.ids import ModelId, model_id


def models(visit: Visit) -> Page:
    """Show every model that has a version, or a place in the policy."""
    trust = visit.trust
    named = {*trust.models, *(terms.model for terms in (trust.policy.models if trust.policy is not None else ()))}
    shown, following = page_of(sorted(named), str, visit.query.get("after", ""))
    return Page("models.html", "Models", {"models": [_summary(visit, name) for name in shown], "next": following})


def model(visit: Visit) -> Page:
    """Show one model: state, level, live grants, and its odometer."""
    name = _named(visit)
    grants: list[Json] = [
        {
            "grant": str(one.grant),
            "requester": one.requester,
            "access": one.access,
            "issued": format_instant(one.issued),
            "expires": format_instant(one.expires),
            "uses": one.uses,
            "last_used": None if one.last_used is None else format_instant(one.last_used),
            "live": one.live,
        }
        for one in visit.session.api.grants()
        if one.model == name
    ]
    data: dict[str, Json] = {**_summary(visit, name), "grants": grants, "odometer": _odometer(visit, name)}
    return Page("model.html", name, data)


def _named(visit: Visit) -> ModelId:
    try:
        name = model_id(visit.path["model"])
    except MalformedError:
        raise NoPageError("that isn't a model's name") from None
    if name not in visit.trust.models and level_of(visit.trust.policy, name) is None:
        raise NoPageError(f"no model is called `{name}`")
    return name


def _summary(visit: Visit, name: ModelId) -> dict[str, Json]:
    trust, level = visit.trust, level_of(visit.trust.policy, name)
    status = trust.models.get(name)
    return {
        "model": name,
        "level": None if level is None else level.value,
        "version": None if status is None else status.version,
        "manifest": None if status is None else str(status.manifest),
        "frozen": status is not None and status.frozen,
        "destroyed": name in trust.destroyed,
        "irrecoverable": name in trust.irrecoverable,
        "weights": None if level is None or trust.policy is None else trust.policy.terms(name).weights.value,
    }


def _odometer(visit: Visit, name: ModelId) -> Json:
    try:
        told = visit.session.api.odometer(name)
    except NotFoundError:
        return None
    proven = proven_reading(visit.session, visit.trust, name, told)
    return {
        "total_bits": told.total,
        "recent_bits": told.recent,
        "run": told.run,
        "index": told.index,
        "proven": proven is not None,
        "frozen": told.frozen,
    }
