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

from strongroom.access.facts import Facts
from strongroom.access.invariants import eligible, quorum_met
from strongroom.access.policy import Policy
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
        try:
            slice_ = self._slice(json.dumps(_entities(facts)))
        except ValueError:
            return None
        result = cedarpy.is_authorized(_request(facts), self._policies, slice_, self._schema)
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


def _entities(facts: Facts) -> list[Json]:
    people = {person.id: person for person in (facts.requester, *facts.approvers)}
    roles = {facts.rule.requester_role}.union(*(person.roles for person in people.values()))
    result: list[Json] = [{"uid": _uid("Role", role), "attrs": {}, "parents": []} for role in sorted(roles)]
    for person in people.values():
        parents: list[Json] = [_uid("Role", role) for role in sorted(person.roles)]
        attrs: Json = {
            "org": person.org,
            "active": person.active,
            "tier": person.tier,
            "vettedUntil": person.vetted_until,
        }
        result.append({"uid": _uid("Human", person.id), "attrs": attrs, "parents": parents})
    least = facts.enclave.least_isolation if facts.enclave else 0
    model: Json = {"level": facts.terms.level.rank, "frozen": facts.frozen, "leastIsolation": least}
    result.append({"uid": _uid("Model", facts.request.model), "attrs": model, "parents": []})
    return result


def _request(facts: Facts) -> dict[str, Json]:
    counted = [person for person in facts.approvers if eligible(person, facts)]
    approvers: list[Json] = [{"__entity": _uid("Human", person.id)} for person in counted]
    context: dict[str, Json] = {
        "now": facts.now,
        "purpose": facts.request.purpose.value,
        "notBefore": facts.request.not_before,
        "expires": facts.request.expires,
        "usesLeft": facts.uses_left,
        "denied": facts.denied,
        "requesterTier": facts.rule.requester_tier,
        "requesterRole": {"__entity": _uid("Role", facts.rule.requester_role)},
        "quorum": {"satisfied": quorum_met(facts), "approvers": approvers},
    }
    if facts.enclave is not None:
        context["enclave"] = {
            "isolation": facts.enclave.isolation,
            "measurementCurrent": facts.enclave.measurement_current,
            "platformNamed": facts.enclave.platform_named,
        }
    return {
        "principal": _uid("Human", facts.requester.id),
        "action": _uid("Action", facts.request.action.value),
        "resource": _uid("Model", facts.request.model),
        "context": context,
    }
