"""Step 4: examine a dossier against the documents in force, the ledger and a time. Pure, and born refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from strongroom.access.decision import decide
from strongroom.access.facts import AccessClass, EnclaveFacts, Facts, PersonFacts, access_class
from strongroom.access.invariants import CAP_LEVEL, Reason
from strongroom.access.policy import ModelTerms, Policy, Rule
from strongroom.access.request import APPROVAL_TYPE, OPENS, REQUEST_TYPE, Action, Request
from strongroom.access.weighing import weighed
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.attestation.reference_values import ReferenceValues
from strongroom.attestation.results import AttestationResult, Status
from strongroom.attestation.transcript import Binding
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import PublicKey
from strongroom.personnel.roster import UnknownPersonError
from strongroom.release.challenge import Challenge
from strongroom.release.documents import Documents, isolation_rank, level_cap
from strongroom.release.dossier import Dossier, Testimony
from strongroom.release.ledger import Ledger
from strongroom.release.ledger_parts import Grant, Use, Version
from strongroom.release.people import person_facts
from strongroom.release.standing_precautions import require_precautions
from strongroom.release.steps import ReleaseRefusedError, Step, Trace

_KEPT: Final = 1024
_OUTLIVES: Final = frozenset({Action.FREEZE, Action.REVOKE_GRANT, Action.REVOKE_PLATFORM, Action.LIFT})
"""What still has a meaning for a model whose keys are gone: its level decides about grants, platforms and holds."""
REVIEW_SECONDS: Final = 72 * 3600
"""How long a break-glass opening may wait for its review before the model's rules tighten by themselves."""


@dataclass(slots=True)
class Verdict:
    """What came of a dossier. A new one is a refusal; only :func:`examine`, at its end, makes it an allowance."""

    allowed: bool = False
    refusal: ReleaseRefusedError | None = None
    others: tuple[tuple[str, str], ...] = ()
    """Further refusals of the decision: code, and what would pass."""
    trace: Trace = field(default_factory=Trace)
    request: Request | None = None
    request_digest: Digest | None = None
    facts: Facts | None = None
    """What the decision was made on, once step 4.9 was reached."""
    approvals: tuple[Digest, ...] = ()
    approvers: tuple[PersonId, ...] = ()
    version: Version | None = None
    evidence: Evidence | None = None
    binding: Binding | None = None
    """What the evidence had to commit to, once step 4.6 passed."""
    result: AttestationResult | None = None
    earlier: Use | None = None
    """Set when this very recipient key was served before: a delivery may then be repeated, to it only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One dossier being examined."""

    genesis: Genesis
    dossier: Dossier
    documents: Documents
    ledger: Ledger
    challenge: Challenge | None
    collateral: Collateral
    now: Instant


def examine(
    dossier: Dossier,
    *,
    genesis: Genesis,
    documents: Documents,
    ledger: Ledger,
    challenge: Challenge | None,
    collateral: Collateral,
    now: Instant,
) -> Verdict:
    """Carry out steps 4.1 to 4.9; stops at the first that refuses.

    ``challenge`` is the one that the testimony names, already taken out of the open ones; None when there is none.
    ``collateral`` is what chip makers published, as it is kept here.
    A dossier without testimony is judged as far as it goes: that is how a waiting request is explained.
    """
    case = _Case(
        genesis=genesis,
        dossier=dossier,
        documents=documents,
        ledger=ledger,
        challenge=challenge,
        collateral=collateral,
        now=now,
    )
    verdict = Verdict()
    try:
        _steps(case, verdict)
    except ReleaseRefusedError as refusal:
        verdict.allowed = False
        verdict.refusal = refusal
        verdict.trace.refused(refusal)
    return verdict


