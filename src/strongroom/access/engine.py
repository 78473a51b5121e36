"""The Cedar policy engine behind a contract that fails closed.

Cedar skips a policy that errors and can allow when an entity is missing. So: policies are validated against our
schema when loaded, every policy carries an ``@id``, the entity slice is built with the schema and holds every entity
that is named, and only an allow without a single diagnostic counts.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib.resources import files
from typing import Final

import cedarpy

from strongroom.access.clearance import HARDWARE_LEVEL, eligible
from strongroom.access.facts import Facts, PersonFacts, access_class, cap_of
from strongroom.access.governance import ChangeFacts, VoiceFacts
from strongroom.access.invariants import quorum
from strongroom.access.policy import ModelTerms, Policy, Weights
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError

NAMESPACE: Final = "Strongroom"
SCHEMA_TEXT: Final = files("strongroom.access").joinpath("strongroom.cedarschema").read_text("utf-8")
DEFAULT_CEDAR: Final = files("strongroom.access").joinpath("default.cedar").read_text("utf-8")
_ID: Final = re.compile(r"[a-z0-9-]{1,64}")


class InvalidPolicyError(MalformedError):
    """The Cedar text doesn't parse, doesn't fit the schema, or has a policy without a unique ``@id``."""

    code = "invalid-policy"


class CedarEngine:
    """One validated policy set, parsed once. Pure: it reads nothing but its arguments."""

    def __init__(self, policy: Policy) -> None:
        result = cedarpy.validate_policies(policy.cedar, SCHEMA_TEXT)
        if not result.validation_passed:
            raise InvalidPolicyError(
                f"the Cedar policies don't fit the schema ({len(result.errors)} errors)",
                remedy="; ".join(error.error for error in result.errors[:3]),
            )
        self._ids = _ids(policy.cedar)
        self._schema = cedarpy.Schema.from_str(SCHEMA_TEXT)
        self._policies = cedarpy.PolicySet.from_str(policy.cedar)
        # Kept by the text, which holds every fact about people and model: a changed fact is another text.
        self._slice = lru_cache(maxsize=256)(self._parse_entities)

    def allows(self, facts: Facts) -> tuple[str, ...] | None:
        """Return the ids of the policies that allow, or None. Diagnostics are never passed on: they hold entities."""
        return self._ask(_entities(facts), _request(facts))

    def allows_voice(self, facts: VoiceFacts) -> tuple[str, ...] | None:
        """Return the ids of the policies that let somebody speak about a request, or None."""
        terms = ModelTerms(model=facts.model, level=facts.level, least_isolation="")
        request: dict[str, Json] = {
            "principal": _uid(_kind(facts.person), facts.person.id),
            "action": _uid("Action", facts.voice.value),
            "resource": _uid("Model", facts.model),
            "context": {"now": facts.now, "requester": facts.requester},
        }
        people = _people([facts.person], frozenset())
        return self._ask([*people, _model(terms, frozen=False, least_isolation=0)], request)

    def allows_change(self, facts: ChangeFacts) -> tuple[str, ...] | None:
        """Return the ids of the policies that let the root quorum change the rules, or None."""
        quorum_uid, deployment = _uid("RootQuorum", "root"), _uid("Deployment", "this")
        entities: list[Json] = [
            {"uid": quorum_uid, "attrs": {}, "parents": []},
            {"uid": deployment, "attrs": {"level": facts.level.rank}, "parents": []},
        ]
        context: Json = {
            "now": facts.now,
            "loosens": facts.loosens,
            "signatures": facts.signatures,
            "threshold": facts.threshold,
            "proposedAt": facts.proposed_at,
            "stopped": facts.stopped,
        }
        action = _uid("Action", facts.change.value)
        return self._ask(
            entities, {"principal": quorum_uid, "action": action, "resource": deployment, "context": context}
        )

    def _ask(self, entities: list[Json], request: dict[str, Json]) -> tuple[str, ...] | None:
        # To Cedar, somebody who isn't in the slice is in no role: a `forbid` on roles would let them by without error.
        present = [entity.get("uid") for entity in entities if isinstance(entity, dict)]
        if request["principal"] not in present or request["resource"] not in present:
            return None
        try:
            slice_ = self._slice(json.dumps(entities))
        except ValueError:
            return None
        result = cedarpy.is_authorized(request, self._policies, slice_, self._schema)
        reasons = result.diagnostics.id_annotations_by_reason
        if result.decision is not cedarpy.Decision.Allow or result.diagnostics.errors:
            return None
        if not reasons or len(reasons) != len(result.diagnostics.reasons) or not self._ids.issuperset(reasons.values()):
            return None
        return tuple(sorted(reasons.values()))

    def _parse_entities(self, text: str) -> cedarpy.Entities:
        return cedarpy.Entities.from_json_str(text, self._schema)


def _ids(cedar: str) -> frozenset[str]:
    # Asked of Cedar's own parser, not of the text: comments and strings can look like a policy, or hide one.
    parsed = json.loads(cedarpy.policies_to_json_str(cedar))
    policies = parsed["staticPolicies"].values()
    ids = [str(policy.get("annotations", {}).get("id", "")) for policy in policies]
    if parsed["templates"] or parsed["templateLinks"]:
        raise InvalidPolicyError("templates have no place in a policy", remedy="write the policy out")
    if not ids or len(set(ids)) != len(ids) or not all(_ID.fullmatch(name) for name in ids):
        raise InvalidPolicyError("there must be a Cedar policy, and each needs its own `@id` of a-z, 0-9 and `-`")
    return frozenset(ids)


def _uid(kind: str, name: str) -> dict[str, Json]:
    return {"type": f"{NAMESPACE}::{kind}", "id": name}


def _kind(person: PersonFacts) -> str:
    return "Human" if person.human else "Agent"


def _people(people: list[PersonFacts], more_roles: frozenset[str]) -> list[Json]:
    roles = more_roles.union(*(person.roles for person in people))
    result: list[Json] = [{"uid": _uid("Role", role), "attrs": {}, "parents": []} for role in sorted(roles)]
    for person in people:
        parents: list[Json] = [_uid("Role", role) for role in sorted(person.roles)]
        attrs: Json = {
            "name": person.id,
            "unit": person.org,
            "active": person.active,
            "employment": person.employment,
            "tier": person.tier,
            "vettedUntil": person.vetted_until,
            "copyUntil": person.copy_until,
            "conflict": person.conflict,
            "nda": person.nda,
            "hardware": person.hardware,
        }
        result.append({"uid": _uid(_kind(person), person.id), "attrs": attrs, "parents": parents})
    return result


def _model(terms: ModelTerms, *, frozen: bool, least_isolation: int) -> Json:
    return {
        "uid": _uid("Model", terms.model),
        "attrs": {
            "level": terms.level.rank,
            "frozen": frozen,
            "leastIsolation": least_isolation,
            "owner": terms.owner,
            "exportable": terms.export,
            "testWeights": terms.weights is Weights.TEST,
        },
        "parents": [_uid("Collection", terms.collection)] if terms.collection else [],
    }


def _entities(facts: Facts) -> list[Json]:
    people = {person.id: person for person in (*facts.approvers, facts.requester)}
    result = _people(list(people.values()), frozenset({facts.rule.requester_role}))
    least = facts.enclave.least_isolation if facts.enclave else 0
    result.append(_model(facts.terms, frozen=facts.frozen, least_isolation=least))
    if facts.terms.collection:
        result.append({"uid": _uid("Collection", facts.terms.collection), "attrs": {}, "parents": []})
    return result


def _request(facts: Facts) -> dict[str, Json]:
    counted: list[Json] = [person.id for person in facts.approvers if eligible(person, facts)]
    cap = cap_of(facts.caps, access_class(facts.request))
    context: dict[str, Json] = {
        "now": facts.now,
        "purpose": facts.request.purpose.value,
        "notBefore": facts.request.not_before,
        "expires": facts.request.expires,
        "recordedAt": facts.waits_from,
        "delay": facts.delay,
        "usesLeft": facts.uses_left,
        "denied": facts.denied,
        "requesterTier": facts.rule.requester_tier,
        "requesterRole": {"__entity": _uid("Role", facts.rule.requester_role)},
        "hardwareRequired": facts.rule.hardware or facts.terms.level.rank >= HARDWARE_LEVEL.rank,
        "ndaRequired": facts.rule.nda,
        "quorum": {"satisfied": quorum(facts) is not None, "approvers": counted},
        "holders": facts.holders,
        "cap": facts.holders if cap is None else cap,
        "reviewOverdue": facts.review_overdue,
        "approverMore": facts.approver_more,
    }
    if facts.enclave is not None:
        context["enclave"] = {
            "isolation": facts.enclave.isolation,
            "levelCap": facts.enclave.level_cap,
            "measurementCurrent": facts.enclave.measurement_current,
            "platformNamed": facts.enclave.platform_named,
        }
    return {
        "principal": _uid(_kind(facts.requester), facts.requester.id),
        "action": _uid("Action", facts.request.action.value),
        "resource": _uid("Model", facts.request.model),
        "context": context,
    }
