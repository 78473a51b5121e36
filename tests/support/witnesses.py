"""Real witnesses: a folder made by the command, and the server in a process of its own."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from strongroom.audit.cosignature import CosignerKey
from strongroom.cli.audit_witness import witness
from support.forked import Forked, first_said, reap


@dataclass
class RunningWitness:
    """A witness that serves."""

    folder: Path
    key: CosignerKey
    port: int
    process: Forked

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def policy(self, name: str = "W") -> str:
        """Return the policy's line for this witness."""
        return f"witness {name} {self.key} {self.url}\n"

    def submit(self, body: bytes) -> tuple[int, str, bytes]:
        """Send add-checkpoint; returns status, content type and body."""
        return self.ask("POST", "/add-checkpoint", body)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, str, bytes]:
        """Send any request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("content-type", ""), answer.read()
        finally:
            connection.close()


def make_witness(folder: Path, *log_keys: str, name: str = "witness.example/w", algorithm: str = "ml-dsa-44") -> Path:
    """Make a witness that follows the log of these keys."""
    command = ["init", str(folder), "--name", name, "--algorithm", algorithm]
    assert CliRunner().invoke(witness, command, catch_exceptions=False).exit_code == 0
    keys = folder / "log.pub"
    keys.write_text("".join(f"{key}\n" for key in log_keys))
    assert (
        CliRunner().invoke(witness, ["follow", str(folder), "--key", str(keys)], catch_exceptions=False).exit_code == 0
    )
    return folder


@contextmanager
def running_witness(folder: Path, *, port: int = 0, options: tuple[str, ...] = ()) -> Iterator[RunningWitness]:
    """Run the real witness of a folder; killed at the end if it still runs."""
    command = ["audit", "witness", "run", str(folder), "--port", str(port), *options]
    said = folder.with_name(f"{folder.name}.err")
    with said.open("ab") as errors:
        process = Forked("strongroom.cli.main", command, stderr=errors.fileno())
    try:
        told = first_said(process, said)
        key = CosignerKey.parse((folder / "witness.pub").read_text().strip())
        yield RunningWitness(folder, key, told["port"], process)
    finally:
        process.kill()
        reap(process)