def _steps(case: _Case, verdict: Verdict) -> None:
    request = _read_request(case, verdict)
    policy = _documents(case, verdict, request)
    requester = _request_genuine(case, verdict, request)
    approvers, repeated = _approvals_genuine(case, verdict)
    terms, rule = _rule(policy, request)
    denied = _standing(case, verdict, request)
    _version(case, verdict, request)
    enclave = None
    if verdict.evidence is not None and case.dossier.testimony is not None:
        binding = _challenge(case, verdict, request, case.dossier.testimony, verdict.evidence)
        verdict.binding = binding
        result = _evidence(case, verdict, request, case.dossier.testimony, verdict.evidence, binding)
        enclave = EnclaveFacts(
            isolation=result.isolation.rank,
            least_isolation=isolation_rank(terms.least_isolation),
            level_cap=level_cap(result.isolation),
            measurement_current=_measurement(case.documents.reference_values, request) == request.measurement,
            platform_named=result.platform in request.platforms,
        )
    name = case.dossier.request.digest
    grant = case.ledger.grants.get(name)
    verdict.facts = Facts(
        now=case.now,
        request=request,
        terms=terms,
        rule=rule,
        caps=policy.caps,
        requester=requester,
        approvers=approvers,
        repeated=repeated,
        recorded_at=case.ledger.created[name].at,
        granted_at=grant.at if grant else None,
        denied=denied,
        frozen=_frozen(case.ledger, request, grant),
        uses_left=request.max_uses - case.ledger.times_used(name) + (1 if verdict.earlier else 0),
        # Who holds a grant is counted already.
        holders=0 if grant else len(_holders(case, policy, access_class(request)) | {requester.id}),
        review_overdue=review_overdue(case.ledger, request.model, case.now),
        approver_more=case.ledger.precautions.approver(requester.id, case.now) is not None,
        enclave=enclave,
    )
    _decision(case, verdict, verdict.facts)


def _frozen(ledger: Ledger, request: Request, grant: Grant | None) -> bool:
    if request.action is not Action.DESTROY:
        return request.model in ledger.frozen
    if grant is None:
        return False
    # A model that was frozen when people agreed to destroy it is what they agreed on. Who freezes it while it waits
    # stops that; in the same second too, because times are whole ones.
    return request.model in ledger.frozen and ledger.frozen_at.get(request.model, grant.at) >= grant.at


def review_overdue(ledger: Ledger, model: ModelId, now: Instant) -> bool:
    """Tell whether a break-glass opening of a model has waited too long for its review."""
    return any(one.model == model and now - one.at > REVIEW_SECONDS for one in ledger.break_glass.values())


def live_grants(ledger: Ledger, now: Instant) -> tuple[Digest, ...]:
    """Return the grants that can still be used: not over, not revoked or denied, their holder not suspended since."""
    return tuple(
        request
        for request, grant in ledger.grants.items()
        if now < grant.expires
        and request not in ledger.revoked
        and request not in ledger.denied
        and request not in ledger.fallen
    )


def _holders(case: _Case, policy: Policy, access: AccessClass) -> set[PersonId]:
    counted = {terms.model for terms in policy.models if terms.level.rank >= CAP_LEVEL.rank}
    if access is AccessClass.NONE:
        return set()
    grants = (case.ledger.grants[request] for request in live_grants(case.ledger, case.now))
    return {grant.requester for grant in grants if grant.access == access.value and grant.model in counted}


def _refuse(step: Step, error: StrongroomError) -> ReleaseRefusedError:
    return ReleaseRefusedError(step, error.reason, error.message, remedy=error.remedy)


def _read_request(case: _Case, verdict: Verdict) -> Request:
    try:
        request = Request.parse(case.dossier.request.payload)
    except StrongroomError as error:
        raise _refuse(Step.REQUEST_GENUINE, error) from None
    verdict.request, verdict.request_digest = request, case.dossier.request.digest
    if request.action in OPENS and case.dossier.testimony is not None:
        try:
            verdict.evidence = Evidence.parse(case.dossier.testimony.evidence)
        except StrongroomError as error:
            raise _refuse(Step.EVIDENCE_GENUINE, error) from None
    return request


