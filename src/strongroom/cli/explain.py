"""``strongroom explain``: how the keeper judges a request or grant now, or judged a release then: step by step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from strongroom.access.invariants import Reason
from strongroom.access.policy import Weights
from strongroom.audit.entries import Entry
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.client.decisions import Recorded, recorded_decision
from strongroom.client.service import Session, refusals_of
from strongroom.client.told import CheckShown, Explanation, GrantTold
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.errors import UsageError
from strongroom.core.events import EventName
from strongroom.core.printable import printable
from strongroom.release.decided import Decided

_ENCLAVE_ONLY = frozenset({Reason.ENCLAVE_MISSING.value})
RELEASE: Final = "#"
MAX_DIGITS: Final = 15
_PROVED: Final = (
    "platform",
    "isolation",
    "weights",
    "evidence",
    "result",
    "attested",
    "reference_values",
    "appraisal_policy",
    "collateral",
)


@click.command("explain")
@click.argument("what")
@as_wallet
@json_option
def explain(what: str, wallet: Path, *, as_json: bool) -> None:
    """Say step by step how something is judged: what passed, what refuses, and what would pass.

    WHAT is the digest of a request, which is its grant's too and may be cut short: it is judged as of now, and nothing
    is recorded. Or it is the log index of a release, an export or a refusal, as '#123' (quoted, for the shell): then
    auditors see the decision as it was recorded, checked against the log.
    """
    with session(wallet) as person:
        if what.startswith(RELEASE):
            _release(person, _index(what), as_json=as_json)
        else:
            _request(person, what, as_json=as_json)


def _index(what: str) -> int:
    digits = what.removeprefix(RELEASE)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        raise UsageError("a release is named by its log index, as in '#123'", remedy="list them: strongroom audit ls")
    return int(digits)


def _request(person: Session, what: str, *, as_json: bool) -> None:
    found = person.find(what)
    explanation = person.api.explain(found)
    data: dict[str, Json] = {"request": str(found), "grant": _grant_json(explanation.grant), **to_json(explanation)}
    show(data, [*_grant_text(explanation.grant), *text(explanation)], as_json=as_json)


def _release(person: Session, index: int, *, as_json: bool) -> None:
    trust = person.refresh()
    recorded = recorded_decision(person.api, trust, index)
    explanation = as_explanation(recorded.decided)
    head: dict[str, Json] = {
        "index": index,
        "event": recorded.entry.event.value,
        "at": format_instant(recorded.entry.at),
        "request": recorded.entry.text("request"),
        "decision": recorded.entry.text("decision"),
        "proven_in": trust.head.size,
    }
    if recorded.entry.event is EventName.RELEASED:
        head["proved"] = {name: recorded.entry.text(name) for name in _PROVED}
    show({**head, **to_json(explanation)}, [*_head(recorded, trust.head.size), *text(explanation)], as_json=as_json)


def _head(recorded: Recorded, size: int) -> Iterator[str]:
    entry, request = recorded.entry, recorded.decided.facts.request
    yield f"log entry {recorded.index}, {entry.event.value} at {format_instant(entry.at)}"
    yield f"  {request.action.value} of {request.model} by {request.requester}, request {entry.text('request')}"
    yield f"  decision {entry.text('decision')}, as the log of {size} entries has it"
    if entry.event is EventName.RELEASED:
        yield from _proved(entry)


def _proved(entry: Entry) -> Iterator[str]:
    """Say what the release was proved by; each name is a digest that auditors can ask for, or compare with a file's."""
    worth = "TEST WEIGHTS, no level vouched for" if entry.text("weights") == Weights.TEST else "production weights"
    yield f"  {worth}, served to evidence of the class `{entry.text('isolation')}` by {entry.text('platform')}"
    yield f"  evidence {entry.text('evidence')}, result {entry.text('result')}"
    yield f"  judged by reference values {entry.text('reference_values')},"
    yield f"    appraisal policy {entry.text('appraisal_policy')}, collateral {entry.text('collateral')}"


def as_explanation(decided: Decided) -> Explanation:
    """Return a recorded decision in the words of a dry run."""
    checks = tuple(
        CheckShown(
            step=check.step.number,
            name=check.step.title,
            passed=check.passed,
            found=check.found,
            reason=check.reason,
            remedy=check.remedy,
        )
        for check in decided.checks
    )
    return Explanation(allowed=decided.allowed, checks=checks, others=decided.others)


def _grant_json(grant: GrantTold | None) -> Json:
    if grant is None:
        return None
    return {
        "issued": format_instant(grant.issued),
        "approvers": [*grant.approvers],
        "access": grant.access,
        "expires": format_instant(grant.expires),
        "uses": grant.uses,
        "left": max(0, grant.uses - grant.used),
        "ended": grant.ended,
    }


def _grant_text(grant: GrantTold | None) -> Iterator[str]:
    if grant is None:
        return
    people = ", ".join(printable(name) for name in grant.approvers) or "nobody else"
    yield f"grant of `{printable(grant.access)}` access, issued {format_instant(grant.issued)} on the word of {people}"
    left = max(0, grant.uses - grant.used)
    over = "; ENDED by a denial, revocation or review" if grant.ended else ""
    yield f"  until {format_instant(grant.expires)}, {left} of {grant.uses} uses left{over}"
    yield "judged now:"


def outcome(explanation: Explanation) -> str:
    """Return the verdict in a word: allowed, ready (only an enclave's evidence is missing) or refused."""
    if explanation.allowed:
        return "allowed"
    reasons = {reason for reason, _ in refusals_of(explanation)}
    return "ready" if reasons == _ENCLAVE_ONLY else "refused"


def to_json(explanation: Explanation) -> dict[str, Json]:
    """Return an explanation as JSON."""
    checks: list[Json] = [
        {
            "step": check.step,
            "name": check.name,
            "passed": check.passed,
            "found": check.found,
            "reason": check.reason,
            "remedy": check.remedy,
        }
        for check in explanation.checks
    ]
    others: list[Json] = [{"reason": reason, "remedy": remedy} for reason, remedy in explanation.others]
    return {"outcome": outcome(explanation), "allowed": explanation.allowed, "checks": checks, "others": others}


def text(explanation: Explanation) -> list[str]:
    """Return an explanation as lines."""
    lines = []
    for check in explanation.checks:
        found = printable(check.found.removeprefix(f"step {check.step} ({check.name}): "))
        lines.append(f"{'pass' if check.passed else 'FAIL'}  {check.step:<4} {check.name:<18} {found}")
        if not check.passed:
            lines += _reason(check.reason, check.remedy)
    for reason, remedy in explanation.others:
        lines.append(f"{'FAIL':<4}  and")
        lines += _reason(reason, remedy)
    said = {
        "allowed": "allowed",
        "ready": "ready: it is allowed once an enclave on a named platform sends good evidence",
        "refused": "refused",
    }
    return [*lines, said[outcome(explanation)]]


def _reason(reason: str, remedy: str) -> list[str]:
    return [f"{'':<11}code {printable(reason)}", *([f"{'':<11}to pass: {printable(remedy)}"] if remedy else [])]
