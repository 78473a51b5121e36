"""An attack counts as blocked only by a code that it named, after the honest act worked; whatever else is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.assurance.attack_results import AttackResult, Outcome
from strongroom.attacks import suite
from strongroom.attacks.acts import supply
from strongroom.attacks.attack import Attack, chosen
from strongroom.attacks.ending import NotRunError, RefusedError, SetupError
from strongroom.attacks.lab.lab import Lab, Target
from strongroom.attacks.layers import Layer
from strongroom.attacks.suite import attacked
from strongroom.attacks.traces import Traces
from strongroom.attacks.trial import Trial
from strongroom.cli.main import main
from strongroom.core.errors import DeniedError, UsageError
from strongroom.framework.ids import MeasureId, VectorId
from strongroom.framework.levels import OperationalCapacity

SECRET = "a-data-key-that-must-not-be-shown"


def carried_out(
    act: Callable[[Trial], None],
    folder: Path,
    *,
    refusals: str = "quorum-not-met",
    without: frozenset[Layer] = frozenset(),
) -> AttackResult:
    one = Attack(
        id="made-up",
        title="Made up",
        vectors=(VectorId("CEC-4"),),
        capacity=OperationalCapacity.OC2,
        measures=(MeasureId("SL2-WAC-01"),),
        layer=Layer.INVARIANTS,
        refusals=frozenset(refusals.split()),
        outside=False,
        act=act,
    )
    lab = Lab(folder, without=without)
    return attacked(one, lab, Traces(lab))


def refuse(code: str) -> Callable[[], object]:
    def act() -> object:
        raise DeniedError("no", reason=code)

    return act


def shown(trial: Trial) -> None:
    with trial.honest("it works"):
        pass


def test_a_refusal_that_was_foreseen_blocks(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("try", refuse("quorum-not-met"))

    found = carried_out(act, tmp_path)
    assert (found.outcome, found.refusal, found.layers) == (Outcome.BLOCKED, "quorum-not-met", ("invariants",))


@pytest.mark.parametrize("code", ["malformed", "unavailable", "request-expired"])
def test_another_refusal_is_broken(tmp_path: Path, code: str) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("try", refuse(code))

    found = carried_out(act, tmp_path)
    assert found.outcome is Outcome.BROKEN
    assert code in found.detail
    assert found.layers == ()


def test_an_error_without_a_code_is_broken(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("try", [].pop)

    assert carried_out(act, tmp_path).outcome is Outcome.BROKEN


def test_one_attempt_that_gains_something_unblocks_all(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("first", refuse("quorum-not-met"))
        trial.attempt("second", lambda: SECRET)
        trial.attempt("third", refuse("quorum-not-met"))

    found = carried_out(act, tmp_path)
    assert found.outcome is Outcome.UNBLOCKED
    assert SECRET not in str(found.to_json())


def test_what_returns_nothing_was_not_refused(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("try", lambda: None)

    assert carried_out(act, tmp_path).outcome is Outcome.UNBLOCKED


def test_without_an_honest_act_that_worked_nothing_counts(tmp_path: Path) -> None:
    def unshown(trial: Trial) -> None:
        trial.attempt("try", refuse("quorum-not-met"))

    def failing(trial: Trial) -> None:
        with trial.honest("the honest act"):
            refuse("quorum-not-met")()
        trial.attempt("try", refuse("quorum-not-met"))

    for act in (unshown, failing, shown):
        assert carried_out(act, tmp_path).outcome is Outcome.BROKEN


def test_what_isn_t_on_this_machine_is_not_run(tmp_path: Path) -> None:
    def act(_trial: Trial) -> None:
        raise NotRunError("no software TPM")

    found = carried_out(act, tmp_path)
    assert (found.outcome, found.detail) == (Outcome.NOT_RUN, "no software TPM")


def test_an_attack_that_breaks_by_itself_is_seen(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        raise KeyError("x")

    assert carried_out(act, tmp_path).outcome is Outcome.BROKEN


def test_a_finding_counts_only_where_something_was_refused(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("try", lambda: "in")
        trial.finding("it was seen")

    assert not carried_out(act, tmp_path).detected


def test_a_finding_is_none_where_one_attempt_got_through(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("first", lambda: "in")
        trial.attempt("second", refuse("quorum-not-met"))
        trial.finding("it was seen")

    assert not carried_out(act, tmp_path).detected


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("policy-refuses", Outcome.BLOCKED),
        # The layer that is off refused all the same; a process failed; something was delivered that didn't open.
        *((code, Outcome.BROKEN) for code in ("quorum-not-met", "unavailable", "broker-fault", "delivery-refused")),
    ],
)
def test_with_a_layer_off_only_another_s_refusal_counts(tmp_path: Path, code: str, outcome: Outcome) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("try", refuse(code))

    assert carried_out(act, tmp_path, without=frozenset({Layer.INVARIANTS})).outcome is outcome


def test_nothing_is_said_of_a_layer_when_an_attack_breaks_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = chosen(["nobody-agreed"])

    def ended(outcome: Outcome) -> AttackResult:
        return replace(_result(one), outcome=outcome)

    for outcome, stopped, passed in ((Outcome.BLOCKED, (one.id,), ()), (Outcome.UNBLOCKED, (), (one.id,))):
        monkeypatch.setattr(suite, "run", lambda *_given, o=outcome, **_named: (ended(o),))
        found = suite.layer_trial(Layer.INVARIANTS, [one])
        assert (found.stopped, found.passed) == (stopped, passed)
    monkeypatch.setattr(suite, "run", lambda *_given, **_named: (ended(Outcome.BROKEN),))
    with pytest.raises(SetupError, match="nobody-agreed"):
        suite.layer_trial(Layer.INVARIANTS, [one])


def test_a_layer_of_which_nothing_is_said_is_in_the_report_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = chosen(["nobody-agreed"])

    def ended(*_given: object, without: frozenset[Layer] = frozenset(), **_named: object) -> tuple[AttackResult, ...]:
        return (replace(_result(one), outcome=Outcome.BROKEN if without else Outcome.BLOCKED),)

    monkeypatch.setattr(suite, "run", ended)
    monkeypatch.setattr("strongroom.cli.attack.run", ended)
    done = CliRunner().invoke(main, ["attack", "run", "--layers", "--only", one.id, "--json"])
    assert json.loads(done.stdout)["trials"] == [{"layer": "invariants", "passed": [], "stopped": []}]


def _result(one: Attack) -> AttackResult:
    return AttackResult(
        attack=one.id,
        title=one.title,
        vectors=one.vectors,
        capacity=one.capacity,
        outcome=Outcome.BLOCKED,
        refusal="",
        detected=False,
        signal="",
        measures=one.measures,
        layers=(),
        micros=1,
    )


def test_a_code_that_no_exception_of_ours_carries_counts_too(tmp_path: Path) -> None:
    def act(trial: Trial) -> None:
        shown(trial)
        trial.attempt("an answer", lambda: _raise(RefusedError("http-403")))
        trial.attempt("the system", lambda: _raise(PermissionError(13, "no")))

    assert carried_out(act, tmp_path, refusals="http-403 EACCES").outcome is Outcome.BLOCKED


def _raise(error: Exception) -> object:
    raise error


def test_a_running_deployment_is_attacked_from_outside_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path, live=Target(tmp_path, 1))
    (one,) = chosen(["nobody-agreed"])
    assert attacked(one, lab, Traces(lab)).outcome is Outcome.NOT_RUN
    # Nor is one that needs nothing of a deployment counted as if it had been tried on this one.
    with pytest.raises(UsageError, match="scratch copy only"):
        suite.run(chosen(["poisoned-pickle"]), live=Target(tmp_path, 1))


SUPPLY = (
    "poisoned-pickle",
    "poisoned-checkpoint-in-disguise",
    "header-that-breaks-a-loader",
    "delivery-that-never-ends",
)


@pytest.mark.parametrize("name", SUPPLY)
def test_an_attack_passes_when_its_control_is_off(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(tmp_path)
    (one,) = chosen([name])
    assert attacked(one, lab, Traces(lab)).outcome is Outcome.BLOCKED
    monkeypatch.setattr(supply, "_judged", lambda _folder: 0)
    found = attacked(one, lab, Traces(lab))
    assert (found.outcome, found.detected) == (Outcome.UNBLOCKED, False)
