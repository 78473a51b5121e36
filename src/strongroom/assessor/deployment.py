"""What the documents in force, the people, grants, keys and platforms of a deployment come to, as facts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.access.governance import CHANGE_DELAY, CHANGE_DELAY_LEVEL
from strongroom.access.policy import Policy, Rule
from strongroom.access.request import OPENS, Action
from strongroom.assessor.collecting import Look
from strongroom.assurance.observations import Fact
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.client.keys_shown import KeysShown
from strongroom.client.state import CapUse, PersonStanding
from strongroom.client.told import GrantShown
from strongroom.core.clock import Instant
from strongroom.core.ids import ModelId
from strongroom.egress.policies import EgressPolicies
from strongroom.egress.policy import EgressPolicy
from strongroom.keys.states import KeyState
from strongroom.personnel.roster import Roster
from strongroom.release.ledger import Ledger

_DAY: Final = 86400
_IDLE_DAYS: Final = 30
_MILLI: Final = 1000
_GONE: Final = KeyState.DESTROYED
_HANDS_OVER: Final = OPENS | {Action.EXPORT_PLAINTEXT}
_CONFIDENTIAL: Final = frozenset({IsolationClass.CVM_GPU, IsolationClass.CVM_GPU_CUSTODY})
_UNLIMITED: Final[Mapping[str, bool | int | tuple[str, ...]]] = {"covered": False, "warned": False, "outputs": ()}
_TEAM: Final = "security"
"""A role that names it is the security team's, which has to agree to each access (SL3-WAC-01)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformSeen:
    """An enrolled platform: the class that its enrolment gave, and whether the quorum vouches for its custody."""

    platform: str
    isolation: IsolationClass
    custody: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSeen:
    """What a person's verified session knows of a deployment, before anything is made of it."""

    root_holders: int
    root_threshold: int
    policy: Policy | None
    roster: Roster | None
    egress: EgressPolicies | None
    reference: ReferenceValues | None
    standings: tuple[PersonStanding, ...]
    caps: tuple[CapUse, ...]
    grants: tuple[GrantShown, ...]
    keys: KeysShown | None
    platforms: tuple[PlatformSeen, ...]


def checked_standings(
    told: Iterable[PersonStanding], roster: Roster | None, ledger: Ledger
) -> tuple[PersonStanding, ...]:
    """Return everybody in the roster as they stand: no better than the roster and the verified log allow.

    The deployment knows more than the log says, such as until when somebody is vetted; but it can't leave anybody out,
    raise a role or a key, or bring back who was suspended.
    """
    shown = {one.person: one for one in told}
    found = []
    for person in () if roster is None else roster.people:
        one, known = shown.get(person.id), person.id in ledger.vetting
        found.append(
            PersonStanding(
                person=person.id,
                kind=person.kind.value,
                unit=person.org,
                roles=tuple(sorted(person.roles)),
                active=person.active and person.id not in ledger.erased and (one is None or one.active),
                suspended=person.id in ledger.suspended or (one is not None and one.suspended),
                tier=one.tier if one is not None and known else 0,
                vetted_until=one.vetted_until if one is not None and known else None,
                serial=ledger.vetting[person.id].epoch if known else 0,
                hardware_keys=sum(key.hardware for key in person.keys),
            )
        )
    return tuple(found)


def looks(seen: DeploymentSeen, now: Instant) -> Iterator[Look]:
    """Yield what the deployment's own collectors saw."""
    yield _policy(seen)
    yield _people(seen, now)
    yield _grants(seen, now)
    yield _keys(seen, now)
    yield _reference(seen, now)
    yield from _platforms(seen)
    yield from _egress(seen)


def rules_in_use(policy: Policy) -> tuple[Rule, ...]:
    """Return the rules by which somebody gets the weights of a model that the policy names."""
    levels = {terms.level for terms in policy.models}
    return tuple(rule for rule in policy.rules if rule.level in levels and rule.action in _HANDS_OVER)


def _policy(seen: DeploymentSeen) -> Look:
    policy = seen.policy
    common = {
        "roster": seen.roster is not None,
        "egress": seen.egress is not None,
        "reference_values": seen.reference is not None,
        "root_holders": seen.root_holders,
        "root_threshold": seen.root_threshold,
    }
    if policy is None:
        return Look(collector="access.policy", facts={"in_force": False, **common})
    rules = rules_in_use(policy)
    # Of no rules everything is true: then nothing is said of them.
    told: dict[str, Fact] = (
        {
            "lone_rules": _named(rule for rule in rules if rule.quorum < 1),
            "few_rules": _named(rule for rule in rules if rule.quorum < 2),
            "one_role_rules": _named(rule for rule in rules if not _two_roles(rule)),
            "soft_rules": _named(rule for rule in rules if not rule.hardware),
            "untrained_rules": _named(rule for rule in rules if not rule.courses),
            "longest_window_seconds": max(rule.max_window for rule in rules),
        }
        if rules
        else {}
    )
    isolation = [IsolationClass(terms.least_isolation) for terms in policy.models]
    weakest = min(isolation, key=lambda one: one.rank, default=IsolationClass.NONE)
    return Look(
        collector="access.policy",
        facts={
            "in_force": True,
            **common,
            "models": tuple(terms.model for terms in policy.models),
            "break_glass": _named(rule for rule in rules if rule.action is Action.BREAK_GLASS),
            "exportable": tuple(terms.model for terms in policy.models if terms.export),
            "recoverable": tuple(terms.model for terms in policy.models if terms.recoverable),
            "isolation_rank": weakest.rank,
            "weakest_isolation": weakest.value,
            **told,
            "caps_output": policy.caps.output,
            "caps_isolated": policy.caps.isolated,
            "caps_copy": policy.caps.copy,
            "change_hold_hours": CHANGE_DELAY // 3600 if policy.level.rank >= CHANGE_DELAY_LEVEL.rank else 0,
        },
    )


