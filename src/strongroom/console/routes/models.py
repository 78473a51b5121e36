"""Models: their versions, who holds access, and how much of them went out."""

from __future__ import annotations

from typing import Final

from strongroom.access.invariants import describe
from strongroom.access.policy import NoRuleError
from strongroom.access.request import Action
from strongroom.audit.reading.query import Query
from strongroom.client.trust import Trust
from strongroom.console.errors import NoPageError
from strongroom.console.gauges import gauge, in_all, newest_reading, readings
from strongroom.console.taken_away import held, liftable_through, replayed, told
from strongroom.console.visits import Page, Visit, level_of, page_of
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant, parse_instant
from strongroom.core.errors import MalformedError
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId, model_id
from strongroom.intake.copies.register import Step

VERSIONS: Final = 12
GRANTS: Final = 60
"""Grants of one model on its page: the live ones first."""
PEOPLE: Final = 12
COPIES: Final = 40
"""Entries about copies that one page reads: each takes calls of the log the first time."""
HELD: Final = frozenset({Step.ADDED.value, Step.CHALLENGED.value, Step.PROVED.value})
"""States of a copy that is there; every other one says what became of it."""
OPENING: Final = (Action.SEAL, Action.OPEN_IN_ENCLAVE, Action.EXPORT_PLAINTEXT)
"""The ways to the bytes."""


def models(visit: Visit) -> Page:
    """Show every model that has a version, or a place in the policy."""
    trust = visit.trust
    named = {*trust.models, *(terms.model for terms in (trust.policy.models if trust.policy is not None else ()))}
    shown, following = page_of(sorted(named), str, visit.query.get("after", ""))
    return Page("models.html", "Models", {"models": [_summary(visit, name) for name in shown], "next": following})


def model(visit: Visit) -> Page:
    """Show one model: state, versions, who may and who does hold access, copies, budget, and its odometer."""
    name = _named(visit)
    grants = sorted((one for one in visit.session.api.grants() if one.model == name), key=lambda one: not one.live)
    rules = visit.trust.egress_by_model.get(name)
    at, reading = newest_reading(visit, name) or (None, None)
    spent, index = in_all(visit, name, reading, at)
    data: dict[str, Json] = {
        **_summary(visit, name),
        "lifts": [str(one.name) for one in liftable_through(visit.trust, name, visit.now)],
        "versions": _versions(visit, name),
        "access": _access(visit.trust, name),
        "grants": [one.to_json() for one in grants[:GRANTS]],
        "all_grants": len(grants),
        "copies": _copies(visit, name),
        "odometer": {"total": spent, "run": 0 if reading is None else reading.run, "index": index},
        "gauge": None if rules is None else gauge(rules, reading, spent, index),
        "readings": readings(visit, name),
        "behind": visit.behind,
    }
    return Page("model.html", name, data)


def _versions(visit: Visit, name: ModelId) -> list[Json]:
    found = visit.look(Query(model=name, event=EventName.VERSION_REGISTERED.value), VERSIONS)
    return [
        {
            "version": entry.integer("version"),
            "manifest": entry.text("manifest"),
            "publisher": entry.text("publisher"),
            "request": entry.text("request"),
            "at": format_instant(entry.at),
            "index": index,
        }
        for index, entry in reversed(found.hits)
    ]


def _access(trust: Trust, name: ModelId) -> list[Json]:
    """Return who may come to the bytes, by the rules in force: who asks, who agrees, and whom the roster names."""
    level = level_of(trust.policy, name)
    if trust.policy is None or level is None:
        return []
    people = trust.roster.people if trust.roster is not None else ()
    found: list[Json] = []
    for action in OPENING:
        try:
            rule = trust.policy.rule(action, level)
        except NoRuleError:
            continue
        may = sorted(one.id for one in people if one.active and rule.requester_role in one.roles)
        found.append(
            {
                "action": action.value,
                "role": rule.requester_role,
                "tier": rule.requester_tier,
                "people": [*may[:PEOPLE]],
                "count": len(may),
                "agree": [f"{factor.count} x {describe(factor)}" for factor in rule.factors],
                "uses": rule.max_uses,
                "seconds": rule.max_window,
            }
        )
    return found


def _copies(visit: Visit, name: ModelId) -> Json:
    """Return the copies that registrars put into the log: the newest entry of each says where it stands."""
    found = visit.look(Query(model=name, event=EventName.COPY_RECORDED.value), COPIES)
    newest = {entry.text("copy"): (index, entry) for index, entry in found.hits}
    return {
        "copies": [
            {
                "copy": copy,
                "version": entry.integer("version"),
                "kind": entry.text("kind"),
                "place": entry.text("place"),
                "state": entry.text("state"),
                "registrar": entry.text("person"),
                "made": entry.text("made"),
                "due": entry.text("due"),
                "expires": entry.text("expires"),
                "held": entry.text("state") in HELD,
                "overdue": entry.text("state") in HELD and parse_instant(entry.text("due")) <= visit.now,
                "index": index,
            }
            for copy, (index, entry) in sorted(newest.items())
        ],
        "all": len(found.hits) < COPIES,
    }


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
        "held": told(held(trust, name, visit.now)),
        "replayed": told(replayed(trust, name, visit.now)),
        "weights": None if level is None or trust.policy is None else trust.policy.terms(name).weights.value,
    }
