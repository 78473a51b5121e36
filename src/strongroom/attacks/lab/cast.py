"""The throw-away people of a scratch deployment, and the documents that they live under."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Final

from strongroom.access.engine import DEFAULT_CEDAR
from strongroom.access.policy import Factor, ModelTerms, Policy, Rule, Weights
from strongroom.access.request import Action, LogHead, Purpose, Request
from strongroom.client.wallet import publishing_signer
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.ids import ImageId, ModelId, PersonId
from strongroom.core.signature import Ed25519Signer, HybridSigner
from strongroom.framework.levels import SecurityLevel
from strongroom.personnel.lifecycle import Employment
from strongroom.personnel.roster import Person, Roster
from strongroom.personnel.vetting import Nda, Training, VettingRecord

DAY: Final = 86400
MODEL: Final = ModelId("atlas")
OTHER: Final = ModelId("boreas")
IMAGE: Final = ImageId("embedder")
LEVEL: Final = SecurityLevel.SL2
ROOTS: Final = ("root-1", "root-2", "root-3")
OFFICERS: Final = ("vera", "otto")
PEOPLE: Final = {
    "dana": ("research", ("publisher", "requester", "responder")),
    "max": ("research", ("requester",)),
    "sam": ("security", ("approver-security",)),
    "rina": ("research", ("approver-research",)),
    "both": ("security", ("approver-security", "approver-research")),
    "vera": ("people", ("vetting-officer",)),
    "otto": ("people", ("vetting-officer",)),
}
"""Name -> organisation unit and roles. `max` is the insider: in the roster, and never vetted."""
STRANGER: Final = "mallory"
_TWO: Final = (Factor(role="approver-security", count=1), Factor(role="approver-research", count=1))
_RULES: Final[tuple[tuple[Action, str, tuple[Factor, ...], int], ...]] = (
    (Action.SEAL, "publisher", (), 1),
    (Action.OPEN_IN_ENCLAVE, "requester", _TWO, 1000),
    (Action.EXPORT_PLAINTEXT, "requester", _TWO, 3),
    (Action.FREEZE, "responder", (), 1),
    (Action.RESUME, "responder", _TWO, 1),
    (Action.REVOKE_GRANT, "responder", (), 1),
    (Action.REVOKE_PLATFORM, "responder", (), 1),
    (Action.ROTATE, "responder", (), 1),
    (Action.LIFT, "responder", _TWO, 1),
    (Action.DESTROY, "responder", _TWO, 1),
)


@dataclass(slots=True)
class Cast:
    """Everybody's keys, random for each deployment: nothing of a scratch copy is worth anything elsewhere."""

    _seeds: dict[str, bytes] = field(default_factory=dict)

    def signer(self, name: str) -> Ed25519Signer:
        """Return somebody's signing key; made when first asked for."""
        return Ed25519Signer.from_seed(self.seed(name))

    def publisher(self, name: str) -> HybridSigner:
        """Return somebody's publishing key."""
        return publishing_signer(self.seed(name))

    def roots(self, count: int = 2) -> tuple[Ed25519Signer, ...]:
        """Return the signing keys of root holders."""
        return tuple(self.signer(name) for name in ROOTS[:count])

    def person(self, name: str) -> Person:
        """Return one of the people as the roster lists them."""
        org, roles = PEOPLE[name]
        publishing = [self.publisher(name).public_key] if "publisher" in roles else []
        return Person(
            id=PersonId(name),
            org=org,
            active=True,
            roles=frozenset(roles),
            keys=(self.signer(name).public_key, *publishing),
        )

    def roster(self, genesis: Digest) -> Roster:
        """Return the first roster."""
        return Roster(genesis=genesis, epoch=1, predecessor=None, people=tuple(self.person(name) for name in PEOPLE))

    def seed(self, name: str) -> bytes:
        """Return what somebody's keys are made of; drawn when first asked for."""
        return self._seeds.setdefault(name, os.urandom(32))


def first_policy(genesis: Digest) -> Policy:
    """Return the first policy: two others agree to whatever opens, for test weights in two models."""
    terms = [
        ModelTerms(model=model, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST, export=True)
        for model in (MODEL, OTHER)
    ]
    rules = tuple(
        Rule(
            action=action,
            level=LEVEL,
            requester_role=role,
            factors=factors,
            requester_tier=1,
            approver_tier=2,
            max_window=7 * DAY,
            max_uses=uses,
        )
        for action, role, factors, uses in _RULES
    )
    return Policy(genesis=genesis, epoch=1, predecessor=None, cedar=DEFAULT_CEDAR, rules=rules, models=tuple(terms))


def bare_request(
    genesis: Digest,
    roster: Roster,
    policy: Policy,
    log: LogHead,
    action: Action,
    *,
    by: str,
    model: ModelId = MODEL,
    at: Instant,
    nonce: bytes,
) -> Request:
    """Return a request with the members that every action has; what one action needs more is for the caller to add."""
    return Request(
        genesis=genesis,
        action=action,
        requester=PersonId(by),
        model=model,
        version=0,
        manifest=None,
        purpose=Purpose.EVALUATE,
        ticket="T-1",
        justification=None,
        image=None,
        measurement=None,
        platforms=(),
        recipient=None,
        target=None,
        not_before=at - 1,
        expires=at + DAY,
        max_uses=1,
        nonce=nonce,
        roster=Digest.of(roster.to_bytes()),
        policy=Digest.of(policy.to_bytes()),
        log=log,
    )


def cleared(genesis: Digest, name: str, *, at: Instant, serial: int, **members: object) -> VettingRecord:
    """Return a vetting record under which everything is in order; ``members`` make it otherwise."""
    record = VettingRecord(
        genesis=genesis,
        person=PersonId(name),
        serial=serial,
        scheme="internal",
        tier=3,
        adjudicated_on=at,
        expires_on=at + 30 * DAY,
        rescreen_due=at + 30 * DAY,
        employment=Employment.ACTIVE,
        training=(Training(course="weights-handling", expires=at + 30 * DAY),),
        nda=Nda(version="1", signed_on=at - DAY),
        salt=os.urandom(16),
    )
    return replace(record, **members)  # type: ignore[arg-type]  # names of its own
