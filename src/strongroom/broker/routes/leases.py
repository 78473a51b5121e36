"""Leases: an enclave's renewals, and the word that its lease ended."""

from __future__ import annotations

import time
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query

from strongroom.broker.answers import LeaseAnswer, LeaseEndAnswer
from strongroom.broker.bodies import LeaseIn, WaitQuery, binary
from strongroom.broker.routes.shared import ENCLAVES, DigestPath, TheBroker
from strongroom.broker.service import Broker, Members
from strongroom.core.digest import Digest
from strongroom.core.errors import UnavailableError
from strongroom.release.dossier import MAX_EVIDENCE
from strongroom.release.lease import MAX_USE, NONCE_BYTES, LeaseAsk, LeaseProof

router = APIRouter(tags=["leases"], dependencies=[ENCLAVES])
UsePath = Annotated[int, Path(ge=1, le=MAX_USE, description="the number of the request's use")]
_SLICE: Final = 10
"""Seconds that one call to the keeper waits: shorter than what its client takes for no answer."""


@router.post("/requests/{digest}/leases", response_model=LeaseAnswer)
async def renew(digest: DigestPath, body: LeaseIn, broker: TheBroker) -> Members:
    """Have the keeper judge a release again, and new evidence where it is due, and sign its next lease."""
    ask = LeaseAsk(
        use=body.use,
        recipient=Digest.parse(body.recipient),
        serial=body.serial,
        nonce=binary(body.nonce, "nonce", max_length=NONCE_BYTES),
    )
    proof = None
    if body.proof is not None:
        evidence = binary(body.proof.evidence, "evidence", max_length=MAX_EVIDENCE)
        proof = LeaseProof(challenge=body.proof.challenge, evidence=evidence).to_json()
    request = (await broker.shown(Digest.parse(digest)))["request"]
    with await broker.keeper.call("renew", request=request, proof=proof, **ask.to_json()) as answer:
        return {"lease": answer.value("lease")}


@router.get("/requests/{digest}/leases/{use}", response_model=LeaseEndAnswer)
async def ended(digest: DigestPath, use: UsePath, query: Annotated[WaitQuery, Query()], broker: TheBroker) -> Members:
    """Return why a lease ended; waits for that up to ``wait`` seconds."""
    request, until = Digest.parse(digest), time.monotonic() + query.wait
    reason = await _ended(broker, request, use, 0)
    if reason or query.wait == 0:
        return {"ended": reason or None}
    if broker.lease_waits.locked():
        raise UnavailableError("too many enclaves wait already", remedy="ask again later", reason="leases-busy")
    async with broker.lease_waits:
        while not reason and (left := round(until - time.monotonic())) > 0:
            reason = await _ended(broker, request, use, min(left, _SLICE))
    return {"ended": reason or None}


async def _ended(broker: Broker, request: Digest, use: int, wait: int) -> str:
    with await broker.keeper.call("ended", request=str(request), use=use, wait=wait) as answer:
        return answer.text("reason", max_length=96)