def _documents(case: _Case, verdict: Verdict, request: Request) -> Policy:
    documents, ledger, step = case.documents, case.ledger, Step.DOCUMENTS
    if request.genesis != case.genesis.digest:
        raise ReleaseRefusedError(step, "other-deployment", "the request belongs to another deployment")
    if documents.roster is None or documents.policy is None:
        raise ReleaseRefusedError(
            step,
            "no-documents",
            "no roster or no policy is in force",
            remedy="have the root quorum sign and adopt them",
        )
    if request.policy != documents.policy_digest:
        raise ReleaseRefusedError(
            step,
            "policy-changed",
            "the policy in force isn't the one that the request and its approvers saw",
            remedy="make a new request under the policy in force",
        )
    if request.roster not in ledger.rosters:
        raise ReleaseRefusedError(step, "roster-unknown", "the request names a roster that was never in force")
    if request.log.size > ledger.size:
        raise ReleaseRefusedError(
            step,
            "log-behind",
            f"the requester saw a log of {request.log.size} entries, and this one has {ledger.size}",
            remedy="the log was rolled back or another one was shown; treat this as an incident",
        )
    if request.log.size and request.log.root.value != ledger.root_at(request.log.size):
        raise ReleaseRefusedError(
            step,
            "log-forked",
            f"the requester saw another log of {request.log.size} entries than this one was",
            remedy="somebody showed two logs; treat this as an incident",
        )
    epochs = f"roster epoch {documents.roster.epoch}, policy epoch {documents.policy.epoch}"
    verdict.trace.passed(step, f"{epochs}, log of {ledger.size} entries")
    return documents.policy


def _request_genuine(case: _Case, verdict: Verdict, request: Request) -> PersonFacts:
    assert case.documents.roster is not None  # noqa: S101 - step 4.1 established it
    try:
        person = case.documents.roster.person(request.requester)
        check_signed(case.dossier.request, REQUEST_TYPE, person.keys)
    except StrongroomError as error:
        raise _refuse(Step.REQUEST_GENUINE, error) from None
    signed = {signature.key_id for signature in case.dossier.request.signatures}
    hardware = any(key.hardware and key.key_id in signed for key in person.keys)
    verdict.trace.passed(Step.REQUEST_GENUINE, f"signed by `{person.id}`{' with a security key' if hardware else ''}")
    return replace(person_facts(person, case.documents, case.ledger, case.now), hardware=hardware)


def _approvals_genuine(case: _Case, verdict: Verdict) -> tuple[tuple[PersonFacts, ...], frozenset[PersonId]]:
    roster, step = case.documents.roster, Step.APPROVALS_GENUINE
    assert roster is not None  # noqa: S101 - step 4.1 established it
    recorded = case.ledger.approvals.get(case.dossier.request.digest, {})
    people: dict[PersonId, PersonFacts] = {}
    repeated: set[PersonId] = set()
    digests = []
    for approval in case.dossier.approvals:
        if approval.payload != case.dossier.request.payload:
            raise ReleaseRefusedError(step, "approval-of-another-request", "an approval signs other bytes")
        if len(approval.signatures) != 1:
            raise ReleaseRefusedError(step, "approval-malformed", "an approval carries exactly one signature")
        try:
            person, key = roster.holder(approval.signatures[0].key_id)
            check_signed(approval, APPROVAL_TYPE, (key,))
        except UnknownPersonError:
            raise ReleaseRefusedError(
                step,
                "approval-by-unknown-key",
                "an approval is signed by a key that nobody in the roster holds",
                remedy="the row was forged, or its signer left; ask the approvers again",
            ) from None
        except StrongroomError as error:
            raise ReleaseRefusedError(
                step, "approval-forged", error.message, remedy="the stored row isn't what the approver signed"
            ) from None
        # Of one person's approvals the strongest counts: the spare key must not undo the good one.
        hardware = key.hardware
        if person.id in people:
            repeated.add(person.id)
            hardware = hardware or people[person.id].hardware
        people[person.id] = replace(
            person_facts(person, case.documents, case.ledger, case.now),
            hardware=hardware,
            approved_at=recorded.get(person.id),
        )
        digests.append(Digest.of(approval.to_bytes()))
    verdict.approvals = tuple(sorted(set(digests)))
    # Named in the log as agreeing: who does by the log, and is still here. Others it would call a lie.
    verdict.approvers = tuple(sorted(who.id for who in people.values() if who.active and who.approved_at is not None))
    verdict.trace.passed(step, f"by {', '.join(sorted(people)) or 'nobody'}")
    return tuple(people.values()), frozenset(repeated)


