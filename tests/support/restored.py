"""A deployment backed up and put back by the real code, with the real processes over it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from strongroom.access.request import LogHead
from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.backup.adapters.log_copy import published_log
from strongroom.backup.adapters.making import Made, Wanted, make_backup
from strongroom.backup.adapters.reading import open_backup
from strongroom.cli.restoring import Asked, Told, put_back
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.keeper.adapters.escrow_file import EscrowFile
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.package import KeyPackage
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from support.backups import CUSTODIAN, OPERATOR
from support.brokers import RunningBroker
from support.deployment import ROOTS, Deployment
from support.occupied import Occupied


def wanted_of(deployment: Deployment) -> Wanted:
    """Return what a backup of a deployment is made for."""
    keyring = load_keyring(deployment.home / "keeper")
    return Wanted(
        home=deployment.home,
        genesis=deployment.genesis,
        epoch=max(held.epoch for held in keyring.epochs),
        generation=keyring.generation,
        at=int(time.time()),
        recipients=(OPERATOR.public,),
        custodians=(CUSTODIAN.public,),
    )


def back_up(deployment: Deployment, target: Path, reached: Callable[[str], None] = lambda _step: None) -> Made:
    """Make a backup of a running deployment, and have its keeper record it."""

    def record(digest: Digest, size: int, log: int) -> None:
        deployment.call("backup-made", backup=str(digest), size=size, log=log)

    return make_backup(target, wanted_of(deployment), record=record, random_bytes=os.urandom, reached=reached)


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """What is left when the machine is gone: the backup, a key package, and a copy of the published log."""

    deployment: Deployment
    backup: Path
    package: KeyPackage
    log: Path
    head: LogHead

    def order(self, **members: object) -> Envelope:
        """Return the root quorum's order to restore the backup."""
        now = int(time.time())
        order = KeyOrder(
            genesis=self.deployment.genesis.digest,
            act=KeyAct.RESTORE,
            subject=open_backup(self.backup).digest(),
            nonce=os.urandom(16),
            log=self.head,
            issued=now,
            expires=now + 3600,
        )
        return sign(KEY_ORDER_TYPE, replace(order, **members).to_bytes(), *ROOTS[:2])  # type: ignore[arg-type]

    def asked(self, home: Path, **members: object) -> Asked:
        """Return what is asked for to restore everything at ``home``; ``members`` make it otherwise."""
        asked = Asked(
            backup=open_backup(self.backup),
            home=home,
            identities=(OPERATOR, CUSTODIAN),
            package=self.package,
            order=self.order(),
            at=int(time.time()),
            log=published_log(str(self.log)),
        )
        return replace(asked, **members)  # type: ignore[arg-type]

    def restored(self, home: Path, **members: object) -> tuple[Deployment, Told]:
        """Restore; nothing runs yet."""
        told = put_back(self.asked(home, **members))
        return replace(self.deployment, home=home, processes={}), told


def carried_away(deployment: Deployment, backup: Path, place: Path) -> Safe:
    """Copy what custodians and auditors have: the key package and the published log, as they are now."""
    with BlockingLogClient(deployment.home / "run" / "log.sock") as client:
        client.flush()
    shutil.copytree(deployment.home / "log" / "public", place, ignore=shutil.ignore_patterns("*.new"))
    folder = deployment.home / "keeper"
    package = KeyPackage.of(deployment.genesis, load_keyring(folder), EscrowFile(folder).load())
    return Safe(
        deployment=deployment,
        backup=backup,
        package=KeyPackage.parse(package.to_bytes()),
        log=place,
        head=deployment.head(),
    )


@contextmanager
def occupied_again(house: Occupied, deployment: Deployment) -> Iterator[Occupied]:
    """Start the processes of a restored deployment, with the same people."""
    broker = RunningBroker(deployment.home, deployment.genesis, house.running.keeper)
    with deployment:
        deployment.start("log")
        deployment.start("keeper")
        broker.start()
        try:
            yield Occupied(deployment, broker, dict(house.manifests))
        finally:
            broker.stop()
