"""Log writer and keeper each under a uid of their own: neither reads the other's files, and strangers aren't served."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.audit.adapters.client import LogClient
from strongroom.core.errors import StrongroomError
from support.deployment import Deployment

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes under other uids"),
]
LOG, KEEPER, STRANGER = 64001, 64002, 64003


def give(folder: Path, uid: int) -> None:
    """Make a folder and all in it a uid's own."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, uid)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every uid can enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="strongroom-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_each_process_under_its_own_uid(shared: Path) -> None:
    with Deployment.found(shared / "home") as deployment:
        home = deployment.home
        home.chmod(0o755)
        (home / "run").chmod(0o1777)
        (home / "genesis.json").chmod(0o644)
        give(home / "log", LOG)
        give(home / "keeper", KEEPER)
        deployment.start("log", uid=LOG, more=["--appender", str(KEEPER)])
        deployment.start("keeper", uid=KEEPER, more=["--caller", str(os.geteuid())])
        deployment.adopt_first()
        assert deployment.call("status")["locked"] is False

        async def append_as_root() -> None:
            async with await LogClient.connect(home / "run" / "log.sock") as client:
                await client.head()

        with pytest.raises(StrongroomError):
            asyncio.run(append_as_root())
        for mine, theirs in ((KEEPER, home / "log" / "log.key"), (LOG, home / "keeper" / "keyring.json")):
            reading = subprocess.run(["cat", theirs], check=False, user=mine, group=mine, capture_output=True)
            assert reading.returncode != 0, "one process reads the other's key"