def _rule(policy: Policy, request: Request) -> tuple[ModelTerms, Rule]:
    try:
        terms = policy.terms(request.model)
        return terms, policy.rule(request.action, terms.level)
    except StrongroomError as error:
        raise _refuse(Step.DOCUMENTS, error) from None


def _standing(case: _Case, verdict: Verdict, request: Request) -> bool:
    name, ledger = case.dossier.request.digest, case.ledger
    if request.action not in _OUTLIVES and request.model in ledger.keys.destroyed:
        raise ReleaseRefusedError(
            Step.STANDING,
            Reason.MODEL_DESTROYED.value,
            f"the keys of model `{request.model}` were destroyed",
            remedy=f"nothing opens it again; what is known: strongroom key certificate {request.model}",
        )
    if name not in ledger.created:
        raise ReleaseRefusedError(
            Step.STANDING, "request-not-recorded", "the request isn't in the log", remedy="submit it first"
        )
    if verdict.evidence is not None:
        verdict.earlier = ledger.served.get((name, verdict.evidence.recipient_digest))
    require_precautions(request, case.documents.policy, ledger, case.now)
    denied = name in ledger.denied or name in ledger.revoked or name in ledger.fallen
    used = ledger.times_used(name)
    found = f"{used} of {request.max_uses} uses recorded, {'denied, revoked or fallen' if denied else 'no denial'}"
    verdict.trace.passed(Step.STANDING, found)
    return denied


def _version(case: _Case, verdict: Verdict, request: Request) -> None:
    if request.action not in {*OPENS, Action.SEAL, Action.EXPORT_PLAINTEXT}:
        return
    current, step = case.ledger.current(request.model), Step.VERSION
    if request.action is Action.SEAL:
        expected = current.version + 1 if current else 1
        if request.version != expected:
            raise ReleaseRefusedError(
                step, "version-out-of-order", f"the next version of `{request.model}` is {expected}"
            )
        verdict.trace.passed(step, f"version {expected} comes next")
        return
    if current is None:
        raise ReleaseRefusedError(step, "version-unknown", f"no version of `{request.model}` is registered")
    if request.version != current.version or request.manifest != current.manifest:
        raise ReleaseRefusedError(
            step,
            "version-not-current",
            f"version {request.version} isn't the current one of `{request.model}`, which is {current.version}",
            remedy=f"ask for version {current.version}",
        )
    verdict.version = current
    verdict.trace.passed(step, f"version {current.version} is current")


def _challenge(case: _Case, verdict: Verdict, request: Request, testimony: Testimony, evidence: Evidence) -> Binding:
    challenge, step = case.challenge, Step.CHALLENGE
    again = "let the enclave ask for a new challenge"
    if challenge is None or challenge.id != testimony.challenge:
        raise ReleaseRefusedError(
            step, "challenge-unknown", "the challenge wasn't issued here, or was answered already", remedy=again
        )
    if case.now >= challenge.expires:
        raise ReleaseRefusedError(step, "challenge-expired", "the challenge was answered too late", remedy=again)
    if challenge.request != case.dossier.request.digest or challenge.platform != evidence.platform:
        raise ReleaseRefusedError(
            step, "challenge-for-another", "the challenge was issued for another request or platform", remedy=again
        )
    verdict.trace.passed(step, f"fresh, for platform `{challenge.platform}`")
    return binding_of(challenge, case.genesis, request, evidence)


def binding_of(challenge: Challenge, genesis: Genesis, request: Request, evidence: Evidence) -> Binding:
    """Return what evidence for a challenge must commit to.

    :raises MalformedError: a request that names no manifest: it opens no enclave.
    """
    if request.manifest is None:
        raise MalformedError("a request to open an enclave names a manifest")
    return Binding(
        genesis=genesis.digest,
        challenge=challenge.id,
        nonce=challenge.nonce,
        request=challenge.request,
        model=request.model,
        version=request.version,
        manifest=request.manifest,
        recipient_key=evidence.recipient_digest,
        devices=evidence.devices_digest,
    )


