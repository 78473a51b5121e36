"""A policy to begin with: rules for SL1 to SL3, none of which the invariants forbid. The root quorum signs what it is.

Sealing and stopping are cheap, opening and starting again are dear. SL4 and SL5 have no rule, so nothing is allowed
there until the quorum writes its own.
"""

from __future__ import annotations

from typing import Final

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.invariants import QUORUM_FLOOR_LEVEL
from strongroom.access.policy import Factor, Policy, Rule
from strongroom.access.request import Action
from strongroom.core.digest import Digest
from strongroom.framework.levels import SecurityLevel

PUBLISHER: Final = "publisher"
REQUESTER: Final = "requester"
RESPONDER: Final = "responder"
APPROVERS: Final = ("approver-security", "approver-research")
DAY: Final = 86400
LEVELS: Final = (SecurityLevel.SL1, SecurityLevel.SL2, SecurityLevel.SL3)
_TWO: Final = tuple(Factor(role=role, count=1) for role in APPROVERS)
_ONE: Final = _TWO[:1]


def default_policy(genesis: Digest) -> Policy:
    """Return the first policy of a deployment: every default rule, and no model yet."""
    rules = tuple(rule for level in LEVELS for rule in default_rules(level))
    return Policy(genesis=genesis, epoch=1, predecessor=None, cedar=DEFAULT_CEDAR, rules=rules, models=())


def default_rules(level: SecurityLevel) -> tuple[Rule, ...]:
    """Return the rules of one level, SL1 to SL3."""
    # From SL3 on the invariants ask for two approvers of everything but a freeze.
    floor = _TWO if level.rank >= QUORUM_FLOOR_LEVEL.rank else ()
    opening = _TWO if level.rank >= SecurityLevel.SL2.rank else _ONE

    def rule(action: Action, role: str, factors: tuple[Factor, ...], *, window: int = DAY, uses: int = 1) -> Rule:
        return Rule(
            action=action,
            level=level,
            requester_role=role,
            factors=factors,
            requester_tier=level.rank - 1,
            approver_tier=level.rank - 1,
            max_window=window,
            max_uses=uses,
        )

    return (
        rule(Action.SEAL, PUBLISHER, floor),
        rule(Action.OPEN_IN_ENCLAVE, REQUESTER, opening, window=7 * DAY, uses=1000),
        rule(Action.FREEZE, RESPONDER, ()),
        rule(Action.RESUME, RESPONDER, _TWO),
        rule(Action.REVOKE_GRANT, RESPONDER, floor),
        rule(Action.REVOKE_PLATFORM, RESPONDER, floor),
    )
