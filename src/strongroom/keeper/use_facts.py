"""What the log says of grants, of uses and of control acts: which event, and its facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from strongroom.access.facts import access_class
from strongroom.access.request import Action, Request
from strongroom.audit.facts import Fact
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.ids import PersonId
from strongroom.release.attested import Attested
from strongroom.release.documents import Documents
from strongroom.release.dossier import WrappedDataKey
from strongroom.release.judge import Verdict
from strongroom.release.lease import Sampling
from strongroom.release.ledger_parts import Version
from strongroom.release.steps import ReleaseRefusedError, Step

CONTROL_EVENTS: Final[Mapping[Action, EventName]] = {
    Action.FREEZE: EventName.MODEL_FROZEN,
    Action.RESUME: EventName.MODEL_RESUMED,
    Action.REVOKE_GRANT: EventName.GRANT_REVOKED,
    Action.REVOKE_PLATFORM: EventName.PLATFORM_REVOKED,
    Action.LIFT: EventName.PRECAUTION_LIFTED,
}


def control_records(request: Request, name: Digest) -> list[tuple[EventName, dict[str, Fact]]]:
    """Return what is recorded when a control request is carried out: one entry, or one for each platform."""
    event = CONTROL_EVENTS[request.action]
    match request.action:
        case Action.REVOKE_PLATFORM:
            return [(event, {"platform": platform, "request": name}) for platform in request.platforms]
        case Action.REVOKE_GRANT:
            return [(event, {"grant": request.target, "request": name})]
        case Action.LIFT:
            return [(event, {"model": request.model, "precaution": request.target, "request": name})]
        case _:
            return [(event, {"model": request.model, "request": name})]


def granted_facts(request: Request, name: Digest, approvers: tuple[PersonId, ...], holders: int) -> dict[str, Fact]:
    """Return what is recorded of a grant; ``holders`` counts the people with such access, the requester among them."""
    return {
        "request": name,
        "action": request.action.value,
        "model": request.model,
        "requester": request.requester,
        "approvers": approvers,
        "access": access_class(request).value,
        "holders": holders,
        "expires": format_instant(request.expires),
        "uses": request.max_uses,
    }


def data_key_facts(
    request: Request, name: Digest, use: int, wrapped: WrappedDataKey, recipient: Digest
) -> dict[str, Fact]:
    """Return what is recorded of a data key that was made for a publisher."""
    return {
        "request": name,
        "use": use,
        "model": request.model,
        "version": request.version,
        "data_key": wrapped.data_key,
        "kek": wrapped.kek,
        "recipient": recipient,
    }


def released_facts(
    verdict: Verdict,
    use: int,
    proof: Attested,
    documents: Documents,
    decision: Digest | None,
    collateral: Digest,
    sampling: Sampling,
) -> dict[str, Fact]:
    """Return what is recorded of a release.

    :raises ReleaseRefusedError: the verdict isn't of one.
    """
    request, version, result, evidence = verdict.request, verdict.version, verdict.result, verdict.evidence
    if request is None or version is None or result is None or evidence is None or verdict.facts is None:
        raise ReleaseRefusedError(Step.DECISION, "incomplete", "the verdict isn't of a release")
    return {
        **handed_over_facts(verdict, request, version, use, evidence.recipient_digest, documents, decision),
        "platform": result.platform,
        "image": result.image,
        "isolation": result.isolation.value,
        "weights": verdict.facts.terms.weights.value,
        "reset_count": result.reset_count,
        "evidence": result.evidence,
        "result": proof.result_digest,
        "attested": proof.digest,
        "reference_values": result.reference_values,
        "appraisal_policy": result.policy,
        "collateral": collateral,
        "sampling": sampling.value,
    }


def handed_over_facts(
    verdict: Verdict,
    request: Request,
    version: Version,
    use: int,
    recipient: Digest,
    documents: Documents,
    decision: Digest | None,
) -> dict[str, Fact]:
    """Return what is recorded of every use that hands a data key over."""
    return {
        "request": verdict.request_digest,
        "use": use,
        "model": request.model,
        "version": version.version,
        "manifest": version.manifest,
        "data_key": version.data_key,
        "recipient": recipient,
        "approvals": verdict.approvals,
        "roster": documents.roster_digest,
        "policy": documents.policy_digest,
        "requester": request.requester,
        "approvers": verdict.approvers,
        "decision": decision,
    }
