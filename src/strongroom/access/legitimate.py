"""Facts in which everything is in order: what tests of a policy start from, taking one thing away at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from strongroom.access.clearance import ANYONE
from strongroom.access.facts import DESTROY_DELAYS, WAITS_AGREED, EnclaveFacts, Facts, PersonFacts
from strongroom.access.invariants import BREAK_GLASS_SECONDS
from strongroom.access.policy import Caps, Factor, ModelTerms, Rule, Unit
from strongroom.access.request import NONCE_BYTES, OPENS, Action, LogHead, Purpose, Request
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, PersonId, PlatformId
from strongroom.framework.levels import SecurityLevel

AT: Final[Instant] = 1_800_000_000
"""When everything takes place."""
DAY: Final = 86400
ASKER: Final = PersonId("the-asker")
ASKING_UNIT: Final = "asking-unit"
OTHER_UNIT: Final = "another-unit"
HIGHEST_TIER: Final = 5
STRONGEST: Final = 64
"""A rank of isolation that no demand exceeds."""
_NOBODY: Final = Digest.of(b"")
_EXPORTS: Final = frozenset({*OPENS, Action.EXPORT_PLAINTEXT})
_TAKES: Final = frozenset({Action.EXPORT_PLAINTEXT, Action.SEAL})


def cleared(name: str, *, org: str, roles: frozenset[str], courses: tuple[str, ...]) -> PersonFacts:
    """Return somebody who lacks nothing, and who approved just now."""
    return PersonFacts(
        id=PersonId(name),
        org=org,
        roles=roles,
        active=True,
        employment="active",
        tier=HIGHEST_TIER,
        vetted_until=AT + DAY,
        copy_until=AT + DAY,
        nda=True,
        courses=frozenset(courses),
        hardware=True,
        approved_at=AT,
    )


def legitimate(rule: Rule, terms: ModelTerms, caps: Caps, purpose: Purpose) -> Facts:
    """Return facts that a rule wants: a cleared requester, a different person in every place, and an open window.

    Where the rule asks for the unit that owns the model and the model has no owner, the quorum is short of it.
    """
    waited = max(rule.delay, *DESTROY_DELAYS.values())
    return Facts(
        now=AT,
        request=_request(rule, terms, purpose),
        terms=terms,
        rule=rule,
        caps=caps,
        requester=cleared(ASKER, org=ASKING_UNIT, roles=frozenset({rule.requester_role}), courses=rule.courses),
        approvers=tuple(_approvers(rule, terms)),
        repeated=frozenset(),
        recorded_at=AT - waited,
        granted_at=AT - waited if rule.action in WAITS_AGREED else None,
        denied=False,
        frozen=False,
        uses_left=1,
        holders=1,
        enclave=EnclaveFacts(
            isolation=STRONGEST,
            least_isolation=STRONGEST,
            level_cap=SecurityLevel.SL5.rank,
            measurement_current=True,
            platform_named=True,
        )
        if rule.action in OPENS
        else None,
    )


def _approvers(rule: Rule, terms: ModelTerms) -> Iterator[PersonFacts]:
    places: list[Factor] = [factor for factor in rule.factors for _ in range(factor.count)]
    for number, place in enumerate(places, 1):
        org = terms.owner if place.unit is Unit.OWNER else OTHER_UNIT
        roles = frozenset() if place.role == ANYONE else frozenset({place.role})
        yield cleared(f"approver-{number}", org=org, roles=roles, courses=rule.courses)


def _request(rule: Rule, terms: ModelTerms, purpose: Purpose) -> Request:
    action = rule.action
    opens = action in OPENS
    return Request(
        genesis=_NOBODY,
        action=action,
        requester=ASKER,
        model=terms.model,
        version=1 if action in _EXPORTS | _TAKES else 0,
        manifest=_NOBODY if action in _EXPORTS else None,
        purpose=purpose,
        ticket="",
        justification=None,
        image=ImageId("image") if opens else None,
        measurement=_NOBODY if opens else None,
        platforms=(PlatformId("tpm-" + "0" * 64),) if opens or action is Action.REVOKE_PLATFORM else (),
        recipient=_NOBODY if action in _TAKES else None,
        target=_NOBODY if action in {Action.REVOKE_GRANT, Action.LIFT} else None,
        not_before=AT,
        expires=AT + min(rule.max_window, BREAK_GLASS_SECONDS),
        max_uses=1,
        nonce=bytes(NONCE_BYTES),
        roster=_NOBODY,
        policy=_NOBODY,
        log=LogHead(size=0, root=_NOBODY),
    )
