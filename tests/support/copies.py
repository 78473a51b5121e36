"""A deployment with a registrar, a searcher's identity, a register, and a shell for the verbs on copies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from simulators.deployment_in_memory import InMemoryDeployment
from strongroom.cli.main import main
from strongroom.client import wiring
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.clock import SystemClock
from strongroom.core.secret import SecretBytes
from support.clocks import FixedClock
from support.planted import Tensors, safetensors

HOST = "w1"
LONG = "2999-01-01T00:00:00Z"


def no_passphrase() -> SecretBytes:
    raise AssertionError("the wallet has no passphrase")


@contextmanager
def opened_lab(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[CopiesLab]:
    """Open a lab whose registrars are dana and sam."""
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    patch.setattr(wiring, "connect", lambda _wallet: deployment)
    deployment.adopt_first()
    deployment.change_roster(
        lambda one: replace(one, roles=one.roles | {"registrar"}) if one.id in {"dana", "sam"} else one
    )
    yield CopiesLab(folder, deployment)
    deployment.close()


@dataclass
class CopiesLab:
    """Where everything lies."""

    folder: Path
    deployment: InMemoryDeployment

    def __post_init__(self) -> None:
        self.wallet = self.deployment.wallet(self.folder, "dana")
        self.register = self.folder / "register"
        self.identity = self.folder / "searcher"
        self.tree = self.folder / "tree"
        self.tree.mkdir()
        self.json("recipient", "new", self.identity)
        self.registrar = str(WalletFolder(self.wallet, no_passphrase).identity.key)

    def run(self, *args: str | Path) -> Result:
        return CliRunner().invoke(main, [str(one) for one in args])

    def json(self, *args: str | Path, code: int = 0) -> Any:
        result = self.run(*args, "--json")
        assert result.exit_code == code, (result.output, result.exception)
        return json.loads(result.stdout)

    def copies(self, verb: str, *args: str | Path, code: int = 0) -> Any:
        own = () if verb == "answer" else ("--register", self.register, "--as", self.wallet)
        return self.json("copies", verb, *args, *own, code=code)

    def add(self, place: Path | str, *args: str | Path, kind: str = "exported", code: int = 0) -> Any:
        words = ("--holder", "platform team", "--reason", "evaluation", "--until", LONG, "--host", HOST)
        return self.copies("add", place, "--model", "atlas", "--version", "1", "--kind", kind, *words, *args, code=code)

    def check(self, code: int = 0) -> list[Any]:
        result = self.run("copies", "check", "--register", self.register, "--as", self.wallet)
        assert result.exit_code == code, (result.output, result.exception)
        return [json.loads(line) for line in result.stdout.splitlines()]

    def fingerprint(self, tensors: Tensors, *args: str | Path, version: int = 1, code: int = 0) -> Any:
        model = self.folder / f"clear-{version}"
        model.mkdir(exist_ok=True)
        (model / "model.safetensors").write_bytes(safetensors(tensors))
        (model / "config.json").write_text("{}" + " " * 5000)
        to = ("--to", f"{self.identity}.pub")
        named = ("--model", "atlas", "--version", str(version))
        return self.copies("fingerprint", model, *named, *to, *args, code=code)

    def scan(self, place: Path | str, *args: str | Path, code: int = 0) -> Any:
        whose = ("--registrar", self.registrar, "--identity", self.identity, "--register", self.register)
        return self.json("scan", place, "--host", HOST, *whose, *args, code=code)
