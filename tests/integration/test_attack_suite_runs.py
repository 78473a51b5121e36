"""The suite against real processes: what is blocked, what it leaves behind, and what it may be pointed at."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from strongroom.assurance.attack_results import AttackRun, Outcome
from strongroom.attacks.attack import registered
from strongroom.attacks.lab.callers import Caller
from strongroom.attacks.lab.lab import Lab, open_lab
from strongroom.attacks.summary import acted_out, totals
from strongroom.cli.main import main
from strongroom.framework.catalogue import load
from support.forked_lab import forked_processes

pytestmark = pytest.mark.integration
SAMPLE = (
    "nobody-agreed",
    "approval-by-a-stolen-key-slipped-past-the-log",
    "thiefs-recipient-key",
    "one-root-holder-loosens-the-policy",
    "changed-weights",
    "log-rewritten-with-its-own-key",
)


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["attack", *arguments])


def only(*names: str) -> list[str]:
    return [word for name in names for word in ("--only", name)]


@pytest.fixture(scope="module", autouse=True)
def forking() -> Iterator[None]:
    with forked_processes():
        yield


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_lab() as made:
        assert made.scratch.serves
        yield made


def test_attacks_are_blocked_and_leave_traces(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    told = typed("run", *only(*SAMPLE), "--out", str(out), "--json")
    assert told.exit_code == 0, told.output
    made = AttackRun.parse(out.read_bytes())
    assert json.loads(told.stdout) == json.loads(out.read_bytes())
    assert [one.attack for one in made.results] == [one.id for one in registered() if one.id in SAMPLE]
    assert {one.outcome for one in made.results} == {Outcome.BLOCKED}
    assert not made.live
    signals = {one.attack: one.signal.partition(":")[0] for one in made.results}
    assert signals["nobody-agreed"] == "log"
    assert signals["thiefs-recipient-key"] == "program-log"
    assert signals["log-rewritten-with-its-own-key"] == "finding"
    assert all(one.micros > 0 for one in made.results)
    # A file that is there is never written over, and nothing is attacked for it.
    again = typed("run", *only(*SAMPLE), "--out", str(out))
    assert (again.exit_code, "is there already" in again.output) == (9, True)


def test_a_running_deployment_is_attacked_with_consent_only(lab: Lab) -> None:
    home, port = str(lab.scratch.home), str(lab.scratch.port)
    before = lab.scratch.head().size
    for refused in (("--deployment", home, "--port", port), ("--port", port), ("--i-consent",)):
        told = typed("run", *refused)
        assert told.exit_code == 2, told.output
    assert typed("run", "--deployment", home, "--i-consent").exit_code == 2
    # An attack that uses people's keys isn't left out in silence, and another port isn't attacked for this deployment.
    told = typed("run", *only("nobody-agreed"), "--deployment", home, "--port", port, "--i-consent")
    assert (told.exit_code, "scratch copy only" in told.output) == (2, True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        elsewhere = str(other.getsockname()[1])
        told = typed("run", *only("no-certificate"), "--deployment", home, "--port", elsewhere, "--i-consent")
    assert (told.exit_code, "broken" in told.output) == (1, True)
    told = typed("run", "--deployment", home, "--port", port, "--i-consent", "--json")
    assert told.exit_code == 0, told.output
    made = AttackRun.parse(told.stdout.encode())
    assert made.live
    assert {one.attack for one in made.results} == {one.id for one in registered() if one.outside}
    assert {one.outcome for one in made.results} <= {Outcome.BLOCKED, Outcome.NOT_RUN}
    assert lab.scratch.head().size == before


def test_a_server_that_is_gone_refuses_nothing() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        Caller(port, ssl.create_default_context()).get("/")


def test_nothing_is_left_behind() -> None:
    with open_lab() as made:
        made.scratch.exported()
        folder = made.scratch.folder
        pids = [made.scratch.processes.pid(name) for name in ("log", "keeper", "broker")]
    assert not folder.parent.exists()
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.heavy
def test_the_whole_suite_blocks_everything() -> None:
    told = typed("run", "--json")
    made = AttackRun.parse(told.stdout.encode())
    unblocked = [(one.attack, one.detail) for one in made.results if one.outcome in {Outcome.UNBLOCKED, Outcome.BROKEN}]
    assert unblocked == []
    counted = totals(made.results)
    assert counted.unseen == 0
    assert counted.executed >= 60 or counted.not_run
    assert len(acted_out(made.results, load())) >= 24
