"""A policy to begin with: rules for every action and level, none of which the invariants forbid.

Sealing and stopping are cheap, opening is dear, exporting and starting again are dearer. The numbers are ours to
propose and the root quorum's to sign; where RAND names one (RRA2849-1), it is the caps in :mod:`strongroom.access`.

                       SL1           SL2                SL3                  SL4                       SL5
seal                   publisher     publisher          + 2                  + 2                       + 2
open-in-enclave        + 1, 7 days   + 2, 7 days        + 2, 1 day           + 2, 1 day, other unit    + 3, 8 hours
break-glass            + 2, 1 hour at every level
export-plaintext       + 2           + 2                + 2, 4 h, once       + 3, 4 h, once            never
resume, revoke, lift   + 2           + 2                + 2                  + 2                       + 2
destroy                + 2, a day    + 2, a day         + 2, a day           + 3, three days           + 3, three days
freeze                 one responder alone, at every level
"""

from __future__ import annotations

from typing import Final

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.invariants import CUSTODIAN
from strongroom.access.policy import Factor, Policy, Rule, Unit
from strongroom.access.request import Action
from strongroom.core.digest import Digest
from strongroom.framework.levels import SecurityLevel

PUBLISHER: Final = "publisher"
REQUESTER: Final = "requester"
EXPORTER: Final = "exporter"
RESPONDER: Final = "responder"
SECURITY: Final = "approver-security"
RESEARCH: Final = "approver-research"
COURSE: Final = "weights-handling"
HOUR: Final = 3600
DAY: Final = 86400
LEVELS: Final = tuple(SecurityLevel)
_SECURITY: Final = Factor(role=SECURITY, count=1)
_TWO: Final = (_SECURITY, Factor(role=RESEARCH, count=1))
_OTHER_UNIT: Final = (Factor(role=SECURITY, count=1, unit=Unit.OTHER), Factor(role=RESEARCH, count=1))
_THREE: Final = (*_OTHER_UNIT, Factor(role=RESPONDER, count=1))
_TIERS: Final = {"SL1": (0, 0), "SL2": (1, 1), "SL3": (2, 2), "SL4": (3, 3), "SL5": (4, 4)}
_OPENING: Final = {
    "SL1": ((_SECURITY,), 7 * DAY, 1000),
    "SL2": (_TWO, 7 * DAY, 1000),
    "SL3": (_TWO, DAY, 1000),
    "SL4": (_OTHER_UNIT, DAY, 100),
    "SL5": (_THREE, 8 * HOUR, 10),
}


def default_policy(genesis: Digest) -> Policy:
    """Return the first policy of a deployment: every default rule, and no model yet."""
    rules = tuple(rule for level in LEVELS for rule in default_rules(level))
    return Policy(genesis=genesis, epoch=1, predecessor=None, cedar=DEFAULT_CEDAR, rules=rules, models=())


def default_rules(level: SecurityLevel) -> tuple[Rule, ...]:
    """Return the rules of one level."""
    floor = _TWO if level.rank >= SecurityLevel.SL3.rank else ()
    opening, window, uses = _OPENING[level.value]
    strict = level.rank >= SecurityLevel.SL4.rank
    exporting = _THREE if strict else _TWO
    destroying = (*(_OTHER_UNIT if strict else (_SECURITY,)), Factor(role=CUSTODIAN, count=1))

    def rule(
        action: Action, role: str, factors: tuple[Factor, ...], *, window: int = DAY, uses: int = 1, delay: int = 0
    ) -> Rule:
        asks, agrees = _TIERS[level.value]
        copies = action is Action.EXPORT_PLAINTEXT
        return Rule(
            action=action,
            level=level,
            requester_role=role,
            factors=factors,
            requester_tier=min(5, asks + copies),
            approver_tier=agrees,
            max_window=window,
            max_uses=uses,
            approval_life=min(window, DAY),
            delay=delay,
            hardware=level.rank >= SecurityLevel.SL3.rank,
            nda=level.rank >= SecurityLevel.SL2.rank and action is not Action.FREEZE,
            courses=(COURSE,) if level.rank >= SecurityLevel.SL3.rank and action is not Action.FREEZE else (),
        )

    rules = (
        rule(Action.SEAL, PUBLISHER, floor),
        rule(Action.OPEN_IN_ENCLAVE, REQUESTER, opening, window=window, uses=uses),
        rule(Action.BREAK_GLASS, RESPONDER, _TWO, window=HOUR),
        rule(Action.FREEZE, RESPONDER, ()),
        rule(Action.RESUME, RESPONDER, _TWO),
        rule(Action.REVOKE_GRANT, RESPONDER, floor),
        rule(Action.REVOKE_PLATFORM, RESPONDER, floor),
        rule(Action.ROTATE, RESPONDER, floor),
        rule(Action.LIFT, RESPONDER, _TWO),
        rule(Action.DESTROY, RESPONDER, destroying, window=14 * DAY, delay=3 * DAY if strict else DAY),
    )
    if level is SecurityLevel.SL5:
        return rules
    return (*rules, rule(Action.EXPORT_PLAINTEXT, EXPORTER, exporting, window=4 * HOUR))
