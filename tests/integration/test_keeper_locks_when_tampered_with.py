"""The running keeper locks itself on signs of tampering, says why in the log, and not for what it does itself."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.audit.adapters.client import LogClient
from strongroom.audit.entries import Entry, read_entry
from strongroom.core.errors import LockedError
from strongroom.core.events import EventName
from strongroom.keeper.guard.wiring import LOOK_SECONDS
from strongroom.keeper.tamper import TamperCause
from support.deployment import Deployment

pytestmark = pytest.mark.integration
PATIENCE = 60.0
ATTACH, DETACH = 16, 17


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment.found(tmp_path / "home") as made:
        made.keeper_module = "simulators.moved_clock_keeper"
        made.start("log")
        made.start("keeper")
        yield made


def cause_of(deployment: Deployment) -> str:
    """Wait until the keeper is locked, and return why."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        status = deployment.call("status")
        if status["locked"]:
            return str(status["cause"])
        time.sleep(0.1)
    return "not locked"


def locked_entries(deployment: Deployment) -> list[str]:
    """Return the causes of all lockings that stand in the log."""
    return [str(entry.facts["cause"]) for entry in entries(deployment) if entry.event is EventName.KEEPER_LOCKED]


def recorded(deployment: Deployment) -> list[str]:
    """Return the same once there is one: a keeper locks first, and has it recorded then."""
    end = time.monotonic() + PATIENCE
    while not (found := locked_entries(deployment)) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def entries(deployment: Deployment) -> list[Entry]:
    async def read() -> list[Entry]:
        async with await LogClient.connect(deployment.home / "run" / "log.sock") as client:
            size = (await client.head()).size
            return [read_entry(data) for data in await client.read(0, size)]

    return asyncio.run(read())


def replaced(path: Path, data: bytes) -> None:
    beside = path.with_name("beside")
    beside.write_bytes(data)
    beside.chmod(0o600)
    beside.replace(path)


def flip(home: Path) -> None:
    keyring = home / "keeper" / "keyring.json"
    replaced(keyring, keyring.read_bytes() + b" ")


def same_inode(home: Path) -> None:
    with (home / "keeper" / "genesis.digest").open("r+b") as file:
        file.write(b"sha256:0")


def remove(home: Path) -> None:
    (home / "keeper" / "keyring.json").unlink()


def link(home: Path) -> None:
    keyring = home / "keeper" / "keyring.json"
    keyring.rename(home / "elsewhere.json")
    keyring.symlink_to(home / "elsewhere.json")


def add(home: Path) -> None:
    (home / "keeper" / "escrow.json").write_bytes(b"{}")


def expose(home: Path) -> None:
    (home / "keeper" / "keyring.json").chmod(0o644)


def open_folder(home: Path) -> None:
    (home / "keeper").chmod(0o755)


def swap_folder(home: Path) -> None:
    (home / "keeper").rename(home / "keeper.was")
    (home / "keeper").mkdir(mode=0o700)


def set_back(home: Path) -> None:
    (home / "keeper" / "clock-set").write_text("-5")


def set_ahead(home: Path) -> None:
    replaced(home / "keeper" / "clock-set", b"3600")


@pytest.mark.parametrize(
    ("tamper", "cause"),
    [
        (flip, TamperCause.FILE_CHANGED),
        pytest.param(same_inode, TamperCause.FILE_CHANGED, marks=pytest.mark.heavy),
        (remove, TamperCause.FILE_CHANGED),
        pytest.param(link, TamperCause.FILE_CHANGED, marks=pytest.mark.heavy),
        pytest.param(add, TamperCause.FILE_CHANGED, marks=pytest.mark.heavy),
        (expose, TamperCause.FILE_EXPOSED),
        pytest.param(open_folder, TamperCause.FILE_EXPOSED, marks=pytest.mark.heavy),
        (set_back, TamperCause.CLOCK_BACK),
        (set_ahead, TamperCause.CLOCK_AHEAD),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_it_locks_and_the_log_says_why(
    deployment: Deployment, tamper: Callable[[Path], None], cause: TamperCause
) -> None:
    deployment.adopt_first()
    assert deployment.call("status")["locked"] is False
    tamper(deployment.home)
    assert cause_of(deployment) == cause
    with pytest.raises(LockedError):
        deployment.adopt_first()
    assert recorded(deployment) == [cause.value]


def test_another_folder_in_place_of_its_own_locks_it(deployment: Deployment) -> None:
    folder = deployment.home / "keeper"
    folder.rename(deployment.home / "keeper.was")
    folder.mkdir(mode=0o700)
    # Landlock knows the folder and not its name: the next pins may fail before anybody has looked.
    assert cause_of(deployment) in {TamperCause.FOLDER_REPLACED, "pins-failed"}
    assert len(locked_entries(deployment)) == 1


def test_older_pins_put_in_place_lock_it_as_a_rollback(deployment: Deployment) -> None:
    pins = deployment.home / "keeper" / "pins.json"
    old = pins.read_bytes()
    deployment.adopt_first()
    replaced(pins, old)
    # Its own next write may come first, and the old ones are gone: then nothing was rolled back. So it is tried again.
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not deployment.call("status")["locked"]:
        if pins.read_bytes() != old:
            replaced(pins, old)
        time.sleep(0.05)
    assert cause_of(deployment) == TamperCause.ROLLED_BACK
    assert recorded(deployment) == [TamperCause.ROLLED_BACK.value]


def test_a_debugger_that_attaches_locks_it(deployment: Deployment) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root attaches to a process that is not dumpable")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    pid = deployment.processes["keeper"].pid
    seize, interrupt = 0x4206, 0x4207
    if libc.ptrace(seize, pid, None, None):
        pytest.skip(f"no debugger may attach here: {os.strerror(ctypes.get_errno())}")
    try:
        assert cause_of(deployment) == TamperCause.DEBUGGER
    finally:
        libc.ptrace(interrupt, pid, None, None)
        os.waitpid(pid, 0x40000000)
        libc.ptrace(DETACH, pid, None, None)
    assert recorded(deployment) == [TamperCause.DEBUGGER.value]


def test_its_own_writes_and_time_that_passes_are_no_signs(deployment: Deployment) -> None:
    end, days = time.monotonic() + 4 * LOOK_SECONDS, 0
    deployment.adopt_first()
    while time.monotonic() < end:
        deployment.change_roster(lambda one: one)
        # A machine that slept: both of its clocks went on.
        days += 1
        replaced(deployment.home / "keeper" / "clock-moved", str(days * 3600).encode())
        time.sleep(0.1)
    assert deployment.call("status")["locked"] is False
    assert deployment.stop("keeper") == 0
    assert locked_entries(deployment) == []


def test_a_keeper_that_was_asked_to_lock_says_so_and_starts_again(deployment: Deployment) -> None:
    deployment.call("lock")
    assert cause_of(deployment) == "asked"
    deployment.call("lock")
    assert recorded(deployment) == ["asked"]
    deployment.processes["keeper"].send_signal(signal.SIGTERM)
    deployment.stop("keeper")
    deployment.start("keeper")
    assert deployment.call("status")["locked"] is False
