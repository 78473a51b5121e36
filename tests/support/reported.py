"""An assessment with something in every part of a report."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from strongroom.assurance.assessment import Assessment, assess
from strongroom.assurance.attack_results import AttackResult, LayerTrial, Outcome
from strongroom.assurance.statements import Claim, Document
from strongroom.core.digest import Digest
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from support.assessing import GENESIS, NOW, World, statement, suite, words

OUTCOMES = tuple(Outcome)


def attacks() -> tuple[AttackResult, ...]:
    """Return an attack along each vector, ended in each way."""
    return tuple(
        AttackResult(
            attack=f"attack-{number}",
            title="somebody approves a request of their own with a second key",
            vectors=(vector,),
            capacity=OperationalCapacity.OC2,
            outcome=OUTCOMES[number % len(OUTCOMES)],
            refusal="own-request" if number % len(OUTCOMES) == 0 else "",
            detected=number % 2 == 0,
            signal="release:request:refused" if number % 2 == 0 else "",
            measures=(MeasureId("SL3-WAC-01"),),
            layers=("keeper",),
            micros=12_345,
            detail="needs a TPM",
        )
        for number, vector in enumerate(load().vectors)
    )


@cache
def assessment() -> Assessment:
    """Return an honest assessment: some measures hold, some don't, some weren't seen, some people spoke of."""
    said = (
        *words(),
        statement(MeasureId("SL1-STC-01"), documents=(Document(name="policy.pdf", digest=Digest.of(b"policy")),)),
        statement(MeasureId("SL1-WST-01"), Claim.NOT_APPLICABLE),
        statement(MeasureId("SL1-NAC-03"), Claim.ALTERNATIVE),
    )
    run = replace(suite(), results=attacks(), trials=(LayerTrial(layer="keeper", stopped=("a",), passed=("b",)),))
    with TemporaryDirectory() as folder:
        world = World(Path(folder) / "world")
        world.rules(hardware=False)
        del world.more["code.self"]
        seen = world.observations()
    return assess(
        seen,
        said,
        load(),
        genesis=GENESIS,
        deployment="vault.example",
        goal=SecurityLevel.SL3,
        limits=world.limits,
        version="0.1.0",
        now=NOW,
        log=(40, Digest.of(b"root")),
        attacks=run,
    )
