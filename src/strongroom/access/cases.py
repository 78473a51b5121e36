"""A policy author's own cases: what a policy must allow, and what it must deny and why. Read from JSON, strictly.

A case begins with facts in which everything is in order for an action on a model, and says what is otherwise:

    {"v": 1, "cases": [
      {"name": "an evaluation, both teams agreeing", "action": "open-in-enclave", "model": "atlas", "expect": "allow"},
      {"name": "nobody of security agreed", "action": "open-in-enclave", "model": "atlas",
       "approvers": [{"id": "rina", "roles": ["approver-research"]}], "expect": "deny", "reason": "quorum-not-met"}]}

Nothing but ``name``, ``action``, ``model`` and ``expect`` has to be there. Times are seconds, counted from what they
are about: a case stays true as the days go by.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from strongroom.access.decision import PolicyEngine, decide
from strongroom.access.facts import EnclaveFacts, Facts, PersonFacts
from strongroom.access.legitimate import ASKER, ASKING_UNIT, AT, DAY, OTHER_UNIT, cleared, legitimate
from strongroom.access.policy import MAX_APPROVALS, NoRuleError, Policy, Rule
from strongroom.access.request import Action, Purpose
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields, reading
from strongroom.core.ids import ModelId, model_id, person_id

MAX_CASES: Final = 1000
MAX_SECONDS: Final = 366 * DAY
NO_RULE: Final = "no-rule"
"""The reason where the policy has no rule or no such model."""


class Expectation(StrEnum):
    """What a case expects."""

    ALLOW = "allow"
    DENY = "deny"


class Vetted(StrEnum):
    """What somebody's vetting is worth."""

    CURRENT = "current"
    LAPSED = "lapsed"
    NEVER = "never"