def _two_roles(rule: Rule) -> bool:
    roles = {factor.role for factor in rule.factors}
    return len(roles) >= 2 and any(_TEAM in role for role in roles)


def _named(rules: Iterable[Rule]) -> tuple[str, ...]:
    return tuple(f"{rule.action.value} at {rule.level.value}" for rule in rules)


def _people(seen: DeploymentSeen, now: Instant) -> Look:
    if seen.roster is None or seen.policy is None:
        return Look(collector="personnel.roster", missing="no roster or no policy is in force")
    rules = rules_in_use(seen.policy)
    asking = {rule.requester_role for rule in rules}
    agreeing = {factor.role for rule in rules for factor in rule.factors}
    acting = [one for one in seen.standings if one.active and {*one.roles} & (asking | agreeing)]
    humans = [one for one in acting if one.kind == "human"]
    if not acting:
        return Look(collector="personnel.roster", missing="nobody has a role by which weights are reached")
    return Look(
        collector="personnel.roster",
        facts={
            "people": len(seen.roster.people),
            "acting": len(acting),
            "both_sides": tuple(one.person for one in acting if {*one.roles} & asking and {*one.roles} & agreeing),
            "unvetted": tuple(one.person for one in acting if not one.cleared(now)),
            "without_security_key": tuple(one.person for one in humans if one.hardware_keys < 1),
            "without_unit": tuple(one.person for one in acting if not one.unit),
            "suspended": tuple(one.person for one in seen.standings if one.suspended),
        },
    )


def _grants(seen: DeploymentSeen, now: Instant) -> Look:
    live = [grant for grant in seen.grants if grant.live]
    if not seen.caps:
        return Look(collector="access.grants", missing="the deployment doesn't say how many people have access")
    since = now - _IDLE_DAYS * _DAY
    idle = [grant for grant in live if (grant.last_used or grant.issued) < since]
    return Look(
        collector="access.grants",
        facts={
            "live": len(live),
            "idle": tuple(f"{grant.grant.value.hex()[:12]} of {grant.requester}" for grant in idle),
            "over_cap": tuple(one.access for one in seen.caps if one.people > one.cap),
        },
    )


def _keys(seen: DeploymentSeen, now: Instant) -> Look:
    if seen.keys is None:
        return Look(collector="keys.states", missing="the deployment doesn't say")
    active = [kek for kek in seen.keys.keks if kek.state is KeyState.ACTIVE]
    return Look(
        collector="keys.states",
        facts={
            "generation": seen.keys.generation,
            "due": tuple(seen.keys.due(now)),
            "models": len(active),
            # Whatever opens anything, old copies included.
            "escrowed": tuple(
                dict.fromkeys(kek.model for kek in seen.keys.keks if kek.escrowed and kek.state is not _GONE)
            ),
        },
    )


def _reference(seen: DeploymentSeen, now: Instant) -> Look:
    values = seen.reference
    if values is None:
        return Look(collector="attestation.reference", facts={"in_force": False, "images": 0, "days_left": 0})
    left = max(0, values.not_after - now) // _DAY
    images = sum(not image.revoked for image in values.images)
    return Look(
        collector="attestation.reference",
        facts={"in_force": now < values.not_after, "images": images if left else 0, "days_left": left},
    )


def _platforms(seen: DeploymentSeen) -> Iterator[Look]:
    for one in seen.platforms:
        yield Look(
            collector="attestation.platform",
            subject=f"platform:{one.platform}",
            facts={
                "isolation": one.isolation.value,
                "simulated": one.isolation.simulated,
                "confidential": one.isolation in _CONFIDENTIAL,
                "custody": one.custody,
            },
        )


def _egress(seen: DeploymentSeen) -> Iterator[Look]:
    policies: Mapping[ModelId, EgressPolicy] = {} if seen.egress is None else seen.egress.by_model
    for terms in () if seen.policy is None else seen.policy.models:
        policy = policies.get(terms.model)
        facts = {**_UNLIMITED} if policy is None else _limits(policy)
        yield Look(collector="egress.model", subject=f"model:{terms.model}", facts=facts)


def _limits(policy: EgressPolicy) -> dict[str, bool | int | tuple[str, ...]]:
    size = policy.effective_size
    # What may pass in a year: a full bucket besides each day's, but never more than the odometer's end.
    year = min(366 * policy.model_day_bits, policy.lifetime_bits) + policy.workspace_year_bits
    return {
        "covered": True,
        "year_permille": -(-year * _MILLI // size),
        "lifetime_permille": policy.lifetime_permille,
        "min_days_to_steal": policy.min_days_to_steal,
        "principal_tokens_per_second": -(-policy.principal_day_bits * _MILLI // (policy.token_millibits * _DAY)),
        "quota_holders": policy.quota_holders,
        "outputs": tuple(output.value for output in policy.outputs),
        "warned": bool(policy.warn_permille),
    }
