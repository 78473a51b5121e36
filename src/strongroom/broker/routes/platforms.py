"""Enrolling platforms, by people who admit them or by the platforms themselves, and the list of enrolled ones."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from strongroom.attestation.enrolment import MAX_REQUEST
from strongroom.attestation.evidence import MAX_BODY
from strongroom.broker.answers import ChipAnswer, EnrolmentAnswer, PlatformAnswer, PlatformsAnswer
from strongroom.broker.bodies import ChipEvidenceIn, ChipIn, EnrolmentAnswerIn, EnrolmentIn, PageQuery, binary
from strongroom.broker.routes.shared import TheDirectory
from strongroom.broker.service import Members

MAX_ANSWER = 64
router = APIRouter(tags=["platforms"])


@router.post("/enrolments", response_model=EnrolmentAnswer)
async def enrol(body: EnrolmentIn, directory: TheDirectory) -> Members:
    """Begin an enrolment: the answer is a credential that only the platform's TPM opens."""
    return await directory.enrol(binary(body.enrolment, "enrolment", max_length=MAX_REQUEST))


@router.post("/enrolments/{session}", response_model=PlatformAnswer)
async def finish(
    session: Annotated[str, Path(max_length=64)], body: EnrolmentAnswerIn, directory: TheDirectory
) -> Members:
    """Finish an enrolment: the answer is the keeper's signed record of the platform."""
    return await directory.finish_enrolment(session, binary(body.answer, "answer", max_length=MAX_ANSWER))


@router.post("/chips", response_model=ChipAnswer)
async def enrol_chip(body: ChipIn, directory: TheDirectory) -> Members:
    """Begin to enrol a confidential-computing chip: the answer is a challenge for its evidence."""
    return await directory.enrol_chip(body.kind)


@router.post("/chips/{session}", response_model=PlatformAnswer)
async def finish_chip(
    session: Annotated[str, Path(max_length=64)], body: ChipEvidenceIn, directory: TheDirectory
) -> Members:
    """Finish a chip's enrolment by its evidence: the answer is the keeper's signed record of the platform."""
    return await directory.finish_chip(session, binary(body.evidence, "evidence", max_length=MAX_BODY))


@router.get("/platforms", response_model=PlatformsAnswer)
async def platforms(query: Annotated[PageQuery, Query()], directory: TheDirectory) -> Members:
    """List enrolled platforms."""
    return await directory.platforms(query)
