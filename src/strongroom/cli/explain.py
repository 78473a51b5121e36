"""``strongroom explain``: how the keeper judges a request now, step by step, and what would pass."""

from __future__ import annotations

from pathlib import Path

import click

from strongroom.access.invariants import Reason
from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, session
from strongroom.client.api import Explanation
from strongroom.client.render import printable
from strongroom.client.service import refusals_of
from strongroom.core.canonical import Json

_ENCLAVE_ONLY = frozenset({Reason.ENCLAVE_MISSING.value})


@click.command("explain")
@click.argument("digest")
@as_wallet
@json_option
def explain(digest: str, wallet: Path, *, as_json: bool) -> None:
    """Say step by step how a request is judged now: what passed, what refuses, and what would pass.

    Nothing is recorded. DIGEST may be cut short.
    """
    with session(wallet) as person:
        found = person.find(digest)
        explanation = person.api.explain(found)
    show({"request": str(found), **to_json(explanation)}, text(explanation), as_json=as_json)


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
