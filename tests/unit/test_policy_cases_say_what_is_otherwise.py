"""A case begins with everything in order; each member that says otherwise makes the refusal that it should."""

from __future__ import annotations

from typing import Any

import pytest

from strongroom.access.cases import CaseResult, read_cases, run_case
from strongroom.core.errors import MalformedError
from support.policies import ENGINE, EVERY_LEVEL

OPEN, SEAL, EXPORT = "open-in-enclave", "seal", "export-plaintext"
SAM = {"id": "sam", "roles": ["approver-security"]}
RINA = {"id": "rina", "roles": ["approver-research"]}
CASES: list[tuple[str, dict[str, Any], str]] = [
    (OPEN, {"requester": {"active": False}}, "requester-inactive"),
    (OPEN, {"requester": {"vetted": "never"}}, "requester-not-vetted"),
    (OPEN, {"requester": {"vetted": "lapsed"}}, "requester-vetting-lapsed"),
    (OPEN, {"requester": {"tier": 1}}, "requester-tier-too-low"),
    (OPEN, {"requester": {"roles": ["publisher"]}}, "requester-role-missing"),
    (OPEN, {"requester": {"employment": "leave"}}, "requester-employment"),
    (OPEN, {"requester": {"employment": "notice"}, "purpose": "research"}, "requester-employment"),
    (OPEN, {"requester": {"conflict": True}}, "requester-conflict-open"),
    (OPEN, {"requester": {"nda": False}}, "requester-nda-missing"),
    (OPEN, {"requester": {"courses": []}}, "requester-training-lapsed"),
    (OPEN, {"requester": {"hardware": False}}, "requester-key-not-hardware"),
    (SEAL, {"requester": {"copy_screened": False}}, "requester-copy-screening-lapsed"),
    (EXPORT, {"requester": {"copy_screened": False}}, "requester-copy-screening-lapsed"),
    (OPEN, {"approvers": []}, "quorum-not-met"),
    (OPEN, {"approvers": [SAM]}, "quorum-not-met"),
    (OPEN, {"approvers": [SAM, {**RINA, "human": False}]}, "approver-not-human"),
    (OPEN, {"approvers": [SAM, {**RINA, "tier": 0}]}, "approver-tier-too-low"),
    (OPEN, {"approvers": [{**SAM, "org": "asking-unit"}, RINA]}, "quorum-not-met"),
    (OPEN, {"approvers": [SAM, {**RINA, "approved_ago": 90000}]}, "approver-approval-stale"),
    (OPEN, {"approvers": [SAM, RINA, {"id": "the-asker"}]}, "self-approval"),
    (OPEN, {"window": 90000}, "window-too-long"),
    (OPEN, {"uses": 101}, "uses-too-many"),
    (OPEN, {"uses_left": 0}, "grant-spent"),
    (OPEN, {"denied": True}, "request-denied"),
    (OPEN, {"frozen": True}, "model-frozen"),
    (OPEN, {"holders": 101}, "cap-reached"),
    (OPEN, {"holders": 51, "purpose": "research"}, "cap-reached"),
    (OPEN, {"review_overdue": True}, "quorum-not-met"),
    (OPEN, {"no_enclave": True}, "enclave-missing"),
    (OPEN, {"enclave": {"isolation_too_weak": True}}, "isolation-too-weak"),
    (OPEN, {"enclave": {"measurement_current": False}}, "measurement-unknown"),
    (OPEN, {"enclave": {"platform_named": False}}, "platform-not-named"),
]


def run(action: str, changes: dict[str, Any], model: str = "model-sl4") -> CaseResult:
    case = {"name": "n", "action": action, "model": model, "expect": "allow", **changes}
    (read,) = read_cases({"v": 1, "cases": [case]})
    return run_case(read, EVERY_LEVEL, ENGINE)


@pytest.mark.parametrize("action", [OPEN, SEAL, EXPORT, "freeze", "resume", "break-glass", "revoke-grant"])
def test_with_nothing_otherwise_everything_is_allowed(action: str) -> None:
    assert run(action, {}).passed
    assert run(action, {"waited": 60, "reason": None}).passed


@pytest.mark.parametrize(("action", "changes", "reason"), CASES)
def test_what_is_otherwise_is_refused_for_its_reason(action: str, changes: dict[str, Any], reason: str) -> None:
    result = run(action, changes)
    assert not result.allowed
    assert reason in result.reasons
    assert run(action, {**changes, "expect": "deny", "reason": reason}).passed
    assert run(action, {**changes, "expect": "deny"}).passed
    assert not run(action, {**changes, "expect": "deny", "reason": "something-else"}).passed


def test_who_has_given_notice_may_still_evaluate() -> None:
    assert run(OPEN, {"requester": {"employment": "notice"}, "purpose": "evaluate"}).passed


def test_what_the_policy_has_no_rule_for_is_refused_with_that_reason() -> None:
    assert run(EXPORT, {}, model="model-sl5").reasons == ("no-rule",)
    assert run(OPEN, {}, model="unheard-of").reasons == ("no-rule",)


@pytest.mark.parametrize(
    "changes",
    [
        {"enclave": {"isolation": 3}},
        {"requester": {"vetted": "often"}},
        {"approvers": [{"roles": []}]},
        {"approvers": "sam"},
        {"window": 0},
        {"frozen": "yes"},
        {"expires": "2030-01-01T00:00:00Z"},
        {"action": "borrow"},
    ],
)
def test_what_a_case_does_not_have_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(MalformedError, match=r"cases file\.cases\[0\]"):
        run(OPEN, changes)
