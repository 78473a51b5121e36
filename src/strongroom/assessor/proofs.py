"""What plan, attack run and installation come to, as facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.assessor.collecting import Look
from strongroom.assurance.attack_results import AttackRun, Outcome
from strongroom.assurance.findings import Finding
from strongroom.assurance.plan import SecurityPlan
from strongroom.audit.facts import SCHEMA
from strongroom.core.clock import Instant
from strongroom.detection.cases import Failure, coverage
from strongroom.detection.pack import Pack
from strongroom.detection.senders import FED, heard_from
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.ids import measure_id

_DAY = 86400
_PROBED = measure_id("SL4-ARA-01")
_ITSELF = measure_id("SL3-ARA-01")


def plan_look(plan: SecurityPlan | None, gaps: tuple[Finding, ...], now: Instant) -> Look:
    """Return what the signed plan comes to, beside the gaps up to its goal."""
    if plan is None:
        return Look(collector="assurance.plan", facts={"signed": False})
    owned = {task.measure for task in plan.tasks}
    open_ = {gap.measure for gap in gaps}
    # The plan is itself a measure: its own finding isn't known while it is looked at.
    return Look(
        collector="assurance.plan",
        facts={
            "signed": True,
            "serial": plan.serial,
            "reviewed": plan.reviewed <= now,
            "reviewed_days": max(0, now - plan.reviewed) // _DAY,
            "unowned": tuple(sorted(open_ - owned - {_ITSELF})),
            "overdue": tuple(sorted(task.measure for task in plan.tasks if task.measure in open_ and task.due < now)),
        },
    )


def attack_looks(run: AttackRun | None, now: Instant, *, version: str) -> Iterator[Look]:
    """Yield what a run of the attack suite comes to; ``version`` is of the software that is assessed."""
    why = (
        "no report of the attack suite was given"
        if run is None
        else "the attack suite's report is of the future"
        if run.at > now
        else "the attack suite's report is of another version of this software"
        if run.version != version
        else ""
    )
    if run is None or why:
        yield Look(collector="attacks.suite", missing=why)
        yield Look(collector="attacks.layers", missing=why)
        return
    done = [one for one in run.results if one.outcome.executed]
    passed = [one for one in done if one.outcome is Outcome.UNBLOCKED]
    probes = [one for one in done if _PROBED in one.measures]
    age = (now - run.at) // _DAY
    yield Look(
        collector="attacks.suite",
        facts={
            "report": str(run.digest),
            "age_days": age,
            "live": run.live,
            "executed": len(done),
            "passed": tuple(one.attack for one in passed),
            "unseen": tuple(one.attack for one in passed if not one.detected),
            "broken": tuple(one.attack for one in run.results if one.outcome is Outcome.BROKEN),
            "not_run": tuple(one.attack for one in run.results if one.outcome is Outcome.NOT_RUN),
            "probes": len(probes),
            "probes_passed": tuple(one.attack for one in probes if one.outcome is Outcome.UNBLOCKED),
        },
    )
    if not run.trials:
        yield Look(collector="attacks.layers", missing="the suite wasn't run with layers turned off")
        return
    yield Look(
        collector="attacks.layers",
        facts={
            "report": str(run.digest),
            "age_days": age,
            "independent": sum(trial.independent for trial in run.trials),
            "alone": tuple(sorted({attack for trial in run.trials for attack in trial.passed})),
            "untried": tuple(trial.layer for trial in run.trials if not trial.stopped and not trial.passed),
        },
    )


def pack_look(pack: Pack, failed: Sequence[Failure], catalogue: Catalogue) -> Look:
    """Return what the rules come to that ship with the program; a rule one of whose stories failed covers nothing."""
    covered = coverage(pack, failed, catalogue)
    entries = {event.value: facts.keys() for event, facts in SCHEMA.items()}
    return Look(
        collector="detection.pack",
        facts={
            "rules": len(pack.rules),
            "correlations": len(pack.correlations),
            "failed": tuple(sorted({failure.rule for failure in failed})),
            "vectors": covered.covered,
            # Which feeds a deployment has connected isn't looked at: what they could tell counts as heard by nobody.
            "heard": covered.heard(heard_from(pack, entries)),
            "heard_with_feeds": covered.heard(heard_from(pack, entries, FED)),
            "pack": str(pack.digest),
        },
    )
