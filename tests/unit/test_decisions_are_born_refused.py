"""Whatever decides starts as a refusal: to forget a step refuses, it never allows."""

from __future__ import annotations

import dataclasses

import pytest

from strongroom.access.decision import Decision
from strongroom.attestation.collateral import NO_COLLATERAL
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.ids import PlatformId
from strongroom.release import judge
from strongroom.release.challenge import MAX_OPEN, Challenge, OpenChallenges
from strongroom.release.documents import Documents
from strongroom.release.dossier import Dossier
from strongroom.release.judge import Verdict, examine
from strongroom.release.ledger import Ledger
from strongroom.release.steps import ReleaseRefusedError, Step, Trace
from support.room import found_room

GENESIS = found_room().genesis


def test_a_new_verdict_and_a_new_decision_refuse() -> None:
    assert Verdict().allowed is False
    assert Decision().allowed is False
    assert Decision().refusals
    assert Decision().policies == ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Decision().allowed = True  # type: ignore[misc]


def test_two_verdicts_share_nothing() -> None:
    one, other = Verdict(), Verdict()
    one.trace.passed(Step.DOCUMENTS, "found")
    assert other.trace.checks == []


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff" * 50, b"[]"])
def test_whatever_isn_t_a_request_is_refused_at_its_step(payload: bytes) -> None:
    verdict = examine(
        Dossier(request=Envelope("kind", payload, ())),
        genesis=GENESIS,
        documents=Documents(),
        ledger=Ledger(),
        challenge=None,
        collateral=NO_COLLATERAL,
        now=0,
    )
    assert verdict.allowed is False
    assert verdict.refusal is not None
    assert verdict.refusal.step is Step.REQUEST_GENUINE
    assert verdict.trace.checks[-1].passed is False


def test_a_refusal_after_an_allowance_takes_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    # Were a step ever added behind the decision, its refusal must win.
    def steps(_case: object, verdict: Verdict) -> None:
        verdict.allowed = True
        raise ReleaseRefusedError(Step.DECISION, "late", "a late refusal")

    monkeypatch.setattr(judge, "_steps", steps)
    verdict = examine(
        Dossier(request=Envelope("kind", b"", ())),
        genesis=GENESIS,
        documents=Documents(),
        ledger=Ledger(),
        challenge=None,
        collateral=NO_COLLATERAL,
        now=0,
    )
    assert verdict.allowed is False
    assert verdict.refusal is not None


def test_a_refusal_names_its_step_and_what_would_pass() -> None:
    error = ReleaseRefusedError(Step.DECISION, "quorum-not-met", "refused", remedy="ask sam")
    assert error.reason == "quorum-not-met"
    assert error.message.startswith("step 4.9 (decision)")
    trace = Trace()
    trace.refused(error)
    told = trace.checks[0].to_json()
    assert told == {
        "step": "4.9",
        "name": "decision",
        "passed": False,
        "found": error.message,
        "reason": "quorum-not-met",
        "remedy": "ask sam",
    }


def challenge(number: int, expires: int = 100) -> Challenge:
    return Challenge(
        id=str(number),
        nonce=bytes(32),
        request=Digest.of(b"request"),
        platform=PlatformId("tpm-" + "1" * 64),
        expires=expires,
    )


def test_a_challenge_is_taken_once_and_never_again() -> None:
    waiting = OpenChallenges()
    waiting.add(challenge(1), 0)
    assert waiting.take("2") is None
    assert waiting.take("1") == challenge(1)
    assert waiting.take("1") is None


def test_asking_for_many_challenges_drops_the_expired_then_the_oldest() -> None:
    waiting = OpenChallenges()
    waiting.add(challenge(0, expires=5), 0)
    for number in range(1, MAX_OPEN):
        waiting.add(challenge(number), 0)
    waiting.add(challenge(MAX_OPEN), 6)
    # The expired one made room: nobody else had to go.
    assert waiting.take("0") is None
    assert waiting.take("1") is not None
    waiting.add(challenge(1), 6)
    waiting.add(challenge(MAX_OPEN + 1), 6)
    assert waiting.take("2") is None
    assert waiting.take(str(MAX_OPEN + 1)) is not None
