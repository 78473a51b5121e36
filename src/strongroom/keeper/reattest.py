"""New evidence for a lease: the enclave that holds the weights proves anew what it is, while it runs.

    1. the challenge was issued here, for this request and platform, is fresh, and is answered once
    2. the evidence binds the recipient key that the data key went to: the same agent, not another one beside it
    3. the platform is enrolled and not revoked, by the keeper's own copy of its record
    4. genuine and wanted, by the reference values, collateral and clock of this moment, in the request's image
    5. the machine wasn't started anew since the release (TPM reset count): what was measured then still runs

Refused evidence ends nothing by itself: whoever could hand some in would end others' leases. It prolongs nothing
either, and the agent's own deadline does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.access.request import Request
from strongroom.attestation.appraisal import appraise
from strongroom.attestation.evidence import Evidence
from strongroom.attestation.platform_record import PLATFORM_TYPE, PlatformRecord
from strongroom.attestation.results import AttestationResult
from strongroom.attestation.transcript import Binding
from strongroom.core.clock import Instant
from strongroom.core.envelope import verify
from strongroom.core.errors import DeniedError
from strongroom.keeper.registry import PLATFORMS
from strongroom.keeper.service import Keeper
from strongroom.release.judge import binding_of
from strongroom.release.lease import LeaseProof, PlatformRestartedError
from strongroom.release.ledger_parts import Released


@dataclass(frozen=True, slots=True, kw_only=True)
class Reappraised:
    """Evidence that was good again."""

    evidence: Evidence
    binding: Binding
    result: AttestationResult


def reappraise(keeper: Keeper, released: Released, request: Request, proof: LeaseProof, now: Instant) -> Reappraised:
    """Carry out steps 1 to 5 for one release's lease.

    :raises DeniedError: the challenge, the recipient key or the platform isn't the lease's.
    :raises AttestationRefusedError: the evidence isn't genuine, or not wanted any more.
    :raises PlatformRestartedError: the machine was started anew since the release.
    :raises MalformedError: the evidence has another form.
    """
    # 1.
    challenge = keeper.answered(proof.challenge)
    if challenge is None or now >= challenge.expires:
        raise DeniedError("the challenge wasn't issued here, is over, or was answered", reason="challenge-unknown")
    if (challenge.request, challenge.platform) != (released.request, released.platform):
        raise DeniedError("the challenge was issued for another request or platform", reason="challenge-for-another")
    # 2.
    evidence = Evidence.parse(proof.evidence)
    if evidence.recipient_digest != released.recipient:
        raise DeniedError("the evidence binds another recipient key than the lease's", reason="other-recipient")
    # 3. and 4.
    record, values = _record(keeper, released), keeper.documents.reference_values
    if values is None:
        raise DeniedError("no reference values are in force", reason="no-reference-values")
    binding = binding_of(challenge, keeper.genesis, request, evidence)
    result = appraise(
        evidence,
        binding=binding,
        record=record,
        reference_values=values,
        at=now,
        collateral=keeper.collateral,
        image=request.image,
    )
    result.require_wanted()
    # 5.
    if result.reset_count != released.reset_count:
        raise PlatformRestartedError(
            f"the platform `{released.platform}` was started anew since the release",
            remedy="run it again: a new release takes a new use",
        )
    return Reappraised(evidence=evidence, binding=binding, result=result)


def _record(keeper: Keeper, released: Released) -> PlatformRecord:
    ledger = keeper.journal.ledger
    enrolled = ledger.platforms.get(released.platform)
    kept = None if enrolled is None else keeper.kept(PLATFORMS, enrolled)
    if kept is None or kept.digest != enrolled or released.platform in ledger.revoked_platforms:
        raise DeniedError("the platform isn't enrolled, or was revoked", reason="platform-not-enrolled")
    verify(kept, PLATFORM_TYPE, [keeper.genesis.keeper_key], threshold=1)
    return PlatformRecord.parse(kept.payload)
