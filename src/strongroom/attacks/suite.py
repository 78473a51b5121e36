"""The suite: one attack after the other, each judged by what really came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from strongroom.assurance.attack_results import AttackResult, LayerTrial, Outcome
from strongroom.attacks.attack import Attack
from strongroom.attacks.ending import NotRunError, SetupError
from strongroom.attacks.lab.lab import Lab, Target, open_lab
from strongroom.attacks.layers import Layer
from strongroom.attacks.traces import Traces
from strongroom.attacks.trial import Trial
from strongroom.broker.errors import BrokerFaultError
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.printable import printable

MAX_DETAIL = 1024
MAX_SIGNAL = 256
MAX_CODE = 64
_FAULTS = frozenset({UnavailableError.code, BrokerFaultError.code, "delivery-refused"})


def judged(trial: Trial, foreseen: Callable[[str], bool]) -> tuple[Outcome, str, str]:
    """Say how an attack ended that made its attempts: the outcome, the first refusal's code, and the detail.

    One attempt that gained something makes it unblocked; one that ended with a code that wasn't foreseen, broken.
    """
    for one in trial.attempts:
        if one.gained:
            return Outcome.UNBLOCKED, "", f"{one.what}: {one.gained}"
    for one in trial.attempts:
        if not foreseen(one.code):
            return Outcome.BROKEN, "", f"{one.what}: ended with `{one.code or 'no code'}`: {one.said}"
    if not trial.attempts:
        return Outcome.BROKEN, "", "it tried nothing"
    return Outcome.BLOCKED, trial.attempts[0].code, ""


def attacked(one: Attack, lab: Lab, traces: Traces) -> AttackResult:
    """Carry out one attack in a lab, and look for what it left behind."""
    foreseen = one.refusals.__contains__
    if lab.weakened:
        # With its layer off nobody foresees which code the next one gives. Its own would say that it wasn't off; a
        # process that failed under the change refuses nothing, and a delivery that didn't open was delivered.
        foreseen = lambda code: bool(code) and code not in one.refusals | _FAULTS  # noqa: E731 - it is one of two
    trial = Trial(lab=lab, mark=traces.mark)
    try:
        one.act(trial)
    except NotRunError as error:
        outcome, refusal, detail = Outcome.NOT_RUN, "", str(error)
    except SetupError as error:
        outcome, refusal, detail = Outcome.BROKEN, "", str(error)
    except Exception as error:  # noqa: BLE001 - an attack that breaks by itself must be seen, and the others run
        outcome, refusal, detail = Outcome.BROKEN, "", f"outside of its attempts: {type(error).__name__}: {error}"
    else:
        outcome, refusal, detail = judged(trial, foreseen)
    signals = [*trial.signals, *(traces.found() if trial.attempts else ())]
    return AttackResult(
        attack=one.id,
        title=one.title,
        vectors=one.vectors,
        capacity=one.capacity,
        outcome=outcome,
        refusal=refusal[:MAX_CODE],
        detected=bool(signals),
        signal=(signals[0] if signals else "")[:MAX_SIGNAL],
        measures=one.measures,
        layers=(one.layer.value,) if outcome is Outcome.BLOCKED else (),
        micros=sum(attempt.micros for attempt in trial.attempts),
        detail=printable(detail)[:MAX_DETAIL],
    )


def run(
    attacks: Iterable[Attack],
    *,
    live: Target | None = None,
    without: frozenset[Layer] = frozenset(),
    progress: Callable[[AttackResult], None] = lambda _result: None,
) -> tuple[AttackResult, ...]:
    """Carry out attacks one after the other. A lab that one of them broke, or got into, is thrown away.

    :param live: a running deployment whose owner agreed to this, instead of a scratch copy.
    :param without: layers that are turned off in the scratch copy.
    :raises UsageError: ``live``, and an attack is for scratch copies only.
    """
    results: list[AttackResult] = []
    waiting = list(attacks)
    inner = [one.id for one in waiting if live is not None and not one.outside]
    if inner:
        raise UsageError(f"`{inner[0]}` is tried on a scratch copy only")
    while waiting:
        with open_lab(live=live, without=without) as lab:
            for result in _in_one_lab(waiting, lab):
                results.append(result)
                progress(result)
    return tuple(results)


def _in_one_lab(waiting: list[Attack], lab: Lab) -> Iterator[AttackResult]:
    traces = Traces(lab)
    while waiting:
        result = attacked(waiting.pop(0), lab, traces)
        yield result
        if result.outcome in {Outcome.UNBLOCKED, Outcome.BROKEN}:
            # Whatever it changed must not be what stops the next one.
            return


def tried_without(layer: Layer, attacks: Iterable[Attack]) -> tuple[Attack, ...]:
    """Return the attacks that a layer stops, and that are tried again when it is turned off."""
    return tuple(one for one in attacks if one.layer is layer)


def layer_trial(
    layer: Layer, attacks: Iterable[Attack], *, progress: Callable[[AttackResult], None] = lambda _result: None
) -> LayerTrial:
    """Carry out, with one layer turned off, the attacks that it stops: which does another layer stop?

    :raises SetupError: one of them ended in no way that tells; then nothing is said of the layer.
    """
    stopped: list[str] = []
    passed: list[str] = []
    tried = tried_without(layer, attacks)
    for result in run(tried, without=frozenset({layer}), progress=progress):
        if result.outcome is Outcome.BROKEN:
            raise SetupError(f"`{result.attack}`: {result.detail}")
        if result.outcome is not Outcome.NOT_RUN:
            (stopped if result.outcome is Outcome.BLOCKED else passed).append(result.attack)
    return LayerTrial(layer=layer.value, stopped=tuple(stopped), passed=tuple(passed))
