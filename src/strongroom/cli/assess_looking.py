"""What ``assess`` looks at, as its options name it, and the look itself: the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

import strongroom
from strongroom.assessor.collecting import Look
from strongroom.assessor.logged import LogFold
from strongroom.assessor.wiring import BrokerPlace, Known, Scope, assess_deployment, know
from strongroom.assurance.assessment import MAX_ASSESSMENT, Assessment
from strongroom.assurance.attack_results import AttackRun
from strongroom.assurance.plan import SecurityPlan
from strongroom.assurance.statements import Attested
from strongroom.assurance.thresholds import Thresholds
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
from strongroom.cli.grouped import grouped
from strongroom.cli.session import open_wallet, read_file
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.service import Session
from strongroom.client.wallet import WalletError
from strongroom.framework.catalogue import Catalogue
from strongroom.framework.levels import SecurityLevel

FILE: Final = click.Path(path_type=Path, dir_okay=False)
FOLDER: Final = click.Path(path_type=Path, file_okay=False, exists=True)
_LEVELS: Final = click.Choice([level.value for level in SecurityLevel], case_sensitive=False)

Made = tuple[Assessment, SecurityPlan | None, tuple[str, ...]]
"""An assessment, the plan that it is compared with, and which statements were refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where to look and what to judge by, as the command line names them. None: it isn't looked at."""

    goal: str
    home: Path | None
    sealed: tuple[Path, ...]
    search: tuple[Path, ...]
    statements: Path | None
    plan_file: Path | None
    attacks: Path | None
    thresholds: Path | None
    responder: Path | None
    responder_state: Path | None
    register: Path | None
    registrar: str | None
    provenance: Path | None
    key: str | None
    sbom: Path | None

    def looking(self, catalogue: Catalogue, wallet: Path) -> Looking:
        """Read what is read once: the figures, the attack suite's report, and where the broker is."""
        limits, attacks = self.thresholds, self.attacks
        return Looking(
            catalogue=catalogue,
            goal=SecurityLevel(self.goal.upper()),
            limits=Thresholds() if limits is None else Thresholds.parse(read_file(limits, most=8192)),
            home=self.home,
            sealed=self.sealed,
            searched=self.search,
            statements=self.statements,
            plan=self.plan_file,
            attacks=None if attacks is None else AttackRun.parse(read_file(attacks, most=MAX_ASSESSMENT)),
            installation=Installation(provenance=self.provenance, key=self.key, bill=self.sbom),
            responder=ResponderPlace(settings=self.responder, state=self.responder_state),
            copies=RegisterPlace(folder=self.register, key=self.registrar),
            broker=_broker(open_wallet(wallet)),
        )


places_options: Final = grouped(
    Places,
    "places",
    click.option("--level", "goal", type=_LEVELS, default="SL3", show_default=True, help="The level that is aimed at."),
    click.option(
        "--home", type=FOLDER, help="The deployment's folder, if it is on this machine: its host is looked at."
    ),
    click.option("--sealed", type=FOLDER, multiple=True, help="A sealed directory; repeat it for every copy."),
    click.option(
        "--search", type=FOLDER, multiple=True, help="A folder to search for weights in the clear; repeat it."
    ),
    click.option("--statements", type=FOLDER, help="A folder with signed statements."),
    click.option("--plan", "plan_file", type=FILE, help="The signed security plan."),
    click.option("--attacks", type=FILE, help="The attack suite's report, as JSON."),
    click.option("--thresholds", type=FILE, help="Stricter figures than the default ones, as JSON."),
    click.option("--responder", type=FILE, help="The settings of the responder that guards this machine."),
    click.option("--responder-state", type=FOLDER, help="Its folder."),
    click.option("--register", type=FOLDER, help="The folder of the register of copies."),
    click.option("--registrar", help="Its registrar's key, or a file with it."),
    click.option("--provenance", type=FILE, help="The installation's signed provenance."),
    click.option("--key", help="The key that signed it, or a file with it."),
    click.option("--sbom", type=FILE, help="The bill of materials that it names."),
)
"""Adds the options that say where to look; passed as ``places``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
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

    def look(self, person: Session) -> Made:
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
