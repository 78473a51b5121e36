"""A deployment in memory with everybody's wallets, and a shell: the verbs of people, typed as people type them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner, Result

from simulators.deployment_in_memory import PEOPLE, InMemoryDeployment
from strongroom.cli.main import main
from strongroom.client import wiring
from strongroom.core.clock import Clock, SystemClock
from support.clocks import FixedClock


class Shell:
    """People's verbs, typed with their wallets."""

    wallets: dict[str, Path]

    def run(self, *arguments: str, by: str = "", text: str = "") -> Result:
        """Type a command; ``by`` adds the person's wallet."""
        extra = ["--as", str(self.wallets[by])] if by else []
        return CliRunner().invoke(main, [*arguments, *extra], input=text)

    def json(self, *arguments: str, by: str = "", code: int = 0) -> Any:
        """Type a command with --json and return what it printed."""
        result = self.run(*arguments, "--json", by=by)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


class Place(Shell):
    """A deployment, everybody's wallets, and a shell."""

    def __init__(self, folder: Path, deployment: InMemoryDeployment) -> None:
        self.folder = folder
        self.deployment = deployment
        self.wallets = {name: deployment.wallet(folder, name) for name in (*PEOPLE, "root-0", "root-1")}

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, patch: pytest.MonkeyPatch, clock: Clock | None = None) -> Iterator[Self]:
        """Found a deployment that people's verbs reach, with its first documents in force, at a time of its own."""
        deployment = InMemoryDeployment(clock or FixedClock(SystemClock().now()))
        patch.setattr(wiring, "connect", lambda _wallet: deployment)
        patch.setattr(wiring, "SystemClock", lambda: deployment.clock)
        deployment.adopt_first()
        yield cls(folder, deployment)
        deployment.close()

    def weights(self) -> Path:
        """Return a small model directory."""
        path = self.folder / "weights"
        if not path.exists():
            path.mkdir()
            (path / "config.json").write_text("{}")
            (path / "model.bin").write_bytes(bytes(range(256)) * 400)
        return path

    def seal(self, model: str = "minilm", name: str = "sealed", options: tuple[str, ...] = ()) -> Any:
        """Seal a version."""
        out = str(self.folder / name)
        return self.json("seal", str(self.weights()), "--model", model, "--out", out, *options, by="dana")

    def ask(self, *extra: str) -> str:
        """Ask for a model to be opened; returns the request's digest."""
        return str(
            self.json(
                *("request", "create", "--model", "minilm", "--image", "embedder"),
                *("--purpose", "evaluate", "--ticket", "T-7", *extra),
                by="dana",
            )["request"]
        )