def _evidence(
    case: _Case, verdict: Verdict, request: Request, testimony: Testimony, evidence: Evidence, binding: Binding
) -> AttestationResult:
    genuine, wanted = Step.EVIDENCE_GENUINE, Step.EVIDENCE_WANTED
    values = case.documents.reference_values
    if values is None:
        raise ReleaseRefusedError(wanted, "no-reference-values", "no reference values are in force")
    record = _platform(case, testimony)
    result = appraise(
        evidence,
        binding=binding,
        record=record,
        reference_values=values,
        at=case.now,
        collateral=case.collateral,
        image=request.image,
    )
    step = genuine if result.status is Status.ERROR else wanted
    if step is wanted:
        verdict.trace.passed(genuine, f"`{record.platform}` over this challenge and recipient key: {_spoke(result)}")
    try:
        image = result.require_wanted()
    except StrongroomError as error:
        raise _refuse(step, error) from None
    verdict.result = result
    verdict.trace.passed(wanted, f"image `{image}`, {classed(result)}")
    return result


def _spoke(result: AttestationResult) -> str:
    """Say which statements there were."""
    return ", ".join(f"{one.name} by `{one.kind}`" for one in result.submodules)


def classed(result: AttestationResult) -> str:
    """Say of which class a result is, and up to which level such evidence serves production weights."""
    cap = level_cap(result.isolation)
    worth = f"production weights up to SL{cap}" if cap else "TEST WEIGHTS ONLY"
    devices = f", {len(result.submodules) - 1} devices" if len(result.submodules) > 1 else ""
    return f"isolation `{result.isolation.value}`{devices}: {worth}"


def _platform(case: _Case, testimony: Testimony) -> PlatformRecord:
    step = Step.EVIDENCE_GENUINE
    try:
        record = _record(testimony.platform, case.genesis.keeper_key)
    except StrongroomError as error:
        raise _refuse(step, error) from None
    enrolled = case.ledger.platforms.get(record.platform)
    if enrolled != testimony.platform.digest or record.platform in case.ledger.revoked_platforms:
        raise ReleaseRefusedError(step, "platform-not-enrolled", "the platform isn't enrolled, or was revoked")
    return record


# A grant of many uses shows the same bytes each time. What depends on bytes and keys alone, and on nothing that can
# change, is kept when it succeeded; people, vetting, standing, freezes, uses and evidence are looked at anew each time.


@lru_cache(maxsize=_KEPT)
def check_signed(envelope: Envelope, kind: str, keys: tuple[PublicKey, ...]) -> None:
    """Check that one of a person's keys signed.

    :raises SignatureError: none did.
    """
    verify(envelope, kind, keys, threshold=1)


@lru_cache(maxsize=_KEPT)
def _record(envelope: Envelope, keeper_key: PublicKey) -> PlatformRecord:
    verify(envelope, PLATFORM_TYPE, [keeper_key], threshold=1)
    return PlatformRecord.parse(envelope.payload)


def _measurement(values: ReferenceValues | None, request: Request) -> Digest | None:
    image = values.image(request.image) if values and request.image else None
    return image.measurement if image and not image.revoked else None


def _decision(case: _Case, verdict: Verdict, facts: Facts) -> None:
    assert case.documents.engine is not None  # noqa: S101 - set together with the policy that step 4.1 found
    decision = decide(facts, case.documents.engine)
    if not decision.allowed:
        reason, remedy = decision.refusals[0]
        verdict.others = tuple((code.value, text) for code, text in decision.refusals[1:])
        raise ReleaseRefusedError(Step.DECISION, reason.value, _says(reason), remedy=remedy, weighed=weighed(facts))
    verdict.allowed = True
    policies = ", ".join(f"`{name}`" for name in decision.policies)
    verdict.trace.passed(Step.DECISION, f"allowed by {policies}: {weighed(facts)}")


def _says(reason: Reason) -> str:
    return f"refused, {reason.value.replace('-', ' ')}"
