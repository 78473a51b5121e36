"""The programs that set a gate up: `ip` (iproute2) and `nft` (nftables), called with fixed arguments and no shell."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Final

from strongroom.core.canonical import Json
from strongroom.enclave.gate.errors import GateUnavailableError

SECONDS: Final = 10
_SEARCH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


def run(program: str, *arguments: str, given: bytes = b"") -> bytes:
    """Run a program and return what it printed.

    :raises GateUnavailableError: it isn't installed, took too long or failed; says what it printed first.
    """
    path = shutil.which(program, path=_SEARCH)
    if path is None:
        raise GateUnavailableError(f"`{program}` isn't installed", remedy="install iproute2 and nftables")
    try:
        done = subprocess.run(  # noqa: S603 - a program found in system folders, its arguments from checked settings
            [path, *arguments], input=given, capture_output=True, timeout=SECONDS, check=False, env={"PATH": _SEARCH}
        )
    except subprocess.TimeoutExpired:
        raise GateUnavailableError(f"`{program}` took longer than {SECONDS} seconds") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = ascii(said[0][:160])[1:-1] if said else f"exit code {done.returncode}"
        raise GateUnavailableError(f"`{program}` refused: {why}", remedy="a gate is set up by root, on Linux")
    return done.stdout


def ip(*arguments: str) -> bytes:
    """Run `ip`."""
    return run("ip", *arguments)


def load(namespace: str, transaction: Json) -> None:
    """Load a transaction of rules in a namespace: all of it, or nothing."""
    run("ip", "netns", "exec", namespace, "nft", "-j", "-f", "-", given=json.dumps(transaction).encode())


def listing(namespace: str) -> Json:
    """Return all that the kernel has loaded in a namespace."""
    found = run("ip", "netns", "exec", namespace, "nft", "-j", "list", "ruleset")
    try:
        value: Json = json.loads(found)
    except ValueError:
        raise GateUnavailableError("`nft` printed no JSON") from None
    return value