_VETTED_UNTIL: Final = {Vetted.CURRENT: AT + DAY, Vetted.LAPSED: AT, Vetted.NEVER: 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case. ``changes`` are its members that say what is otherwise; they are read against the policy's rule."""

    name: str
    action: Action
    model: ModelId
    expect: Expectation
    reason: str
    """A code that must be among the refusals; empty for any."""
    changes: Json
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """What came of a case: allowed, or the codes of every refusal."""

    case: Case
    allowed: bool
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """As expected."""
        if self.allowed is not (self.case.expect is Expectation.ALLOW):
            return False
        return not self.case.reason or self.case.reason in self.reasons


def read_cases(value: Json) -> tuple[Case, ...]:
    """Read a file of cases.

    :raises MalformedError: another form; the error names the case and the member.
    """
    with reading(value, "cases file") as fields:
        fields.constant("v", 1)
        return tuple(_case(item, where) for where, item in fields.items("cases", most=MAX_CASES))


def run_case(case: Case, policy: Policy, engine: PolicyEngine) -> CaseResult:
    """Decide a case under a policy.

    :raises MalformedError: a member of the case has another form, or means nothing for its action.
    """
    try:
        terms = policy.terms(case.model)
        rule = policy.rule(case.action, terms.level)
    except NoRuleError:
        return CaseResult(case=case, allowed=False, reasons=(NO_RULE,))
    with reading(case.changes, case.where) as fields:
        purpose = fields.parsed("purpose", Purpose) if fields.optional("purpose") else Purpose.EVALUATE
        facts = _changed(legitimate(rule, terms, policy.caps, purpose), fields)
    decision = decide(facts, engine)
    return CaseResult(
        case=case, allowed=decision.allowed, reasons=tuple(reason.value for reason, _text in decision.refusals)
    )


def _case(item: Json, where: str) -> Case:
    fields = Fields(item, where)
    name = fields.text("name", max_length=128)
    action, model = fields.parsed("action", Action), fields.parsed("model", model_id)
    expect = fields.parsed("expect", Expectation)
    reason = fields.text("reason", max_length=64) if fields.optional("reason") else ""
    left = dict(item) if isinstance(item, dict) else {}
    changes = {key: one for key, one in left.items() if key not in {"name", "action", "model", "expect", "reason"}}
    return Case(name=name, action=action, model=model, expect=expect, reason=reason, changes=changes, where=where)


def _changed(facts: Facts, fields: Fields) -> Facts:
    rule, request = facts.rule, facts.request
    if fields.optional("window"):
        seconds = fields.integer("window", least=1, most=MAX_SECONDS)
        request = replace(request, expires=request.not_before + seconds)
    if fields.optional("uses"):
        request = replace(request, max_uses=fields.integer("uses", least=1, most=1_000_000))
    requester = facts.requester
    if fields.optional("requester"):
        with fields.child("requester") as child:
            requester = _person(child, requester)
    waited = fields.integer("waited", most=MAX_SECONDS) if fields.optional("waited") else facts.now - facts.recorded_at
    approvers = facts.approvers
    if fields.optional("approvers"):
        approvers = fields.objects("approvers", lambda child: _approver(child, rule), most=MAX_APPROVALS)
    changed = replace(
        facts,
        request=replace(request, requester=requester.id),
        requester=requester,
        approvers=approvers,
        recorded_at=facts.now - waited,
        denied=_flag(fields, "denied"),
        frozen=_flag(fields, "frozen"),
        review_overdue=_flag(fields, "review_overdue"),
        approver_more=_flag(fields, "approver_more"),
        uses_left=fields.integer("uses_left", most=1_000_000) if fields.optional("uses_left") else request.max_uses,
        holders=fields.integer("holders", most=1_000_000) if fields.optional("holders") else facts.holders,
    )
    if fields.optional("enclave"):
        with fields.child("enclave") as child:
            return replace(changed, enclave=_enclave(child, facts.enclave))
    return replace(changed, enclave=None) if _flag(fields, "no_enclave") else changed


def _flag(fields: Fields, name: str, *, usual: bool = False) -> bool:
    return fields.boolean(name) if fields.optional(name) else usual


def _enclave(fields: Fields, good: EnclaveFacts | None) -> EnclaveFacts:
    if good is None:
        raise MalformedError(f"`{fields.where}` means nothing for an action that opens no enclave")
    return replace(
        good,
        isolation=0 if _flag(fields, "isolation_too_weak") else good.isolation,
        level_cap=fields.integer("level_cap", most=good.level_cap) if fields.optional("level_cap") else good.level_cap,
        measurement_current=_flag(fields, "measurement_current", usual=True),
        platform_named=_flag(fields, "platform_named", usual=True),
    )


def _approver(fields: Fields, rule: Rule) -> PersonFacts:
    name = fields.parsed("id", person_id)
    good = cleared(name, org=OTHER_UNIT, roles=frozenset(), courses=rule.courses)
    ago = fields.integer("approved_ago", most=MAX_SECONDS) if fields.optional("approved_ago") else 0
    if name == ASKER:
        good = replace(good, org=ASKING_UNIT, roles=frozenset({rule.requester_role}))
    return replace(_person_members(fields, good), approved_at=AT - ago)


def _person(fields: Fields, good: PersonFacts) -> PersonFacts:
    name = fields.parsed("id", person_id) if fields.optional("id") else good.id
    return replace(_person_members(fields, good), id=name)


def _person_members(fields: Fields, good: PersonFacts) -> PersonFacts:
    vetted = fields.parsed("vetted", Vetted) if fields.optional("vetted") else Vetted.CURRENT
    screened = _flag(fields, "copy_screened", usual=True)
    person = replace(good, vetted_until=_VETTED_UNTIL[vetted], copy_until=good.copy_until if screened else 0)
    if fields.optional("org"):
        person = replace(person, org=fields.text("org", max_length=64))
    if fields.optional("roles"):
        person = replace(person, roles=frozenset(fields.texts("roles", most=16, max_length=48)))
    if fields.optional("employment"):
        person = replace(person, employment=fields.text("employment", max_length=16))
    if fields.optional("tier"):
        person = replace(person, tier=fields.integer("tier", most=5))
    if fields.optional("courses"):
        person = replace(person, courses=frozenset(fields.texts("courses", most=32, max_length=48)))
    return replace(
        person,
        human=_flag(fields, "human", usual=True),
        active=_flag(fields, "active", usual=True),
        conflict=_flag(fields, "conflict"),
        nda=_flag(fields, "nda", usual=True),
        hardware=_flag(fields, "hardware", usual=True),
    )
