"""Documents that the root quorum signs: roster, policy, reference values."""

from __future__ import annotations

from fastapi import APIRouter

from strongroom.broker.answers import AdoptedAnswer, EnvelopeAnswer
from strongroom.broker.bodies import EnvelopeIn
from strongroom.broker.routes.shared import PEOPLE, DigestPath, TheDirectory
from strongroom.broker.service import Members
from strongroom.core.digest import Digest
from strongroom.release.documents import DocumentKind

router = APIRouter(tags=["documents"])


@router.post("/documents/{kind}", response_model=AdoptedAnswer, dependencies=[PEOPLE])
async def adopt(kind: DocumentKind, body: EnvelopeIn, directory: TheDirectory) -> Members:
    """Take a document into force, or let its time of waiting begin. It is stored once the keeper has recorded it."""
    return await directory.adopt(kind, body.envelope.envelope())


@router.get("/documents/{kind}/{digest}", response_model=EnvelopeAnswer)
async def document(kind: DocumentKind, digest: DigestPath, directory: TheDirectory) -> Members:
    """Return a document, in force or waiting."""
    return await directory.proposed(kind, Digest.parse(digest))
