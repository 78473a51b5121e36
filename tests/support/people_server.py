"""Starts :mod:`support.people_program` and calls it as a provider does, over TLS."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from strongroom.client.adapters.http import one_sided_tls
from support.forked import Forked, reap
from support.people import Lab, lab


@dataclass
class PeopleServer:
    """A running program."""

    lab: Lab
    process: Forked
    port: int

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def suspended(self) -> list[str]:
        """What the keeper has on record, in order."""
        path = self.lab.home / "suspended.txt"
        return path.read_text().splitlines() if path.exists() else []

    def context(self) -> ssl.SSLContext:
        return one_sided_tls(authority=self.lab.folder / "ca" / "ca.pem")

    def client(self, base: str = "/scim/v2") -> httpx2.Client:
        """Return a client with the provider's token."""
        headers = {"authorization": f"Bearer {self.lab.token}"}
        return httpx2.Client(
            base_url=self.url + base, verify=self.context(), headers=headers, trust_env=False, timeout=30
        )


def prepared(home: Path) -> Lab:
    """Write what an operator writes; the applications run elsewhere."""
    with lab(home) as made:
        (home / "people.txt").write_text("dana sam rina olga\n")
    return made


@contextmanager
def people_server(made: Lab, *, dies: str = "") -> Iterator[PeopleServer]:
    """Run the program."""
    with (made.home / "program.log").open("ab") as log:
        process = Forked("support.people_program", [str(made.home), dies, "0"], stderr=log.fileno())
    assert process.stdout is not None
    try:
        line = ""
        while not line.startswith('{"port"'):
            line = process.stdout.readline().decode()
            assert line, (made.home / "program.log").read_text()[-3000:]
        yield PeopleServer(made, process, json.loads(line)["port"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        reap(process)
