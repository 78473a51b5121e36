"""What the attack suite found, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from strongroom.assurance.attack_results import AttackResult, AttackRun, Outcome
from strongroom.assurance.reports.markup import add, table
from strongroom.core.clock import format_instant

if TYPE_CHECKING:
    from strongroom.assurance.reports.markup import Node

OUTCOMES: Final = {
    Outcome.BLOCKED: ("blocked", "met"),
    Outcome.UNBLOCKED: ("not blocked", "not-met"),
    Outcome.BROKEN: ("broken", "partly"),
    Outcome.NOT_RUN: ("not run", "not-assessed"),
}
"""How each outcome is said, and its colour."""
_HEADS: Final = ("Attack", "Vectors", "By", "Outcome", "Detected", "Took", "Stopped or shown by")
_MICROS: Final = 1000


def put_attacks(part: Node, run: AttackRun | None) -> None:
    """Put the run there; without one, that there was none."""
    if run is None:
        add(part, "p", "No run of the attack suite was given to this assessment.")
        return
    add(part, "p", told(run))
    body = table(part, "What was tried, and what came of it", _HEADS, "attacks")
    for one in run.results:
        _attack(add(body, "tr"), one)
    if run.trials:
        body = table(part, "With one layer turned off", ("Layer", "Still stopped", "Got through", "Independent"), "")
        for trial in run.trials:
            row = add(body, "tr")
            add(row, "th", trial.layer, scope="row")
            add(row, "td", str(len(trial.stopped)), data_head="Still stopped")
            add(row, "td", ", ".join(trial.passed) or "none", data_head="Got through")
            add(row, "td", "yes" if trial.independent else "no", data_head="Independent")


def told(run: AttackRun) -> str:
    """Say what came of a run, in one sentence."""
    tried = [one for one in run.results if one.outcome.executed]
    blocked = sum(one.outcome is Outcome.BLOCKED for one in tried)
    what = "the deployment itself" if run.live else "a scratch copy"
    text = f"Against {what}, {format_instant(run.at)}: {len(tried)} executed, {blocked} blocked, "
    return f"{text}{sum(one.detected for one in tried)} detected. One that broke counts for nothing."


def _attack(row: Node, one: AttackResult) -> None:
    head = add(row, "th", scope="row")
    add(head, "code", one.attack)
    add(head, "div", one.title)
    add(row, "td", ", ".join(one.vectors) or "none", data_head="Vectors")
    add(row, "td", one.capacity.value, data_head="By")
    word, cls = OUTCOMES[one.outcome]
    outcome = add(row, "td", data_head="Outcome")
    add(outcome, "span", word, cls=f"tag {cls}")
    why = one.refusal or one.detail
    if why:
        add(outcome, "div", why)
    seen = (one.signal or "yes") if one.detected else "no"
    add(row, "td", seen, data_head="Detected")
    took = f"{one.micros / _MICROS:.1f} ms" if one.outcome is Outcome.BLOCKED else ""
    add(row, "td", took, data_head="Took")
    add(row, "td", ", ".join((*one.measures, *one.layers)) or "nothing named", data_head="By measure")
