"""What keeps one person from asking for, or agreeing to, one request now. Codes first; what would pass beside each."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final

from strongroom.access.facts import AccessClass, Facts, PersonFacts, access_class
from strongroom.access.policy import Factor, Unit
from strongroom.access.request import Action
from strongroom.framework.levels import SecurityLevel

HARDWARE_LEVEL: Final = SecurityLevel.SL4
COPY_LEVEL: Final = SecurityLevel.SL3
ANYONE: Final = "*"
"""A factor that any eligible approver fills: what an overdue review adds to a rule."""
_MAY_ASK: Final = {
    AccessClass.NONE: frozenset({"active", "notice"}),
    AccessClass.OUTPUT: frozenset({"active", "notice"}),
    AccessClass.ISOLATED: frozenset({"active"}),
    AccessClass.COPY: frozenset({"active"}),
}
_MAY_APPROVE: Final = frozenset({"active"})


class Shortcoming(StrEnum):
    """What somebody lacks. A reason's code is ``requester-`` or ``approver-`` and one of these."""

    INACTIVE = "inactive"
    NOT_VETTED = "not-vetted"
    VETTING_LAPSED = "vetting-lapsed"
    TIER_TOO_LOW = "tier-too-low"
    EMPLOYMENT = "employment"
    CONFLICT = "conflict-open"
    NDA_MISSING = "nda-missing"
    TRAINING_LAPSED = "training-lapsed"
    COPY_SCREENING_LAPSED = "copy-screening-lapsed"
    KEY_NOT_HARDWARE = "key-not-hardware"
    ROLE_MISSING = "role-missing"
    NOT_HUMAN = "not-human"
    APPROVAL_NOT_RECORDED = "approval-not-recorded"
    APPROVAL_STALE = "approval-stale"


def requester_lacks(facts: Facts) -> Iterator[tuple[Shortcoming, str]]:
    """Yield what the requester lacks."""
    who, rule, access = facts.requester, facts.rule, access_class(facts.request)
    yield from _person_lacks(who, facts, tier=rule.requester_tier, employments=_MAY_ASK[access])
    if rule.requester_role not in who.roles:
        yield Shortcoming.ROLE_MISSING, f"`{who.id}` needs the role `{rule.requester_role}`"
    copies = access is AccessClass.COPY and facts.terms.level.rank >= COPY_LEVEL.rank
    if copies and facts.now >= who.copy_until:
        yield (
            Shortcoming.COPY_SCREENING_LAPSED,
            f"`{who.id}` must have been screened within 180 days, to be able to copy",
        )


def approver_lacks(who: PersonFacts, facts: Facts) -> Iterator[tuple[Shortcoming, str]]:
    """Yield why an approval doesn't count. The requester's own never does; that is said elsewhere."""
    rule = facts.rule
    if not who.human:
        yield Shortcoming.NOT_HUMAN, f"`{who.id}` is an agent: people agree, agents don't"
    yield from _person_lacks(who, facts, tier=rule.approver_tier, employments=_MAY_APPROVE)
    if who.approved_at is None:
        yield Shortcoming.APPROVAL_NOT_RECORDED, f"the log must hold the approval by `{who.id}`"
    elif (facts.now if facts.granted_at is None else facts.granted_at) - who.approved_at > rule.approval_life:
        yield Shortcoming.APPROVAL_STALE, f"`{who.id}` approved more than {rule.approval_life} seconds before the grant"


def _person_lacks(
    who: PersonFacts, facts: Facts, *, tier: int, employments: frozenset[str]
) -> Iterator[tuple[Shortcoming, str]]:
    rule = facts.rule
    if not who.active:
        yield Shortcoming.INACTIVE, f"`{who.id}` must be active in the current roster, and not suspended"
    if not who.vetted_until:
        yield Shortcoming.NOT_VETTED, f"`{who.id}` needs a vetting record signed by two officers"
    elif facts.now >= who.vetted_until:
        yield Shortcoming.VETTING_LAPSED, f"the vetting of `{who.id}` must be current"
    if who.vetted_until and who.tier < tier:
        yield Shortcoming.TIER_TOO_LOW, f"`{who.id}` needs vetting tier {tier}"
    if who.vetted_until and who.employment not in employments:
        yield Shortcoming.EMPLOYMENT, f"`{who.id}` must be employed as: {' or '.join(sorted(employments))}"
    if who.conflict:
        yield Shortcoming.CONFLICT, f"the conflict of interest of `{who.id}` must be closed"
    if rule.nda and not who.nda:
        yield Shortcoming.NDA_MISSING, f"`{who.id}` must sign the non-disclosure agreement"
    if not who.courses.issuperset(rule.courses):
        wanted = ", ".join(f"`{course}`" for course in rule.courses if course not in who.courses)
        yield Shortcoming.TRAINING_LAPSED, f"`{who.id}` must pass again: {wanted}"
    # Whatever the rule says: from SL4 on a key in a file, which malware copies, signs nothing.
    hardware = rule.hardware or facts.terms.level.rank >= HARDWARE_LEVEL.rank
    if hardware and facts.request.action is not Action.FREEZE and not who.hardware:
        yield Shortcoming.KEY_NOT_HARDWARE, f"`{who.id}` must sign with an enrolled security key"


def eligible(who: PersonFacts, facts: Facts) -> bool:
    """Tell whether a person's approval counts now: nothing is lacking, and the request isn't their own."""
    return who.id != facts.requester.id and next(approver_lacks(who, facts), None) is None


def fits(who: PersonFacts, factor: Factor, facts: Facts) -> bool:
    """Tell whether an eligible person may fill a place of a factor: the role, and the organisation unit."""
    if factor.role != ANYONE and factor.role not in who.roles:
        return False
    if factor.unit is Unit.OWNER:
        return bool(facts.terms.owner) and who.org == facts.terms.owner
    return factor.unit is Unit.ANY or who.org != facts.requester.org
