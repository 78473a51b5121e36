"""Does a release still hold? Asked at every renewal of its lease, and of all live leases whenever something changed.

Born ended: :func:`still_holds` returns only when both judges would allow it today. What it rested on was logged with it
(:class:`strongroom.release.ledger_parts.Released`); what fell is read from the ledger and the documents in force.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Final

from strongroom.access.decision import decide
from strongroom.access.facts import EnclaveFacts, Facts, PersonFacts
from strongroom.access.invariants import Reason
from strongroom.access.policy import NoRuleError, Policy
from strongroom.access.request import Request
from strongroom.core.clock import Instant
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import UnknownPersonError
from strongroom.release.documents import Documents, isolation_rank, level_cap
from strongroom.release.lease import LeaseEndedError
from strongroom.release.ledger import Ledger
from strongroom.release.ledger_parts import Released
from strongroom.release.people import person_facts

TAKES_NOTHING: Final = frozenset(
    {
        EventName.LOG_OPENED,
        EventName.SHARD_CLOSED,
        EventName.SHARD_CONTINUED,
        EventName.SHARD_PRUNED,
        EventName.KEEPER_UNLOCKED,
        EventName.EPOCH_CREATED,
        # Other keys over the same data keys: whoever may open a model still may. A destroyed model's leases end.
        EventName.EPOCH_ROTATED,
        EventName.EPOCH_DESTROYED,
        EventName.KEK_CREATED,
        EventName.KEK_ROTATED,
        EventName.KEK_RETIRED,
        EventName.ROOT_ROTATED,
        EventName.ROOT_MOVED,
        EventName.ESCROW_ADOPTED,
        EventName.ESCROW_OPENED,
        EventName.ESCROW_ANSWERED,
        EventName.DESTRUCTION_CERTIFIED,
        EventName.BACKUP_MADE,
        # Renewals are refused meanwhile, and no lease is ended by it: one that is heard again in time lost nothing.
        EventName.RESPONDER_SILENT,
        EventName.RESPONDER_HEARD,
        EventName.INCIDENT_RECORDED,
        # One approver more is asked for at the next use; sampling is told at the next renewal; a hold ends nothing.
        EventName.PRECAUTION_TAKEN,
        EventName.PRECAUTION_LIFTED,
        # The record itself follows its entry into force, and has everything looked at again when it is there.
        EventName.VETTING_RECORDED,
        EventName.KEYS_ENROLLED,
        EventName.PLATFORM_ENROLLED,
        EventName.REQUEST_CREATED,
        EventName.REQUEST_APPROVED,
        EventName.GRANT_ISSUED,
        EventName.CHANGE_PROPOSED,
        EventName.CHANGE_STOPPED,
        EventName.MODEL_RESUMED,
        EventName.DATA_KEY_CREATED,
        EventName.VERSION_REGISTERED,
        EventName.RELEASED,
        EventName.EXPORTED,
        EventName.REDELIVERED,
        EventName.REFUSED,
        EventName.REFUSALS_SUMMED,
        EventName.LEASE_ATTESTED,
        EventName.LEASE_ENDED,
        EventName.ODOMETER_ADVANCED,
        EventName.EGRESS_WARNED,
        EventName.DROP_KEY_RECORDED,
        EventName.WORKSPACE_BEGUN,
        EventName.DROP_CHARGED,
        EventName.DROP_REVIEWED,
        EventName.INTAKE_RECORDED,
        EventName.INTAKE_REVIEWED,
        EventName.COPY_RECORDED,
        EventName.ASSESSMENT_RECORDED,
    }
)
"""Events that take nothing from anybody. Every other has all live leases judged again: one that is added later does
too, before anybody thinks of this list."""


class Fallen(StrEnum):
    """Why a lease ends, beside the reasons for which a request is refused; stable codes."""

    NO_DOCUMENTS = "no-documents"
    GRANT_REVOKED = "grant-revoked"
    PLATFORM_REVOKED = "platform-revoked"


def still_holds(released: Released, request: Request, *, documents: Documents, ledger: Ledger, now: Instant) -> None:
    """Return when everything that a release rested on still stands: it would be allowed again, by today's rules.

    Approvers may leave while those who stay fill the rule. A newer version of the model ends no lease. Which keys
    signed isn't asked again, nor are caps and the uses left: this use is counted already.

    :raises LeaseEndedError: something fell; the reason is the first thing that did.
    """
    # These first: they cost nothing, and after a freeze a keeper has thousands of leases to look at.
    for fell, reason in (
        (released.model in ledger.keys.destroyed, Reason.MODEL_DESTROYED),
        (released.model in ledger.frozen, Reason.FROZEN),
        (released.request in ledger.revoked, Fallen.GRANT_REVOKED),
        (released.request in ledger.denied, Reason.DENIED),
        (released.platform in ledger.revoked_platforms, Fallen.PLATFORM_REVOKED),
    ):
        if fell:
            raise LeaseEndedError(reason.value)
    if documents.roster is None or documents.policy is None or documents.engine is None:
        raise LeaseEndedError(Fallen.NO_DOCUMENTS.value)
    try:
        facts = _facts(released, request, documents.policy, documents=documents, ledger=ledger, now=now)
    except NoRuleError as error:
        raise LeaseEndedError(error.reason) from None
    decision = decide(facts, documents.engine)
    if not decision.allowed:
        raise LeaseEndedError(decision.refusals[0][0].value)


def _facts(
    released: Released, request: Request, policy: Policy, *, documents: Documents, ledger: Ledger, now: Instant
) -> Facts:
    name = released.request
    terms = policy.terms(released.model)
    grant, recorded = ledger.grants.get(name), ledger.approvals.get(name, {})
    # Signed by security keys where the rule wanted that: the release was refused otherwise.
    people = {
        who: replace(_person(who, documents, ledger, now), hardware=True, approved_at=recorded.get(who))
        for who in (released.requester, *released.approvers)
    }
    return Facts(
        now=now,
        request=request,
        terms=terms,
        rule=policy.rule(request.action, terms.level),
        caps=policy.caps,
        requester=people[released.requester],
        approvers=tuple(people[who] for who in released.approvers),
        repeated=frozenset(),
        recorded_at=ledger.created[name].at,
        granted_at=grant.at if grant else None,
        denied=name in ledger.denied or name in ledger.fallen,
        frozen=released.model in ledger.frozen,
        uses_left=1,
        enclave=EnclaveFacts(
            isolation=isolation_rank(released.isolation),
            least_isolation=isolation_rank(terms.least_isolation),
            level_cap=level_cap(released.isolation),
            measurement_current=_image_wanted(request, documents),
            platform_named=released.platform in request.platforms,
        ),
    )


def _image_wanted(request: Request, documents: Documents) -> bool:
    images = documents.reference_values.images if documents.reference_values else ()
    return any(
        image.image == request.image and not image.revoked and image.measurement == request.measurement
        for image in images
    )


def _person(name: PersonId, documents: Documents, ledger: Ledger, now: Instant) -> PersonFacts:
    try:
        person = documents.roster.person(name) if documents.roster else None
    except UnknownPersonError:
        person = None
    if person is None:
        return PersonFacts(id=name, org="", roles=frozenset())
    return person_facts(person, documents, ledger, now)
