"""People: signed statements about them, who is who today, and what past decisions were made on."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from strongroom.broker.answers import (
    AttestedAnswer,
    DecisionAnswer,
    DecisionsAnswer,
    EnvelopeAnswer,
    GrantsAnswer,
    PeopleAnswer,
    Recorded,
)
from strongroom.broker.bodies import DecisionsQuery, EnvelopeIn
from strongroom.broker.errors import OtherPartyError
from strongroom.broker.gate import IDENTITY
from strongroom.broker.identity import Identity
from strongroom.broker.routes.shared import PEOPLE, DigestPath, TheDirectory
from strongroom.broker.service import Members
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.personnel.roster import AUDITOR
from strongroom.release.statements import StatementKind

router = APIRouter(tags=["people"])


async def _auditor(request: Request, directory: TheDirectory) -> None:
    identity = request.scope["state"].get(IDENTITY)
    if not isinstance(identity, Identity) or not await directory.holds_role(PersonId(identity.name), AUDITOR):
        raise OtherPartyError(f"this address is for people with the role `{AUDITOR}`")


@router.post("/statements/{kind}", response_model=Recorded, dependencies=[PEOPLE])
async def state(kind: StatementKind, body: EnvelopeIn, directory: TheDirectory) -> Members:
    """Record a signed statement: vetting, enrolment, erasure, objection, review. The keeper judges who signed it."""
    return await directory.state_of(kind, body.envelope.envelope())


@router.get("/statements/{kind}/{digest}", response_model=EnvelopeAnswer, dependencies=[PEOPLE, Depends(_auditor)])
async def statement(kind: StatementKind, digest: DigestPath, directory: TheDirectory) -> Members:
    """Return a statement that the log names, but for vetting and erasure: those are about one person."""
    return await directory.statement(kind, Digest.parse(digest))


@router.get("/people", response_model=PeopleAnswer, dependencies=[PEOPLE])
async def people(directory: TheDirectory) -> Members:
    """Return who is who today, and how many people hold access of each class."""
    return await directory.people()


@router.get("/grants", response_model=GrantsAnswer, dependencies=[PEOPLE])
async def grants(directory: TheDirectory) -> Members:
    """Return the newest 1,000 grants, newest first."""
    return await directory.grants()


@router.get("/people/fallen/{digest}", response_model=EnvelopeAnswer, dependencies=[PEOPLE])
async def fallen(digest: DigestPath, directory: TheDirectory) -> Members:
    """Return the keeper's signed record of everything that fell with a suspension."""
    return await directory.fallen(Digest.parse(digest))


@router.get("/decisions", response_model=DecisionsAnswer, dependencies=[PEOPLE, Depends(_auditor)])
async def decisions(query: Annotated[DecisionsQuery, Query()], directory: TheDirectory) -> Members:
    """Return kept decisions, oldest first, perhaps fewer than asked for. For auditors: they tell of vetting."""
    return await directory.decisions(query)


@router.get("/attested/{digest}", response_model=AttestedAnswer, dependencies=[PEOPLE, Depends(_auditor)])
async def attested(digest: DigestPath, directory: TheDirectory) -> Members:
    """Return the evidence and the signed result behind a release or a renewal, by the digest in its log entry."""
    return await directory.attested(Digest.parse(digest))


@router.get("/releases/{index}/explanation", response_model=DecisionAnswer, dependencies=[PEOPLE, Depends(_auditor)])
async def release(index: Annotated[int, Path(ge=0, le=2**53 - 1)], directory: TheDirectory) -> Members:
    """Return the recorded decision behind a release, an export or a refusal, by its log index. For auditors."""
    return await directory.decided(index)
