"""``strongroom assess``: which RAND Security Level a deployment holds, from live observations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import click

import strongroom
from strongroom.assessor.collecting import Look
from strongroom.assessor.logged import LogFold
from strongroom.assessor.wiring import BrokerPlace, Known, Scope, assess_deployment, know
from strongroom.assurance.assessment import ASSESSMENT_TYPE, MAX_ASSESSMENT, Assessment
from strongroom.assurance.attack_results import AttackRun
from strongroom.assurance.errors import BelowLevelError
from strongroom.assurance.notice import NOTICE_TYPE, AssessmentNotice
from strongroom.assurance.plan import SecurityPlan
from strongroom.assurance.reports.forms import FORMS
from strongroom.assurance.statements import Attested
from strongroom.assurance.thresholds import Thresholds
from strongroom.cli.asking import seconds
from strongroom.cli.assess_files import read_plan, read_statements
from strongroom.cli.assess_home import (
    Installation,
    RegisterPlace,
    ResponderPlace,
    home_looks,
    register_look,
    responder_look,
    self_look,
)
from strongroom.cli.assess_reports import wanted, write_reports
from strongroom.cli.assess_show import against_plan, drift, lines
from strongroom.cli.assess_watch import newest_before, tell_or_print, watch
from strongroom.cli.files import json_option
from strongroom.cli.lazy import LazyGroup
from strongroom.cli.output import refuse, show
from strongroom.cli.session import as_wallet, open_wallet, passphrase_option, read_file, session, write_file
from strongroom.cli.stopping import Stopping
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.service import Session
from strongroom.client.wallet import WalletError
from strongroom.core.canonical import Json
from strongroom.core.clock import format_instant
from strongroom.core.envelope import sign
from strongroom.core.errors import ExitCode, UsageError
from strongroom.core.signature import Signer
from strongroom.framework.catalogue import Catalogue, load
from strongroom.framework.levels import SecurityLevel
from strongroom.release.statements import StatementKind

_LEVELS: Final = click.Choice([level.value for level in SecurityLevel], case_sensitive=False)
_FLOORS: Final = click.Choice([level.value for level in SecurityLevel if level is not SecurityLevel.SL5])
_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_NAME: Final = "assessment"


_Made = tuple[Assessment, SecurityPlan | None, tuple[str, ...]]
"""An assessment, the plan that it is compared with, and which statements were refused."""


class _Commands(LazyGroup):
    commands_of: ClassVar[Mapping[str, tuple[str, str, str]]] = {
        "plan": ("assess_plan", "plan", "Draft, sign and show the security plan."),
        "report": ("assess_report", "report", "Write reports of an assessment that was kept."),
        "statement": ("assess_statement", "statement", "Attest what software can't see."),
        "verify": ("assess_verify", "verify", "Judge an assessment again from its own observations."),
    }


@click.group("assess", cls=_Commands, invoke_without_command=True)
@click.option("--level", "goal", type=_LEVELS, default="SL3", show_default=True, help="The level that is aimed at.")
@click.option("--fail-under", type=_FLOORS, help="Exit code 3 if a lower level is held.")
@click.option("--home", type=_FOLDER, help="The deployment's folder, if it is on this machine: its host is looked at.")
@click.option("--sealed", type=_FOLDER, multiple=True, help="A sealed directory; repeat it for every copy.")
@click.option("--search", type=_FOLDER, multiple=True, help="A folder to search for weights in the clear; repeat it.")
@click.option("--statements", type=_FOLDER, help="A folder with signed statements.")
@click.option("--plan", "plan_file", type=_FILE, help="The signed security plan.")
@click.option("--attacks", type=_FILE, help="The attack suite's report, as JSON.")
@click.option("--thresholds", type=_FILE, help="Stricter figures than the default ones, as JSON.")
@click.option("--responder", type=_FILE, help="The settings of the responder that guards this machine.")
@click.option("--responder-state", type=_FOLDER, help="Its folder.")
@click.option("--register", type=_FOLDER, help="The folder of the register of copies.")
@click.option("--registrar", help="Its registrar's key, or a file with it.")
@click.option("--provenance", type=_FILE, help="The installation's signed provenance.")
@click.option("--key", help="The key that signed it, or a file with it.")
@click.option("--sbom", type=_FILE, help="The bill of materials that it names.")
@click.option("--out", default="", help=f"Also write reports: any of {', '.join(FORMS)}, with commas.")
@click.option("--to", "folder", type=_FOLDER, default=Path(), help="Where they are written.")
@click.option("--against", type=_FILE, help="An earlier assessment: say what changed since.")
@click.option("--record", is_flag=True, help="Sign the assessment, write it out, and have the log name it.")
@click.option(
    "--watch", "newest", type=_FILE, help="Go on until interrupted, and tell what is lost; FILE keeps the newest."
)
@click.option("--every", default="15m", show_default=True, help="With --watch: how often.")
@click.option("--tell", type=_FILE, help="With --watch: also the responder's socket for a sensor of kind `strongroom`.")
@click.option("--all", "everything", is_flag=True, help="List every gap up to the level.")
@as_wallet
@passphrase_option
@json_option
@click.pass_context
def assess(
    context: click.Context,
    *,
    goal: str,
    fail_under: str | None,
    home: Path | None,
    sealed: tuple[Path, ...],
    search: tuple[Path, ...],
    statements: Path | None,
    plan_file: Path | None,
    attacks: Path | None,
    thresholds: Path | None,
    responder: Path | None,
    responder_state: Path | None,
    register: Path | None,
    registrar: str | None,
    provenance: Path | None,
    key: str | None,
    sbom: Path | None,
    out: str,
    folder: Path,
    against: Path | None,
    record: bool,
    newest: Path | None,
    every: str,
    tell: Path | None,
    everything: bool,
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
    names, catalogue = wanted(out), load()
    if newest is not None and (record or out or against is not None or fail_under or as_json):
        raise UsageError("`--watch` goes with none of --record, --out, --against, --fail-under and --json")
    looking = _Looking(
        catalogue=catalogue,
        goal=SecurityLevel(goal.upper()),
        limits=Thresholds() if thresholds is None else Thresholds.parse(read_file(thresholds, most=8192)),
        home=home,
        sealed=sealed,
        searched=search,
        statements=statements,
        plan=plan_file,
        attacks=None if attacks is None else AttackRun.parse(read_file(attacks, most=MAX_ASSESSMENT)),
        installation=Installation(provenance=provenance, key=key, bill=sbom),
        responder=ResponderPlace(settings=responder, state=responder_state),
        copies=RegisterPlace(folder=register, key=registrar),
        broker=_broker(open_wallet(wallet)),
    )
    with session(wallet, passphrase_fd) as person:
        genesis = person.wallet.genesis().digest
        if newest is not None:
            began = newest_before(newest, genesis)
            with Stopping() as stopping:
                told, pause = tell_or_print(tell), seconds(every)
                watch(
                    lambda: looking.look(person)[0],
                    newest,
                    began,
                    catalogue,
                    person.clock,
                    told,
                    every=pause,
                    stopping=stopping,
                )
            return
        before = None if against is None else newest_before(against, genesis)
        made, plan, refused = looking.look(person)
        written = write_reports(names, made, catalogue, folder)
        index = _record(made, person, folder) if record else None
    data: dict[str, Json] = {
        "assessment": made.to_json(),
        "digest": str(made.digest),
        "log_index": index,
        "written": [str(path) for path in written],
        "statements_refused": [*refused],
    }
    text = [*lines(made, catalogue, everything=everything), *_notes(made, catalogue, plan, before, refused, index)]
    show(data, text, as_json=as_json)
    _floor(made, fail_under, as_json=as_json)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Looking:
    """What is looked at, and what it is judged by: the same at each look."""

    catalogue: Catalogue
    goal: SecurityLevel
    limits: Thresholds
    home: Path | None
    sealed: tuple[Path, ...]
    searched: tuple[Path, ...]
    statements: Path | None
    plan: Path | None
    attacks: AttackRun | None
    installation: Installation
    responder: ResponderPlace
    copies: RegisterPlace
    broker: BrokerPlace | None

    def look(self, person: Session) -> _Made:
        """Look at everything now, and judge it."""
        known = know(person)
        words, refused = _statements(self.statements, person, known)
        plan = _plan(self.plan, person, known)
        scope = Scope(
            broker=self.broker,
            home=self.home,
            sealed=self.sealed,
            searched=self.searched,
            more=lambda log: self._beside(person, known, log),
            plan=plan,
            attacks=self.attacks,
        )
        made = assess_deployment(
            person,
            known,
            scope,
            words,
            self.catalogue,
            goal=self.goal,
            limits=self.limits,
            version=strongroom.__version__,
        )
        return made, plan, refused

    def _beside(self, person: Session, known: Known, log: LogFold) -> Iterator[Look]:
        genesis = known.trust.genesis
        yield self_look(self.installation)
        yield responder_look(self.responder, genesis, known.trust.roster, log.silent)
        yield register_look(self.copies, genesis.digest, self.sealed, person.clock.now())
        if self.home is not None:
            yield from home_looks(self.home)


def _broker(wallet: WalletFolder) -> BrokerPlace | None:
    try:
        return BrokerPlace(wallet.identity.url, *wallet.tls_files())
    except WalletError:
        return None


def _statements(folder: Path | None, person: Session, known: Known) -> tuple[tuple[Attested, ...], tuple[str, ...]]:
    if folder is None:
        return (), ()
    now = person.clock.now()
    return read_statements(folder, known.attestors(now), genesis=known.trust.genesis.digest, now=now)


def _plan(path: Path | None, person: Session, known: Known) -> SecurityPlan | None:
    if path is None:
        return None
    return read_plan(path, known.attestors(person.clock.now()), genesis=known.trust.genesis.digest)


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
