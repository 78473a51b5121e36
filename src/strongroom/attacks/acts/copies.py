"""Copies that are guarded less: backups in a vendor's store."""

from __future__ import annotations

import os
import time
from pathlib import Path

from strongroom.attacks.attack import attack
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.backup.adapters.making import Wanted, make_backup
from strongroom.backup.adapters.reading import open_backup, verify_backup
from strongroom.core.digest import Digest
from strongroom.core.secret import SecretBytes
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keys.recipient import RecipientIdentity


def _identity() -> RecipientIdentity:
    return RecipientIdentity(SecretBytes(bytearray(os.urandom(96))))


def _backed_up(trial: Trial, operator: RecipientIdentity) -> Path:
    scratch = trial.scratch
    keyring = load_keyring(scratch.home / "keeper")
    target = trial.lab.folder("store") / "backup.srb"
    wanted = Wanted(
        home=scratch.home,
        genesis=scratch.genesis,
        epoch=max(epoch.epoch for epoch in keyring.epochs),
        generation=keyring.generation,
        at=int(time.time()),
        recipients=(operator.public,),
        custodians=(),
    )

    def record(digest: Digest, size: int, log: int) -> None:
        scratch.call("backup-made", backup=str(digest), size=size, log=log)

    make_backup(target, wanted, record=record, random_bytes=os.urandom)
    verify_backup(open_backup(target), operator)
    return target


@attack(
    vectors="SUP-3 BYP-2",
    capacity="OC3",
    measures="SL1-WST-02 SL2-WST-01",
    layer=Layer.BACKUP,
    refusals="other-recipient",
)
def stolen_backup(trial: Trial) -> None:
    """The vendor who stores the backups opens one with identities of their own."""
    operator = _identity()
    with trial.honest("its operator opens it"):
        target = _backed_up(trial, operator)
    for _ in range(2):
        trial.attempt("a stranger's identity", lambda: verify_backup(open_backup(target), _identity()))


@attack(
    vectors="SUP-3 BYP-2",
    capacity="OC3",
    measures="SL1-WST-02 SL2-WMO-01",
    layer=Layer.BACKUP,
    refusals="backup-damaged",
)
def backup_changed_in_its_store(trial: Trial) -> None:
    """A stored backup is changed, cut off and lengthened before it is restored."""
    operator = _identity()
    with trial.honest("untouched it verifies"):
        target = _backed_up(trial, operator)
    kept = target.read_bytes()
    turned = bytearray(kept)
    turned[len(kept) // 2] ^= 1
    for what, data in (("a bit", bytes(turned)), ("cut off", kept[:-100]), ("lengthened", kept + b"\0")):
        target.write_bytes(data)
        trial.attempt(what, lambda: verify_backup(open_backup(target), operator))
