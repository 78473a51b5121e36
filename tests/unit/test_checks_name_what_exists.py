"""What checks and findings tell people to do exists: commands, collectors, measures; and they are told it in words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from architecture.test_docs_commands_exist import complaint
from strongroom.assessor.adapters.host import Host
from strongroom.assessor.adapters.host_looks import host_looks
from strongroom.assessor.collecting import COLLECTORS
from strongroom.assurance.checks.every import CHECKS
from strongroom.assurance.judging import judge
from strongroom.assurance.thresholds import Thresholds
from strongroom.framework.catalogue import load
from strongroom.framework.measures import Automation
from support.assessing import World

SOURCES = Path(__file__).resolve().parents[2] / "src" / "strongroom" / "assurance"


@pytest.mark.parametrize("measure", sorted(CHECKS))
def test_a_checks_command_exists(measure: str) -> None:
    check = next(one for one in CHECKS.values() if one.measure == measure)
    assert check.step
    assert not check.command or not complaint(check.command), complaint(check.command)


def test_each_step_of_an_assessment_without_looks_exists() -> None:
    found = judge((), (), load(), limits=Thresholds(), now=0)
    for finding in found.values():
        assert finding.step is not None
        assert not finding.step.command or not complaint(finding.step.command), finding.step.command


def test_checks_are_of_measures_that_software_can_see() -> None:
    for measure in CHECKS:
        assert set(load().measures[measure].automation) != {Automation.ATTEST}, measure


def test_every_collector_is_asked_and_every_one_that_is_asked_exists(tmp_path: Path) -> None:
    asked = set()
    for path in (SOURCES / "checks").glob("*.py"):
        asked |= set(re.findall(r'"((?:[a-z]+\.)[a-z]+)"', path.read_text()))
    assert asked == COLLECTORS.keys()
    assert {one.collector for one in World(tmp_path).observations()} == COLLECTORS.keys()


def test_a_host_that_shows_nothing_is_not_seen(tmp_path: Path) -> None:
    host = Host(
        name="bare", root=tmp_path, home=tmp_path, device="0:0", owner=0, run=lambda _command: None, clock=lambda: None
    )
    seen = {one.collector: one for one in host_looks(host)}
    for collector in ("host.accounts", "host.cpu", "host.disk", "host.firewall", "host.listeners", "host.memory"):
        assert seen[collector].facts is None
        assert seen[collector].missing
