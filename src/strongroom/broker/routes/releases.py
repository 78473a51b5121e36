"""The enclave's side: a challenge, and the release of a data key for evidence."""

from __future__ import annotations

from fastapi import APIRouter

from strongroom.broker.answers import ChallengeAnswer, ReleaseAnswer
from strongroom.broker.bodies import ChallengeIn, ReleaseIn, binary
from strongroom.broker.routes.shared import ENCLAVES, DigestPath, TheBroker
from strongroom.broker.service import Members
from strongroom.core.digest import Digest
from strongroom.core.ids import platform_id
from strongroom.release.dossier import MAX_EVIDENCE

router = APIRouter(tags=["releases"], dependencies=[ENCLAVES])


@router.post("/requests/{digest}/challenges", response_model=ChallengeAnswer)
async def challenge(digest: DigestPath, body: ChallengeIn, broker: TheBroker) -> Members:
    """Issue a challenge for an enrolled platform."""
    return await broker.challenge(Digest.parse(digest), platform_id(body.platform))


@router.post("/requests/{digest}/release", response_model=ReleaseAnswer)
async def release(digest: DigestPath, body: ReleaseIn, broker: TheBroker) -> Members:
    """Release a data key to the recipient key that the evidence binds; returns the attestation result with it."""
    return await broker.release(
        Digest.parse(digest),
        challenge=body.challenge,
        platform=platform_id(body.platform),
        evidence=binary(body.evidence, "evidence", max_length=MAX_EVIDENCE),
    )
