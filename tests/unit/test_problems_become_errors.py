"""What a deployment refuses with keeps its meaning on the way to a person's shell."""

from __future__ import annotations

import json

import pytest

from strongroom.client.problems import problem_error
from strongroom.core.errors import (
    ConflictError,
    DeniedError,
    ExitCode,
    LockedError,
    MalformedError,
    NotFoundError,
    PendingError,
    StrongroomError,
    TamperedError,
    UnavailableError,
    UsageError,
)
from strongroom.release.steps import ReleaseRefusedError, Step


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeniedError("no"), ExitCode.DENIED),
        (PendingError("not yet"), ExitCode.PENDING),
        (LockedError("locked"), ExitCode.LOCKED),
        (TamperedError("changed"), ExitCode.TAMPERED),
        (MalformedError("odd"), ExitCode.TAMPERED),
        (UnavailableError("away"), ExitCode.UNAVAILABLE),
        (NotFoundError("none"), ExitCode.NOT_FOUND),
        (ConflictError("taken"), ExitCode.CONFLICT),
        (UsageError("what"), ExitCode.USAGE),
        (ReleaseRefusedError(Step.DECISION, "quorum-not-met", "refused", remedy="ask"), ExitCode.DENIED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, StrongroomError) else "",
)
def test_class_code_message_and_remedy_survive(error: StrongroomError, code: ExitCode) -> None:
    told = problem_error(error.http_status, json.dumps(error.problem()).encode())
    assert type(told) is type(error)
    assert (told.exit_code, told.reason, told.message, told.remedy) == (code, error.reason, error.message, error.remedy)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ExitCode.USAGE),
        (403, ExitCode.DENIED),
        (404, ExitCode.NOT_FOUND),
        (409, ExitCode.CONFLICT),
        (422, ExitCode.TAMPERED),
        (429, ExitCode.UNAVAILABLE),
        (500, ExitCode.UNAVAILABLE),
        (503, ExitCode.UNAVAILABLE),
    ],
)
def test_an_unknown_class_becomes_the_nearest_one(status: int, code: ExitCode) -> None:
    body = {"title": "of-a-newer-version", "code": "finer", "detail": "said", "remedy": "do", "status": status}
    told = problem_error(status, json.dumps(body).encode())
    assert (told.exit_code, told.reason, told.message, told.remedy) == (code, "finer", "said", "do")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title": 7}', b"\xff" * 10, b"{" * 100_000])
def test_an_answer_that_explains_nothing_is_still_a_refusal(body: bytes) -> None:
    assert problem_error(403, body).exit_code is ExitCode.DENIED
    assert problem_error(500, body).exit_code is ExitCode.UNAVAILABLE


def test_a_hostile_text_cannot_reach_the_terminal_as_it_is() -> None:
    body = {"title": "denied", "code": "denied\x1b[2J", "detail": "\x1b]0;owned\x07" + "x" * 9000, "remedy": "\u202e"}
    told = problem_error(403, json.dumps(body).encode())
    assert "\x1b" not in told.diagnosis()
    assert "\u202e" not in told.diagnosis()
    assert len(told.diagnosis()) < 5000
