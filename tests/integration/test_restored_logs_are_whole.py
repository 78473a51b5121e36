"""Backups as an operator types them, of logs of several shards, in either store, beside witnesses."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from strongroom.access.request import Action
from strongroom.audit.adapters.client import LogClient
from strongroom.audit.note import VerifierKey
from strongroom.audit.witness_policy import WitnessPolicy
from strongroom.cli.main import main
from strongroom.cli.restoring import put_back, store_settings
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import PersonId
from support.deployment import Deployment
from support.postgres import Cluster
from support.restored import Safe, back_up, carried_away
from support.small_disk import fill, small_disk
from support.witnesses import make_witness, running_witness

pytestmark = pytest.mark.integration


def typed(*arguments: object, code: int = 0) -> Any:
    """Type a command; returns its JSON."""
    done = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def wallet(deployment: Deployment, folder: Path, name: str) -> Path:
    """Make the wallet of a root holder."""
    WalletFolder.create(
        folder / name, PersonId(name), lambda count: Digest.of(name.encode()).value[:count], passphrase=None
    )
    WalletFolder(folder / name, lambda: pytest.fail("asked")).bind("https://127.0.0.1:1", deployment.genesis, b"none")
    return folder / name


def started_again(deployment: Deployment, safe: Safe) -> None:
    """Start a restored deployment, and have it do something."""
    with deployment:
        deployment.start("log")
        deployment.start("keeper")
        assert deployment.head().size > safe.head.size
        deployment.request(Action.FREEZE)


def test_as_typed(tmp_path: Path) -> None:
    for name in ("operators", "custodian"):
        typed("recipient", "new", tmp_path / name)
    with Deployment.found(tmp_path / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        target, packed, ordered = tmp_path / "a.srb", tmp_path / "keys.package", tmp_path / "order.json"
        options = ("--recipient", tmp_path / "operators.pub", "--custodian", tmp_path / "custodian.pub")
        made = typed("backup", "make", "--home", deployment.home, "--to", target, *options)
        assert typed("backup", "show", target)["digest"] == made["digest"]
        checked = typed("backup", "verify", target, "--recipient-key", tmp_path / "operators")
        assert (checked["digest"], checked["not_opened"]) == (made["digest"], ["machine"])
        again = typed("backup", "make", "--home", deployment.home, "--to", target, *options, code=9)
        assert again["code"] == "backup-exists"
        assert typed("backup", "verify", target, "--recipient-key", tmp_path / "custodian", code=3)
        deployment.control(deployment.request(Action.FREEZE))
        typed("key", "package", "--home", deployment.home, "--out", packed)
        safe = carried_away(deployment, target, tmp_path / "log")
    for name in ("root-0", "root-1"):
        holder = wallet(deployment, tmp_path / "wallets", name)
        asked = ("--log", safe.log, "--out", ordered, "--as", holder, "--yes")
        signed = typed("backup", "order", target, *asked)
    assert signed["signatures"] == signed["needed"] == 2
    keys = ("--recipient-key", tmp_path / "operators", "--recipient-key", tmp_path / "custodian")
    given = (*keys, "--key-package", packed, "--order", ordered, "--log", safe.log)
    time.sleep(1.1)
    told = typed("restore", target, "--home", tmp_path / "again", *given)
    assert told["newer_than_backup"] > 0
    assert told["lost"] == told["hand_in_again"] == []
    assert typed("restore", target, "--home", tmp_path / "again", *given, code=9)
    deployment.home = tmp_path / "again"
    with deployment:
        deployment.start("log")
        deployment.start("keeper")
        assert deployment.call("status")["frozen"] == ["minilm"]


def test_no_backup_of_a_deployment_that_is_down(tmp_path: Path) -> None:
    typed("recipient", "new", tmp_path / "operators")
    with Deployment.found(tmp_path / "home") as deployment:
        options = ("--home", deployment.home, "--recipient", tmp_path / "operators.pub")
        assert typed("backup", "make", "--to", tmp_path / "a.srb", *options, code=7)["code"] == "unavailable"
        deployment.start("log")
        # The log answers, and nobody can record it: there is no backup.
        typed("backup", "make", "--to", tmp_path / "a.srb", *options, code=7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "operators", "operators.pub"]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(True, id="with a copy of the log"),
        pytest.param(False, id="from the backup alone", marks=pytest.mark.heavy),
    ],
)
def test_a_log_of_several_shards_comes_back(tmp_path: Path, *, given: bool) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper", more=["--shard-entries", "16"])
        deployment.adopt_first()
        end = time.monotonic() + 60
        while not (deployment.home / "log" / "public" / "shards" / "3" / "checkpoint").exists():
            deployment.request(Action.FREEZE)
            assert time.monotonic() < end
            time.sleep(0.05)
        made = back_up(deployment, tmp_path / "backup")
        assert made.header.log.origin.endswith("/3")
        before = deployment.head()
        safe = carried_away(deployment, tmp_path / "backup", tmp_path / "log")
        if not given:
            safe = Safe(deployment=deployment, backup=safe.backup, package=safe.package, log=safe.log, head=before)
    if given:
        restored, _told = safe.restored(tmp_path / "again")
    else:
        # Nobody saw more than the backup has, as far as anybody says.
        head = made.header.log
        order = safe.order(log=type(before)(size=head.size, root=head.root))
        restored, _told = safe.restored(tmp_path / "again", log=None, order=order)
        safe = Safe(
            deployment=deployment,
            backup=safe.backup,
            package=safe.package,
            log=safe.log,
            head=type(before)(size=head.size, root=head.root),
        )
    started_again(restored, safe)


def test_a_log_comes_back_into_postgresql(postgres: Cluster, tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        postgres.choose(deployment.home)
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        back_up(deployment, tmp_path / "backup")
        safe = carried_away(deployment, tmp_path / "backup", tmp_path / "log")
    settings = deployment.home / "log" / "store.toml"
    # The lost machine's database still holds its log: that is what stands there, and nothing is written over it.
    store = store_settings(settings, None)
    put_back(safe.asked(tmp_path / "same", store=store))
    (tmp_path / "other.toml").write_text(settings.read_text())
    postgres.emptied()
    restored, _told = safe.restored(tmp_path / "again", store=store)
    started_again(restored, safe)
    assert not (restored.home / "log" / "log.db").exists()
    with pytest.raises(StrongroomError) as caught:
        safe.restored(tmp_path / "third", store=store)
    assert caught.value.reason == "store-not-empty"


async def _cosigned(home: Path, size: int) -> None:
    async with asyncio.timeout(30), await LogClient.connect(home / "run" / "log.sock") as client:
        while True:
            note = await client.cosigned()
            if note is not None and int(note.split(b"\n")[1]) >= size:
                return
            await asyncio.sleep(0.1)


def test_a_log_behind_what_a_witness_cosigned_is_refused(tmp_path: Path) -> None:
    with Deployment.found(tmp_path / "home") as deployment:
        genesis = deployment.genesis
        folder = make_witness(tmp_path / "witness", str(VerifierKey(genesis.log_origin, genesis.log_key)))
        with running_witness(folder) as witness:
            policy = f"{witness.policy()}quorum W\n"
            (deployment.home / "log" / "witnesses.policy").write_text(policy)
            deployment.start("log", more=["--witness-seconds", "0.2"])
            deployment.start("keeper")
            deployment.adopt_first()
            back_up(deployment, tmp_path / "backup")
            early = carried_away(deployment, tmp_path / "backup", tmp_path / "early")
            deployment.control(deployment.request(Action.FREEZE))
            asyncio.run(_cosigned(deployment.home, deployment.head().size))
            safe = carried_away(deployment, tmp_path / "backup", tmp_path / "log")
            deployment.close()
            # The policy is in the backup; nobody has to name it. Nobody else knows of the later log.
            with pytest.raises(StrongroomError) as caught:
                early.restored(tmp_path / "again")
            assert caught.value.reason == "log-behind"
            assert "witness `W`" in caught.value.message
            restored, told = safe.restored(tmp_path / "again")
            assert "witness `W`" in told.asked
            assert restored.home.exists()
        other = WitnessPolicy.parse(policy.encode())
        with pytest.raises(StrongroomError) as caught:
            safe.restored(tmp_path / "third", witnesses=other)
        assert caught.value.reason == "witnesses-silent"
    assert os.path.lexists(tmp_path / "again")


def test_a_full_disk_leaves_no_backup_behind(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "small", mebibytes=2) as disk,
        Deployment.found(tmp_path / "home") as deployment,
    ):
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        size = deployment.head().size
        fill(disk, leave=65536)
        before = sorted(path.name for path in disk.iterdir())
        with pytest.raises(StrongroomError) as caught:
            back_up(deployment, disk / "backup")
        assert caught.value.reason == "backup-failed"
        assert sorted(path.name for path in disk.iterdir()) == before
        assert deployment.head().size == size
