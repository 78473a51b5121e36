"""``strongroom attack``: carry out real attacks on a scratch copy, and see what stopped them."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from strongroom import __version__
from strongroom.assurance.attack_results import AttackResult, AttackRun, LayerTrial, Outcome
from strongroom.attacks import acts
from strongroom.attacks.attack import Attack, chosen
from strongroom.attacks.ending import SetupError
from strongroom.attacks.lab.lab import Target
from strongroom.attacks.lab.weakened import SWITCHES
from strongroom.attacks.suite import layer_trial, run, tried_without
from strongroom.attacks.summary import PEOPLE_TEST, acted_out, by_capacity, independent, signals, totals
from strongroom.cli.files import json_option, require_new
from strongroom.cli.output import end, show, table
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock
from strongroom.core.errors import ExitCode, UsageError
from strongroom.framework.catalogue import load

SEEN: Final = MappingProxyType(
    {
        "alert": "raised an alert",
        "log": "stand in the log",
        "program-log": "in a program's log only",
        "finding": "told to who met it",
    }
)
"""Kind of signal -> how the summary calls it."""
__all__ = ["acts", "attack"]
_only = click.option("--only", "only", multiple=True, metavar="ID", help="This attack alone. Repeatable.")


@click.group("attack")
def attack() -> None:
    """Attack a scratch copy of a deployment for real, and see what stopped each attack and what showed it."""


@attack.command("ls")
@_only
@json_option
def ls(only: tuple[str, ...], *, as_json: bool) -> None:
    """List the attacks: RAND's vectors, the lowest class of attacker that could, the layer that should stop it."""
    attacks = chosen(only)
    told: list[Json] = [_listed(one) for one in attacks]
    rows = [(one.id, one.capacity.value, one.layer.value, " ".join(one.vectors), one.title) for one in attacks]
    show({"attacks": told}, table(rows, ("attack", "from", "layer", "vectors", "what is tried")), as_json=as_json)


@attack.command("run")
@_only
@click.option("--layers", is_flag=True, help="Then turn each layer off in turn, and try again what it stopped.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the run as JSON into a file that isn't there."
)
@click.option(
    "--deployment",
    "home",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Attack this running deployment instead, from outside: nobody's keys are used and nothing is changed.",
)
@click.option("--port", type=click.IntRange(1, 65535), help="With --deployment: the port of its broker.")
@click.option("--i-consent", is_flag=True, help="With --deployment: you may decide this for it.")
@json_option
def run_suite(
    only: tuple[str, ...],
    *,
    layers: bool,
    out: Path | None,
    home: Path | None,
    port: int | None,
    i_consent: bool,
    as_json: bool,
) -> None:
    """Carry out the attacks. Exit code 1: one was not blocked, or broke.

    Each shows first that the honest act works by the same way. By default all of it happens in a deployment that is
    made for it in a temporary folder: random bytes as weights, people who exist for a few minutes, real processes.
    """
    if out is not None:
        require_new(out)
        if not out.parent.is_dir():
            raise UsageError(f"there is no folder `{out.parent}`")
    live = _live(home, port, consent=i_consent, layers=layers)
    # Named ones are never left out in silence: the suite refuses what isn't tried on a running deployment.
    attacks = [one for one in chosen(only) if only or live is None or one.outside]
    began = time.monotonic()
    clock = SystemClock()
    with _cleared_away():
        results = run(attacks, live=live, progress=lambda result: None if as_json else click.echo(_line(result)))
        trials = _trials(attacks, as_json=as_json) if layers else ()
    made = AttackRun(at=clock.now(), version=__version__, live=live is not None, results=results, trials=trials)
    if out is not None:
        with out.open("xb") as file:
            file.write(made.to_bytes())
    show(made.to_json(), _summary(made, time.monotonic() - began), as_json=as_json)
    if any(one.outcome in {Outcome.UNBLOCKED, Outcome.BROKEN} for one in results):
        end(ExitCode.FAILED)


@contextmanager
def _cleared_away() -> Iterator[None]:
    """Have a polite end of this process clear the scratch copies away, as an interrupt does."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _live(home: Path | None, port: int | None, *, consent: bool, layers: bool) -> Target | None:
    if home is None:
        if port is not None or consent:
            raise UsageError("there is no deployment named", remedy="give --deployment")
        return None
    if not consent:
        raise UsageError(
            f"`{home}` is somebody's deployment, and attacking it wasn't agreed to",
            remedy="leave --deployment out to attack a scratch copy, or give --i-consent if you may decide that",
        )
    if port is None or layers:
        raise UsageError("a running deployment is attacked at its broker's port, with all its layers", remedy="--port")
    return Target(home, port)


def _trials(attacks: list[Attack], *, as_json: bool) -> tuple[LayerTrial, ...]:
    trials = []
    for layer in SWITCHES:
        if tried_without(layer, attacks):
            if not as_json:
                click.echo(f"without {layer.value}:")
            try:
                trials.append(
                    layer_trial(
                        layer,
                        attacks,
                        progress=lambda result: None if as_json else click.echo(f"  {_line(result)}"),
                    )
                )
            except SetupError as error:
                click.echo(f"  nothing is said of {layer.value}: {error}", err=True)
                # Left out, it would look as if nothing depended on it.
                trials.append(LayerTrial(layer=layer.value, stopped=(), passed=()))
    return tuple(trials)


def _listed(one: Attack) -> Json:
    return {
        "attack": one.id,
        "capacity": one.capacity.value,
        "layer": one.layer.value,
        "measures": [*one.measures],
        "outside": one.outside,
        "refusals": [*sorted(one.refusals)],
        "title": one.title,
        "vectors": [*one.vectors],
    }


def _line(one: AttackResult) -> str:
    said = one.refusal or one.detail
    shown = f"  [{one.signal}]" if one.signal else ""
    return f"{one.outcome.value:9}  {one.attack:44}  {said[:160]}  {one.micros} us{shown}"


def _summary(made: AttackRun, seconds: float) -> list[str]:
    catalogue = load()
    counted, acted = totals(made.results), acted_out(made.results, catalogue)
    lines = [
        "",
        f"{counted.executed} attacks in {seconds:.0f} s: {counted.blocked} blocked, {counted.detected} detected",
        "  of those: " + ", ".join(f"{count} {SEEN[kind]}" for kind, count in signals(made.results).items()),
        f"{counted.unblocked} not blocked, {counted.unseen} neither blocked nor detected",
        f"{counted.broken} broken, {counted.not_run} not run",
        f"{len(acted)} of {len(catalogue.vectors)} of RAND's attack vectors acted out",
        *(
            f"  within reach of {faced.capacity.value}: {faced.executed} attacks, {faced.blocked} blocked"
            for faced in by_capacity(made.results)
        ),
    ]
    for trial in made.trials:
        stopped, passed = len(trial.stopped), len(trial.passed)
        through = f"; through: {', '.join(trial.passed)}" if trial.passed else ""
        lines.append(f"  without {trial.layer}: others stop {stopped} of {stopped + passed}{through}")
    if made.trials:
        lines.append(
            f"{len(independent(made))} of {len(made.trials)} layers stop nothing that another doesn't stop too"
        )
    if len(made.results) > 1 and not made.live:
        lines.append("what people must test, because software can't act it out:")
        lines += [f"  {vector}  {text}" for vector, text in PEOPLE_TEST.items() if vector not in acted]
    return lines
