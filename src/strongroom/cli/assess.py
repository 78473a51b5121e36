"""``strongroom assess``: which RAND Security Level a deployment holds, from live observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import click

from strongroom.assurance.assessment import ASSESSMENT_TYPE, Assessment
from strongroom.assurance.errors import BelowLevelError
from strongroom.assurance.notice import NOTICE_TYPE, AssessmentNotice
from strongroom.assurance.plan import SecurityPlan
from strongroom.assurance.reports.forms import FORMS
from strongroom.cli.asking import seconds
from strongroom.cli.assess_looking import FILE, FOLDER, Looking, Places, places_options
from strongroom.cli.assess_reports import wanted, write_reports
from strongroom.cli.assess_show import against_plan, drift, lines
from strongroom.cli.assess_watch import newest_before, tell_or_print, watch
from strongroom.cli.files import json_option
from strongroom.cli.grouped import grouped
from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import refuse, show
from strongroom.cli.session import as_wallet, passphrase_option, session, write_file
from strongroom.cli.stopping import Stopping
from strongroom.client.service import Session
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.envelope import sign
from strongroom.core.errors import ExitCode, UsageError
from strongroom.core.signature import Signer
from strongroom.framework.catalogue import Catalogue, load
from strongroom.framework.levels import SecurityLevel
from strongroom.release.statements import StatementKind

_FLOORS: Final = click.Choice([level.value for level in SecurityLevel if level is not SecurityLevel.SL5])
_NAME: Final = "assessment"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """What is made of one assessment."""

    fail_under: str | None
    out: str
    folder: Path
    against: Path | None
    record: bool
    everything: bool


_result_options: Final = grouped(
    _Result,
    "result",
    click.option("--fail-under", type=_FLOORS, help="Exit code 3 if a lower level is held."),
    click.option("--out", default="", help=f"Also write reports: any of {', '.join(FORMS)}, with commas."),
    click.option("--to", "folder", type=FOLDER, default=Path(), help="Where they are written."),
    click.option("--against", type=FILE, help="An earlier assessment: say what changed since."),
    click.option("--record", is_flag=True, help="Sign the assessment, write it out, and have the log name it."),
    click.option("--all", "everything", is_flag=True, help="List every gap up to the level."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watching:
    """Whether and how it goes on."""

    newest: Path | None
    every: str
    tell: Path | None


_watch_options: Final = grouped(
    _Watching,
    "watching",
    click.option(
        "--watch", "newest", type=FILE, help="Go on until interrupted, and tell what is lost; FILE keeps the newest."
    ),
    click.option("--every", default="15m", show_default=True, help="With --watch: how often."),
    click.option(
        "--tell", type=FILE, help="With --watch: also the responder's socket for a sensor of kind `strongroom`."
    ),
)


class _Commands(LazyGroup):
    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "plan": ("assess_plan", "plan", "Draft, sign and show the security plan."),
        "report": ("assess_report", "report", "Write reports of an assessment that was kept."),
        "statement": ("assess_statement", "statement", "Attest what software can't see."),
        "verify": ("assess_verify", "verify", "Judge an assessment again from its own observations."),
    }


@click.group("assess", cls=_Commands, invoke_without_command=True)
@places_options
@_result_options
@_watch_options
@as_wallet
@passphrase_option
@json_option
@click.pass_context
def assess(
    context: click.Context,
    *,
    places: Places,
    result: _Result,
    watching: _Watching,
    wallet: Path,
    passphrase_fd: int | None,
    as_json: bool,
) -> None:
    """Say which RAND Security Level the deployment holds, what keeps it from more, and the cheapest next step.

    Everything rests on observations made now, or on statements that named people signed. What wasn't seen is never
    taken for good: without --home, --sealed and the rest, what they would show counts as not assessed.
    """
    if context.invoked_subcommand is not None:
        return
    names, catalogue = wanted(result.out), load()
    if watching.newest is not None and (
        result.record or result.out or result.against is not None or result.fail_under or as_json
    ):
        raise UsageError("`--watch` goes with none of --record, --out, --against, --fail-under and --json")
    looking = places.looking(catalogue, wallet)
    with session(wallet, passphrase_fd) as person:
        if watching.newest is not None:
            _watch(watching, watching.newest, looking, person)
            return
        made, data, text = _assessed(result, names, looking, person)
    show(data, text, as_json=as_json)
    _floor(made, result.fail_under, as_json=as_json)


def _watch(watching: _Watching, newest: Path, looking: Looking, person: Session) -> None:
    began = newest_before(newest, person.wallet.genesis().digest)
    with Stopping() as stopping:
        told, pause = tell_or_print(watching.tell), seconds(watching.every)
        watch(
            lambda: looking.look(person)[0],
            newest,
            began,
            looking.catalogue,
            person.clock,
            told,
            every=pause,
            stopping=stopping,
        )


def _assessed(
    result: _Result, names: tuple[str, ...], looking: Looking, person: Session
) -> tuple[Assessment, dict[str, Json], list[str]]:
    """Look, and do with it what was asked; returns the assessment, and what is told of it."""
    against, catalogue = result.against, looking.catalogue
    before = None if against is None else newest_before(against, person.wallet.genesis().digest)
    made, plan, refused = looking.look(person)
    written = write_reports(names, made, catalogue, result.folder)
    index = _record(made, person, result.folder) if result.record else None
    data: dict[str, Json] = {
        "assessment": made.to_json(),
        "digest": str(made.digest),
        "log_index": index,
        "written": [str(path) for path in written],
        "statements_refused": [*refused],
    }
    notes = _notes(made, catalogue, plan, before, refused, index)
    return made, data, [*lines(made, catalogue, everything=result.everything), *notes]


def _record(made: Assessment, person: Session, folder: Path) -> int:
    signer: Signer = person.wallet.signer()
    # First the assessment, then its digest in the log: a digest of something that was lost proves nothing.
    write_file(folder / f"{_NAME}.json", made.to_bytes())
    write_file(folder / f"{_NAME}.dsse.json", sign(ASSESSMENT_TYPE, made.to_bytes(), signer).to_bytes())
    notice = AssessmentNotice(
        genesis=made.genesis,
        assessment=made.digest,
        held=0 if made.held is None else made.held.rank,
        goal=made.goal,
        at=made.at,
    )
    return person.api.hand_in(StatementKind.ASSESSMENT, sign(NOTICE_TYPE, notice.to_bytes(), signer)).index


def _notes(
    made: Assessment,
    catalogue: Catalogue,
    plan: SecurityPlan | None,
    before: Assessment | None,
    refused: tuple[str, ...],
    index: int | None,
) -> list[str]:
    notes = [f"STATEMENT REFUSED  {text}" for text in refused]
    if plan is not None:
        notes += [f"PLAN     {text}" for text in against_plan(plan, made, catalogue)]
    if before is not None:
        changed = [*drift(before, made)]
        notes += [f"CHANGED  {text}" for text in changed] or [f"nothing changed since {format_instant(before.at)}"]
    if index is not None:
        notes.append(f"recorded: log entry {index} names {made.digest}")
    return ["", *notes] if notes else []


def _floor(made: Assessment, floor: str | None, *, as_json: bool) -> None:
    rank = 0 if made.held is None else made.held.rank
    if floor is None or rank >= SecurityLevel(floor).rank:
        return
    error = BelowLevelError(f"the deployment holds {made.held or 'no level'}; `{floor}` was asked for")
    if as_json:
        raise SystemExit(int(ExitCode.DENIED))
    refuse(error, as_json=False)
