"""What root reads of a process enclave from outside, and what it doesn't: as the documents say, neither more nor less.

Every process of the enclave is searched, at each step of opening a model, for the keys and the weights that are known
to be in it. What is found isn't a failure: it is what this class of enclave doesn't protect, and the tests hold the
documents to it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strongroom.core.errors import UnavailableError
from strongroom.walls.adapters.secret_memory import SecretMemoryKind, SecretPage
from support.enclave_lab import require_sandbox
from support.memory_reader import ASKED_FOR
from support.watched_memory import Watched, found, watched_run

pytestmark = pytest.mark.integration
MEMORY = {"proc_mem", "process_vm", "ptrace"}
"""The ways that read a process's memory; the others read what it mapped, opened, or was started with."""
RECIPIENT = ("mlkem d", "mlkem z", "x25519")
STEPS = ("asking", "holding", "opening", "running")


def require_root(kind: SecretMemoryKind) -> None:
    """Skip where nobody could look, or where there is nothing of this kind to look at."""
    require_sandbox()
    if os.geteuid() != 0:
        pytest.skip("only root reads another user's processes")
    try:
        SecretPage(32, kind=kind).wipe()
    except UnavailableError as error:
        pytest.skip(error.message)


@contextmanager
def open_folder() -> Iterator[Path]:
    """Make a folder that the enclave's user can enter; pytest's own can't be."""
    folder = Path(tempfile.mkdtemp(prefix="strongroom-memory-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module", params=list(SecretMemoryKind))
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    kind: SecretMemoryKind = request.param
    require_root(kind)
    with open_folder() as folder:
        yield watched_run(folder, kind)


def file_keys(watched: Watched) -> list[str]:
    return [name for name in watched.needles if name.startswith("file key")]


def test_every_step_was_looked_at(watched: Watched) -> None:
    assert tuple(watched.steps) == STEPS
    # Supervisor and agent, and at the end the command.
    assert [len(watched.pids[name]) for name in STEPS] == [2, 2, 2, 3]
    for report in watched.steps.values():
        for said in report.values():
            assert [name for name, one in said.items() if isinstance(one, str)] == [], said  # each way could be gone


def test_the_recipient_key_is_readable_until_it_has_opened_its_delivery(watched: Watched) -> None:
    # It lies in the heap of OpenSSL. Whoever reads it opens the delivery: this class's root gets the data key so.
    for part in RECIPIENT:
        assert set(found(watched.steps["asking"], part)) == MEMORY
        for step in STEPS[1:]:
            assert found(watched.steps[step], part) == {}


def test_the_data_key_is_hidden_in_secret_pages_alone(watched: Watched) -> None:
    readable = MEMORY if watched.kind is SecretMemoryKind.LOCKED else set()
    assert set(found(watched.steps["holding"], "data key")) == readable
    assert set(found(watched.steps["opening"], "data key")) == readable
    if readable:
        # In its page and nowhere else: what HPKE handed over was wiped or overwritten.
        assert found(watched.steps["holding"], "data key", "proc_mem") == {"proc_mem": 1}


def test_a_files_own_keys_are_readable_while_it_is_opened(watched: Watched) -> None:
    # Whatever hides the data key: these open the file that is being opened.
    seen = [set(found(watched.steps["opening"], name)) for name in file_keys(watched)]
    assert any(ways == MEMORY for ways in seen), seen


def test_no_key_is_left_once_the_command_runs(watched: Watched) -> None:
    for name in ("data key", *RECIPIENT, *file_keys(watched)):
        assert found(watched.steps["running"], name) == {}, name


def test_weights_are_readable_in_memory_and_as_files(watched: Watched) -> None:
    assert set(found(watched.steps["running"], "weights")) == {*MEMORY, "its_files"}
    # And not before: nothing of them is in any process until it is opened.
    for step in STEPS[:2]:
        assert found(watched.steps[step], "weights") == {}


def test_nothing_is_in_descriptors_mappings_or_the_environment(watched: Watched) -> None:
    for report in watched.steps.values():
        for name in watched.needles:
            ways = found(report, name, "map_files", "descriptors", "taken_descriptors", "environment")
            assert ways == {}, (name, ways)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", list(SecretMemoryKind))
def test_a_debuggers_core_file_has_what_memory_has(kind: SecretMemoryKind) -> None:
    require_root(kind)
    if shutil.which("gcore") is None:
        pytest.skip("no `gcore` here: install gdb")
    with open_folder() as folder:
        made = watched_run(folder, kind, "proc_mem", *sorted(ASKED_FOR))
    for report in made.steps.values():
        for name in made.needles:
            ways = found(report, name)
            assert ways.get("gcore") == ways.get("proc_mem"), name


@contextmanager
def swap_file() -> Iterator[Path]:
    """Swap to a file for a while."""
    with tempfile.NamedTemporaryFile(prefix="strongroom-swap-") as file:
        for _ in range(256):
            file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        programs = [shutil.which(name, path="/usr/sbin:/sbin") for name in ("mkswap", "swapon", "swapoff")]
        if None in programs:
            pytest.skip("no `swapon` here: install util-linux")
        make, on, off = map(str, programs)
        subprocess.run([make, file.name], check=True, capture_output=True)
        if subprocess.run([on, file.name], check=False, capture_output=True).returncode:
            pytest.skip("this host lets nobody swap to a file of the test's")
        try:
            yield Path(file.name)
        finally:
            subprocess.run([off, file.name], check=True, capture_output=True)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", list(SecretMemoryKind))
def test_swap_takes_the_heap_and_never_a_page_that_holds_the_data_key(kind: SecretMemoryKind) -> None:
    require_root(kind)
    with swap_file() as swap, open_folder() as folder:
        made = watched_run(folder, kind, "proc_mem", swap=swap)
        steps = {
            step: {name for name in made.needles if found(report, name, "swap")} for step, report in made.steps.items()
        }
        left = swap.stat().st_size
    assert left
    # The kernel was asked to swap all of it out, and took what was in ordinary heap.
    assert steps["asking"] >= set(RECIPIENT)
    assert any(name in steps["opening"] for name in file_keys(made))
    assert "weights" in steps["running"]
    # Of the data key's page it took nothing, whichever kind that was.
    assert all("data key" not in names for names in steps.values())
