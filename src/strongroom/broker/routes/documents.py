"""Documents that the root quorum signs: roster, policy, reference values."""

from __future__ import annotations

from fastapi import APIRouter

from strongroom.broker.bodies import AdoptedAnswer, EnvelopeIn
from strongroom.broker.routes.shared import PEOPLE, TheDirectory
from strongroom.broker.service import Members
from strongroom.release.documents import DocumentKind

router = APIRouter(tags=["documents"])


@router.post("/documents/{kind}", response_model=AdoptedAnswer, dependencies=[PEOPLE])
async def adopt(kind: DocumentKind, body: EnvelopeIn, directory: TheDirectory) -> Members:
    """Take a document into force. It is stored once the keeper has adopted it."""
    return await directory.adopt(kind, body.envelope.envelope())
