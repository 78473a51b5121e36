"""A draft policy beside the one in force: what differs, what it would have done. For `policy diff` and `sign`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.policy import Policy
from strongroom.access.self_test import safe_engine
from strongroom.cli.session import read_file
from strongroom.client.decisions import MOST, WhatIf, from_file, history, kept_decisions, what_if
from strongroom.client.service import Session
from strongroom.client.trust import Trust
from strongroom.core.canonical import Json, encode, parse
from strongroom.core.clock import format_instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import DeniedError, UsageError
from strongroom.core.printable import printable
from strongroom.release.decided import MAX_DECIDED
from strongroom.release.policy_diff import Difference, cedar_diff, differences, may_be_looser
from strongroom.release.what_if import Trial, reasons, recorded_reasons

LAST: Final = 200
NOT_SHOWN: Final = (
    "decisions are shown to auditors; take an auditor's file (strongroom policy decisions) with --decisions"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two policies, how they differ, and what the later would have done; ``without`` says why that isn't known."""

    before: Policy
    after: Policy
    found: tuple[Difference, ...]
    tried: WhatIf | None
    without: str

    @property
    def looser(self) -> bool:
        """The later may guard less: by its text, or because it would have allowed what was refused."""
        return may_be_looser(self.found) or (self.tried is not None and self.tried.looser)


def compare(person: Session, trust: Trust, draft: Policy, decisions: Path | None, most: int) -> Comparison:
    """Compare a draft with the policy in force, and try it on recorded decisions.

    :param decisions: an auditor's file of them; None to ask the deployment.
    :raises PolicyUnsafeError: the draft doesn't pass what every policy must.
    :raises DeniedError: no policy is in force.
    """
    _roster, before = trust.require_documents()
    engine = safe_engine(draft)
    try:
        if decisions is None:
            records = kept_decisions(person.api, most)
        else:
            records = from_file(read_file(decisions, most=MOST * MAX_DECIDED))
    except DeniedError:
        return _compared(before, draft, None, NOT_SHOWN)
    tried = what_if(person.api, trust, history(person.api, trust, records, most=most), draft, engine)
    return _compared(before, draft, tried, "")


def compare_offline(draft: Policy, against: Path) -> Comparison:
    """Compare a draft with its predecessor out of a file. The draft names it by digest, so the file can't be another.

    :raises UsageError: the file holds another policy than the draft's predecessor.
    """
    value = parse(read_file(against, most=2 * MAX_PAYLOAD), max_bytes=2 * MAX_PAYLOAD)
    signed = isinstance(value, dict) and "payloadType" in value
    before = Policy.parse(Envelope.parse(encode(value)).payload if signed else encode(value))
    if Digest.of(before.to_bytes()) != draft.predecessor:
        raise UsageError(
            f"`{against.name}` isn't the predecessor that the draft names",
            remedy="have it from the deployment: strongroom policy show --json",
        )
    return _compared(before, draft, None, "without the deployment there is no log to check decisions against")


def _compared(before: Policy, after: Policy, tried: WhatIf | None, without: str) -> Comparison:
    return Comparison(before=before, after=after, found=differences(before, after), tried=tried, without=without)


def lines(one: Comparison) -> Iterator[str]:
    """Yield a comparison for a person."""
    yield f"against the policy of epoch {one.before.epoch}:"
    for difference in one.found:
        yield f"  {difference.mark.value:<8} {difference.text}"
    if not one.found:
        yield "  no difference"
    for line in cedar_diff(one.before, one.after):
        yield f"  {printable(line)}"
    if one.tried is None:
        yield f"what it would have done: not known; {one.without}"
        return
    yield from _tried(one.tried)


def _tried(tried: WhatIf) -> Iterator[str]:
    past, count = tried.history, len(tried.trials)
    yield f"what it would have done to {count} recorded decisions, from log entry {past.first} on:"
    if past.missing:
        yield f"  {past.missing} more stand in the log: erased, no longer kept, withheld, or unreadable here"
    if past.unknown:
        yield f"  {past.unknown} handed in aren't in that part of the log, and don't count"
    for index, trial in tried.changed:
        yield f"  #{index} {_what(trial)}: was {_outcome(allowed=trial.decided.allowed)}, {_drafted(trial)}"
    if not tried.changed:
        yield "  nothing would have come out otherwise"
    for index, trial in tried.trials:
        if trial.control is None:
            yield f"  #{index} has no control: the policy of its day isn't to be had"
        elif not trial.reproduced:
            yield f"  #{index} IS NOT REPRODUCED under its own rule: {_control(trial)}; don't rely on this comparison"


def _what(trial: Trial) -> str:
    facts = trial.decided.facts
    request = facts.request
    return f"{format_instant(facts.now)} {request.action.value} of {request.model} by {request.requester}"


def _outcome(*, allowed: bool) -> str:
    return "allowed" if allowed else "refused"


def _drafted(trial: Trial) -> str:
    if trial.drafted.allowed:
        return f"WOULD BE ALLOWED (it was refused for {', '.join(recorded_reasons(trial.decided))})"
    return f"would be refused: {'; '.join(f'{code.value}, {text}' for code, text in trial.drafted.refusals)}"


def _control(trial: Trial) -> str:
    if trial.control is None:
        return "no control"
    outcome = _outcome(allowed=trial.control.allowed)
    return " ".join((outcome, ", ".join(reasons(trial.control)))).strip()


def to_json(one: Comparison) -> dict[str, Json]:
    """Return a comparison as JSON."""
    found: list[Json] = [{"mark": each.mark.value, "text": each.text} for each in one.found]
    return {
        "before": one.before.epoch,
        "after": one.after.epoch,
        "differences": found,
        "cedar": [*cedar_diff(one.before, one.after)],
        "looser": one.looser,
        "decisions": None if one.tried is None else _tried_json(one.tried),
    }


def _tried_json(tried: WhatIf) -> Json:
    changed: list[Json] = [
        {
            "index": index,
            "request": str(trial.decided.facts.request.digest),
            "was": _outcome(allowed=trial.decided.allowed),
            "would_be": _outcome(allowed=trial.drafted.allowed),
            "reasons": [*reasons(trial.drafted)],
            "recorded_reasons": [*recorded_reasons(trial.decided)],
        }
        for index, trial in tried.changed
    ]
    return {
        "tried": len(tried.trials),
        "first": tried.history.first,
        "missing": tried.history.missing,
        "unknown": tried.history.unknown,
        "not_reproduced": [
            index for index, trial in tried.trials if trial.control is not None and not trial.reproduced
        ],
        "no_control": [index for index, trial in tried.trials if trial.control is None],
        "changed": changed,
    }
