"""A keeper that was taken over starts nothing, reaches nobody and reads nothing but what is its own."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from strongroom.core.errors import UnavailableError
from strongroom.walls.adapters import syscalls
from support.deployment import Deployment

pytestmark = pytest.mark.integration
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "read_another_process",
    "read_another_processes_memory",
    "read_the_logs_key",
    "read_the_home",
    "read_passwd",
    "read_ones_own_key_files",
    "write_beside",
    "write_into_its_own_program",
    "write_to_tmp",
    "talk_past_namespaces",
}
"""What Landlock stops, where the kernel has it; the others are stopped by the filter of system calls alone."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run the attempts in a keeper that serves."""
    with ExitStack() as stack:
        deployment = stack.enter_context(Deployment.found(tmp_path_factory.mktemp("walled") / "home"))
        deployment.fresh, deployment.keeper_module = True, "simulators.escaping_keeper"
        name = os.urandom(8).hex().encode()
        (deployment.home / "keeper" / "abstract").write_bytes(name)
        door = stack.enter_context(socket.socket(socket.AF_UNIX))
        door.bind(b"\0" + name)
        door.listen()
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        deployment.call("lock")
        told: dict[str, str] = json.loads((deployment.home / "keeper" / "escapes.json").read_text())
        yield told


def test_no_attempt_succeeds(said: dict[str, str]) -> None:
    try:
        skipped = set() if syscalls.landlock_version() >= 3 else FOLDERS
    except OSError:
        skipped = FOLDERS
    got = {
        name: one for name, one in said.items() if one.startswith("escaped") and name.partition(" ")[0] not in skipped
    }
    assert got == {}
    assert len(said) > 100


def test_calls_are_refused_before_the_kernel_looks_at_their_arguments(said: dict[str, str]) -> None:
    others = {name: one for name, one in said.items() if name.startswith(("call ", "socket ")) and one != "EPERM"}
    assert others == {}


def test_the_page_says_what_was_tried(said: dict[str, str]) -> None:
    page = (ROOT / "docs" / "internals" / "keeper-walls.md").read_text(encoding="utf-8")
    attempts = {name for name in said if not name.startswith(("call ", "socket ")) and "thread" not in name}
    written = set(re.findall(r"^\| [^|]+ \| `(\w+)` \|", page, flags=re.MULTILINE))
    assert written == attempts


def test_what_stands_is_told(tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper")
        told = deployment.call("walls")
        status = Path(f"/proc/{deployment.processes['keeper'].pid}/status").read_text()
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["Seccomp"].strip() == "2"
    assert facts["Seccomp_filters"].strip() >= "2"
    assert facts["NoNewPrivs"].strip() == "1"
    assert told["reach"] == "local"
    assert told["system_calls"] is True
    try:
        assert told["files"] == syscalls.landlock_version()
    except (OSError, UnavailableError):
        assert told["files"] == 0
    assert told["secrets"] in {"memfd-secret", "locked"}
