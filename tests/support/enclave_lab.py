"""A process enclave around a test's command."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from strongroom.attacks.inside import agent
from strongroom.core.canonical import Json
from strongroom.core.errors import UnavailableError
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import ExecRule, SandboxProfile, WritableCode, process_profile
from strongroom.walls.adapters import landlock, syscalls

SUPPORT = Path(__file__).resolve().parent
AGENT = agent.__file__
ATTEMPTS = str(SUPPORT / "escape_calls.py")


@dataclass
class Outcome:
    stdout: str
    stderr: str
    code: int | None
    signal: int | None
    agent: ExitStatus
    launch_ms: float
    enter_ms: float
    start_ms: float
    entered: dict[str, object] = field(default_factory=dict)

    def result(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = json.loads(self.stdout)
        return found


def require_sandbox() -> None:
    """Skip the calling test, with the reason, where the kernel can't confine at all."""
    try:
        if syscalls.landlock_version() < landlock.LEAST_VERSION:
            pytest.skip("this kernel's Landlock is too old for the process enclave")
    except OSError as error:
        pytest.skip(f"this kernel has no Landlock: {error}")
    # Not by a fork of this process: a library that an earlier test loaded may have threads.
    tries = "from strongroom.walls.adapters import syscalls; syscalls.unshare(syscalls.CLONE_NEWUSER)"
    if subprocess.run([sys.executable, "-c", tries], check=False, capture_output=True).returncode:
        pytest.skip("this host allows no user namespaces")


def lab_profile(
    folder: Path,
    *,
    writable_code: WritableCode = WritableCode.NEVER,
    exec_rule: ExecRule = ExecRule.ONCE,
    model_bytes: int = 128 << 20,
    extra: tuple[str, ...] = (),
) -> SandboxProfile:
    """Return a profile whose command may read ``folder/code`` and whose agent reads ``folder/sealed``."""
    for name in ("code", "sealed"):
        if not (folder / name).is_dir():
            (folder / name).mkdir(parents=True)
            (folder / name).chmod(0o755)
    code, links = python_roots()
    return process_profile(
        code_roots=code,
        links=links,
        data_roots=(str(folder / "code"), str(SUPPORT), *extra),
        sealed_roots=(str(folder / "sealed"),),
        model_bytes=model_bytes,
        scratch_bytes=64 << 20,
        writable_code=writable_code,
        exec_rule=exec_rule,
    )


def run_inside(
    profile: SandboxProfile,
    command: list[str],
    *,
    files: dict[str, str] | None = None,
    copies: list[tuple[str, str]] | None = None,
    timeout: float = 120,
) -> Outcome:
    """Run ``command`` in a fresh enclave and return how it went."""
    began = time.monotonic()
    with ProcessRunner().launch(profile, module=AGENT, inherited={}) as running:
        launch_ms = (time.monotonic() - began) * 1000
        outputs = {"stdout": b"", "stderr": b""}

        def read(name: str) -> None:
            outputs[name] = (running.stdout if name == "stdout" else running.stderr).read()

        readers = [threading.Thread(target=read, args=(name,)) for name in outputs]
        pairs: list[Json] = [[source, name] for source, name in copies or []]
        words: list[Json] = list(command)
        named: Json = dict({"weights.txt": "plain"} if files is None else files)
        running.send({"files": named, "copies": pairs, "command": words}, timeout=60)
        for reader in readers:
            reader.start()
        try:
            started, ended = running.receive(timeout=timeout), running.receive(timeout=timeout)
        except UnavailableError:
            running.kill()
            started, ended = {"started_us": 0}, {"code": None, "signal": None}
        assert isinstance(started, dict)
        assert isinstance(ended, dict)
        status = running.wait(timeout=60)
        for reader in readers:
            reader.join()
        return Outcome(
            stdout=outputs["stdout"].decode(errors="replace"),
            stderr=outputs["stderr"].decode(errors="replace"),
            code=ended["code"],  # type: ignore[arg-type]
            signal=ended["signal"],  # type: ignore[arg-type]
            agent=status,
            launch_ms=launch_ms,
            enter_ms=running.entered.microseconds / 1000,
            start_ms=int(started["started_us"]) / 1000,  # type: ignore[arg-type]
            entered=asdict(running.entered),
        )
