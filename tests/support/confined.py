"""The engine in a process enclave, without a deployment: what stands behind the metered channel in tests."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.sandbox import SandboxProfile, process_profile
from support.enclave_lab import SUPPORT
from support.gateways import Engine

AGENT = str(SUPPORT / "engine_agent.py")


def profile(folder: Path, room: int = 64 << 20) -> SandboxProfile:
    """Return the confinement: the command sees `code`, and of `sealed` only what the agent copies."""
    for name in ("code", "sealed"):
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    code, links = python_roots()
    return process_profile(
        code_roots=code,
        links=links,
        data_roots=(str(SUPPORT), str(folder / "code")),
        sealed_roots=(str(folder / "sealed"),),
        model_bytes=room,
        environment=(OUTPUT,),
    )


def confined(folder: Path, command: list[str], ended: list[Any], *, room: int = 64 << 20) -> Engine:
    """Return an engine that runs beside the files of `sealed`, with the metered channel and nothing else.

    `ended` gets its exit code, or its refusal, and what came out of it on standard output and error.
    """

    def run(channel: socket.socket) -> None:
        inherited = {"meter": channel.fileno()}
        sealed = folder / "sealed"
        files = sorted(str(path.relative_to(sealed)) for path in sealed.rglob("*") if path.is_file())
        with ProcessRunner().launch(profile(folder, room), module=AGENT, inherited=inherited) as running:
            running.send({"folder": str(sealed), "files": [*files], "command": [*command]}, timeout=60)
            running.receive(timeout=60)
            told = running.receive(timeout=120)
            running.wait(timeout=60)
            ended.extend((told, running.stdout.read(), running.stderr.read()))

    return run
