"""A root key that was moved while no keeper ran: the next start says so in the log, once, and only if it is true."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.audit.adapters.client import LogClient
from strongroom.audit.entries import Entry, read_entry
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.adapters.move_note import MoveFile
from strongroom.keeper.reconciling import providers_digest
from support.deployment import PASSPHRASE, Deployment
from support.forked import completed

pytestmark = pytest.mark.integration


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment.found(tmp_path / "home") as made:
        yield made


def given() -> int:
    reading, writing = os.pipe()
    os.write(writing, PASSPHRASE)
    os.close(writing)
    return reading


def move(home: Path) -> None:
    old, new = given(), given()
    asked = ["root-key", "move", "--home", str(home), "--to", "local:"]
    asked += ["--kdf-memory", "8", "--passphrase-fd", str(old), "--new-passphrase-fd", str(new)]
    completed("strongroom.cli.main", *asked, pass_fds=(old, new)).check_returncode()
    os.close(old)
    os.close(new)


def moves(deployment: Deployment) -> list[Entry]:
    async def read() -> list[Entry]:
        async with await LogClient.connect(deployment.home / "run" / "log.sock") as client:
            return [read_entry(data) for data in await client.read(0, (await client.head()).size)]

    return [entry for entry in asyncio.run(read()) if entry.event is EventName.ROOT_MOVED]


def restarted(deployment: Deployment) -> list[Entry]:
    if "log" not in deployment.processes:
        deployment.start("log")
    if "keeper" in deployment.processes:
        deployment.stop("keeper")
    deployment.start("keeper")
    return moves(deployment)


def test_a_move_is_recorded_once(deployment: Deployment) -> None:
    assert restarted(deployment) == []
    deployment.stop("keeper")
    move(deployment.home)
    (entry,) = restarted(deployment)
    assert entry.facts == {
        "generation": 1,
        "providers": str(providers_digest(load_keyring(deployment.home / "keeper"))),
    }
    assert len(restarted(deployment)) == 1


def test_a_note_of_a_move_that_did_not_come_about_is_thrown_away(deployment: Deployment) -> None:
    note = MoveFile(deployment.home / "keeper")
    note.save(Digest.of(b"another list"))
    assert restarted(deployment) == []
    assert note.load() is None
