"""A scanner sees one file and its own folders, says one word, and whatever isn't "clean" refuses."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import TamperedError
from strongroom.intake.formats.identify import Format
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.source import BytesSource
from strongroom.quarantine.adapters.scanning import scan
from strongroom.quarantine.terms import Scanner

pytestmark = pytest.mark.integration

FILE = b"what a supplier delivered"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "scanner"
    path.mkdir(mode=0o755)
    return path


def scanner(folder: Path, script: str, **changes: object) -> Scanner:
    program = folder / "scan.py"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    made = Scanner(
        name="looker",
        version="1",
        program=str(program),
        digest=Digest.of(program.read_bytes()),
        arguments=("--strict",),
        roots=(str(folder),),
        formats=frozenset({Format.PICKLE}),
        seconds=20,
        memory=1 << 30,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # a test's own changes


def test_clean_is_exit_code_zero_and_the_file_is_standard_input(folder: Path) -> None:
    reads = "import sys\nassert sys.argv[1:] == ['--strict']\nassert sys.stdin.buffer.read() == "
    scan(scanner(folder, f"{reads}{FILE!r}"), "a.pkl", BytesSource(FILE))
    scan(scanner(folder, f"assert open('/proc/self/fd/0', 'rb').read() == {FILE!r}"), "a.pkl", BytesSource(FILE))


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("raise SystemExit(1)", {}),
        ("import os, signal\nsignal.raise_signal(signal.SIGSEGV)\nos.abort()", {}),
        ("import time\ntime.sleep(60)", {"seconds": 1}),
        ("held = bytearray(2 << 30)", {}),
        ("import os\nif os.fork() == 0:\n    import time\n    time.sleep(3600)\nraise SystemExit(3)", {}),
    ],
    ids=["finding", "crash", "late", "memory", "leaves a child"],
)
def test_whatever_isnt_clean_refuses(folder: Path, script: str, changes: dict[str, object]) -> None:
    with pytest.raises(IntakeRefusedError) as refused:
        scan(scanner(folder, script, **changes), "a.pkl", BytesSource(FILE))
    assert refused.value.rule is Rule.SCANNER


def test_a_scanner_reaches_nothing_but_its_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("other")
    tries = f"""
import os, socket
def refused(what):
    try:
        what()
    except OSError:
        return True
    raise SystemExit(9)
refused(lambda: open({str(tmp_path / "secret")!r}))
refused(lambda: open("/etc/shadow"))
refused(lambda: os.listdir("/root"))
refused(lambda: os.write(os.open("/proc/self/fd/0", os.O_RDWR), b"changed"))
refused(lambda: os.ftruncate(0, 0))
refused(lambda: open({str(folder / "new")!r}, "w"))
refused(lambda: socket.create_connection(("127.0.0.1", 9), timeout=1))
refused(lambda: socket.socket(socket.AF_UNIX).bind("/scratch/s"))
assert len(os.listdir("/proc/self/fd")) <= 5
print("x" * (1 << 24))
"""
    scan(scanner(folder, tries), "a.pkl", BytesSource(FILE))
    assert not (folder / "new").exists()


def test_another_program_than_the_one_in_the_terms_isnt_started(folder: Path) -> None:
    made = scanner(folder, "raise SystemExit(0)")
    Path(made.program).write_text(f"#!{sys.executable}\nopen('/scratch/ran', 'w')\n")
    with pytest.raises(TamperedError) as refused:
        scan(made, "a.pkl", BytesSource(FILE))
    assert refused.value.reason == "intake-scanner-changed"


def test_a_file_larger_than_its_memory_refuses(folder: Path) -> None:
    with pytest.raises(IntakeRefusedError, match="more than the scanner may use"):
        scan(scanner(folder, "raise SystemExit(0)", memory=1 << 20), "a.pkl", BytesSource(bytes((1 << 20) + 1)))


def test_a_program_that_cant_be_started_refuses(folder: Path) -> None:
    made = scanner(folder, "raise SystemExit(0)")
    Path(made.program).write_bytes(b"no program at all")
    broken = replace(made, digest=Digest.of(b"no program at all"))
    with pytest.raises(IntakeRefusedError, match="couldn't be started"):
        scan(broken, "a.pkl", BytesSource(FILE))


def test_a_scanner_dies_with_its_gate(folder: Path) -> None:
    made = scanner(folder, "import time\ntime.sleep(600)", seconds=600)
    gate = os.fork()
    if gate == 0:
        try:
            scan(made, "a.pkl", BytesSource(FILE))
        finally:
            os._exit(0)
    try:
        wait_until(lambda: len(running(made.program)) == 1)
    finally:
        os.kill(gate, signal.SIGKILL)
        os.waitpid(gate, 0)
    wait_until(lambda: not running(made.program))


def running(program: str) -> list[str]:
    """Return the processes that run a program, which holds the file."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if program.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


def wait_until(came: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not came():
        assert time.monotonic() < end
        time.sleep(0.05)
