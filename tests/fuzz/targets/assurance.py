"""Targets of assessment: statements, notices, plans, thresholds, reports of attacks, and assessments judged again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, Protocol

from fuzz.targets.target import Target
from strongroom.assurance.assessment import Assessment, assess
from strongroom.assurance.attack_results import AttackRun
from strongroom.assurance.notice import AssessmentNotice
from strongroom.assurance.plan import Actor, Asset, SecurityPlan, Task
from strongroom.assurance.reports.forms import FORMS
from strongroom.assurance.statements import Claim, Statement
from strongroom.assurance.thresholds import Thresholds
from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.ids import PersonId
from strongroom.framework.catalogue import load
from strongroom.framework.ids import MeasureId
from strongroom.framework.levels import OperationalCapacity, SecurityLevel
from support.assessing import GENESIS, MODEL, NOW, plan, statement, suite


class _Written(Protocol):
    def to_bytes(self) -> bytes: ...


def _same(read: Callable[[bytes], _Written]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        if read(data).to_bytes() != data:
            raise AssertionError

    return target


def _judged_again(data: bytes) -> None:
    made = Assessment.parse(data)
    if Assessment.parse(made.to_bytes()) != made:
        raise AssertionError
    made.check(load())
    for report in FORMS.values():
        report.writer()(made, load())


def _assessment() -> tuple[bytes, ...]:
    words = (statement(MeasureId("SL1-STC-01")), statement(MeasureId("SL3-WST-02"), Claim.NOT_APPLICABLE))
    made = assess(
        (),
        words,
        load(),
        genesis=GENESIS,
        deployment="test",
        goal=SecurityLevel.SL3,
        limits=Thresholds(),
        version="1",
        now=NOW,
        attacks=suite(),
    )
    return (made.to_bytes(),)


def _statement() -> tuple[bytes, ...]:
    said: Statement = statement(MeasureId("SL1-STC-01")).statement
    return (said.to_bytes(),)


def _plan() -> tuple[bytes, ...]:
    task = Task(measure=MeasureId("SL1-STC-01"), owner=PersonId("sam"), due=NOW, effort=3)
    actor = Actor(capacity=OperationalCapacity.OC2, who="thieves")
    return (replace(plan(), tasks=(task,), actors=(actor,), assets=(Asset(model=MODEL, why="it is ours"),)).to_bytes(),)


def _notice() -> tuple[bytes, ...]:
    made = AssessmentNotice(genesis=GENESIS, assessment=Digest.of(b"a"), held=2, goal=SecurityLevel.SL3, at=NOW)
    return (made.to_bytes(),)


ASSURANCE: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "assessment": Target(read=_judged_again, seeds=_assessment, changes=60),
        "assessment-notice": Target(read=_same(AssessmentNotice.parse), seeds=_notice),
        "assurance-statement": Target(read=_same(Statement.parse), seeds=_statement),
        "security-plan": Target(read=_same(SecurityPlan.parse), seeds=_plan),
        "attack-run": Target(read=AttackRun.parse, seeds=lambda: (suite().to_bytes(),)),
        "thresholds": Target(read=Thresholds.parse, seeds=lambda: (encode(Thresholds().to_json()),)),
    }
)
