"""The doctor tries each protection, says what is lost without it and how to mend it, and fails when one is a must."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from strongroom.cli import doctor as command
from strongroom.enclave.adapters.host_facts import look
from strongroom.enclave.facts import FactState, Seen, judge

pytestmark = pytest.mark.integration

GOOD = Seen(
    kernel=(6, 18),
    python=(3, 12, 1),
    user_namespaces="",
    landlock_version=7,
    seccomp=True,
    secret_memory=True,
    deny_write_execute=True,
    locked_memory=None,
    swap=0,
    core_pattern="core",
    core_hard_limit=None,
    ptrace_scope=2,
    swap_excludable=True,
    tpm_device="/dev/tpmrm0",
    software_tpm="/usr/bin/swtpm",
    free_disk=1 << 40,
    free_memory=1 << 36,
    clock_synchronised=True,
    root=True,
)
# One change for the worse: the fact it spoils, how far, and whether nothing may run.
WORSE: list[tuple[dict[str, object], str, FactState, bool]] = [
    ({"user_namespaces": "Operation not permitted"}, "user namespaces", FactState.MISSING, True),
    ({"landlock_version": None}, "landlock", FactState.MISSING, True),
    ({"landlock_version": 2}, "landlock", FactState.MISSING, True),
    ({"landlock_version": 5}, "landlock", FactState.DEGRADED, False),
    ({"seccomp": False}, "seccomp", FactState.MISSING, True),
    ({"deny_write_execute": False}, "write or execute", FactState.MISSING, False),
    ({"kernel": (5, 10)}, "kernel", FactState.MISSING, True),
    ({"python": (3, 10, 9)}, "python", FactState.MISSING, True),
    ({"secret_memory": False}, "secret memory", FactState.DEGRADED, False),
    ({"locked_memory": 65536}, "locked memory", FactState.DEGRADED, False),
    ({"swap": 1 << 30, "swap_excludable": False}, "swap", FactState.DEGRADED, False),
    ({"core_pattern": "|/usr/lib/handler", "core_hard_limit": 0}, "core dumps", FactState.DEGRADED, False),
    ({"ptrace_scope": None}, "tracing", FactState.DEGRADED, False),
    ({"ptrace_scope": 0}, "tracing", FactState.DEGRADED, False),
    ({"tpm_device": ""}, "TPM", FactState.MISSING, False),
    ({"tpm_device": "[/dev/tpmrm0, not accessible]"}, "TPM", FactState.DEGRADED, False),
    ({"software_tpm": ""}, "software TPM", FactState.DEGRADED, False),
    ({"root": False}, "dedicated uid", FactState.DEGRADED, False),
    ({"free_disk": 1}, "free disk", FactState.DEGRADED, False),
    ({"free_memory": 1}, "free memory", FactState.DEGRADED, False),
    ({"clock_synchronised": None}, "clock", FactState.DEGRADED, False),
]


def test_a_good_host_has_nothing_to_mend() -> None:
    for fact in judge(GOOD):
        assert (fact.state, fact.lost, fact.mend) == (FactState.OK, "", ""), fact.name


@pytest.mark.parametrize(("change", "name", "state", "blocks"), WORSE, ids=lambda value: str(value)[:40])
def test_each_lack_is_told(change: dict[str, object], name: str, state: FactState, *, blocks: bool) -> None:
    facts = {fact.name: fact for fact in judge(dataclasses.replace(GOOD, **change))}  # type: ignore[arg-type]
    spoiled = [fact.name for fact in facts.values() if fact.state is not FactState.OK]
    assert spoiled == [name]
    assert facts[name].state is state
    assert facts[name].lost
    assert facts[name].mend
    assert facts[name].blocks is blocks


def test_every_fact_can_be_spoiled() -> None:
    assert {fact.name for fact in judge(GOOD)} == {name for _, name, _, _ in WORSE}


def test_this_host_is_read(tmp_path: Path) -> None:
    seen = look(tmp_path / "not" / "there" / "yet")
    assert seen.kernel >= (4, 0)
    assert seen.free_disk > 0
    assert seen.free_memory > 0
    assert seen.root is (os.geteuid() == 0)


def test_the_command_prints_json_and_a_table() -> None:
    ran = CliRunner().invoke(command.doctor, ["--json"])
    said = json.loads(ran.stdout)
    must = [fact for fact in said["facts"] if fact["must_have"]]
    assert ran.exit_code == (0 if said["ready"] else 7)
    assert said["ready"] is all(fact["state"] != "missing" for fact in must)
    table = CliRunner().invoke(command.doctor, []).stdout
    for fact in said["facts"]:
        assert fact["name"] in table


def test_a_missing_must_ends_with_7(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "host_facts", lambda _home: judge(dataclasses.replace(GOOD, seccomp=False)))
    ran = CliRunner().invoke(command.doctor, [])
    assert ran.exit_code == 7
    assert "until this is mended: seccomp" in ran.stdout
    assert "mend: use a kernel with CONFIG_SECCOMP_FILTER" in ran.stdout
