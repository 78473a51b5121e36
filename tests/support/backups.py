"""Backups of made-up parts and a real log, made and read by the real code; and identities that open them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from strongroom.audit.checkpoint import Checkpoint
from strongroom.backup.adapters.making import Made, Wanted, write_backup
from strongroom.backup.adapters.snapshot import Staged
from strongroom.backup.contents import GENESIS as GENESIS_PART
from strongroom.backup.contents import LOG_ENTRIES, part_name
from strongroom.backup.entries import Rebuilt, position_of, write_entry
from strongroom.backup.header import Part
from strongroom.core.digest import Digest
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import RecipientIdentity
from support.logs import AT, GENESIS, LOG_SIGNER, ORIGIN, some_entries

KEPT: Final = {
    "log.pub": b"a verifier key\n",
    "broker/broker.db": bytes(range(256)) * 9000,
    "keeper/pins.json": b"{}",
    "keeper/people/" + "5a" * 16 + ".key": b"",
    "keeper/roster-" + "0" * 64 + ".json": b"an envelope",
}
OWN: Final = {"log/log.key": b"s" * 32, "broker/ca/ca.key": b"a key"}


def identity(letter: bytes) -> RecipientIdentity:
    """Return the recipient identity that a letter stands for; the same in every run."""
    return RecipientIdentity(SecretBytes(bytearray(hashlib.shake_256(letter).digest(96))))


OPERATOR, SECOND, CUSTODIAN, STRANGER = (identity(letter) for letter in (b"o", b"2", b"c", b"s"))


def wanted(home: Path, *, machine: bool = True) -> Wanted:
    """Return what a backup is made for: two operators, and one custodian for the machine's own section."""
    return Wanted(
        home=home,
        genesis=GENESIS,
        epoch=3,
        generation=2,
        at=AT,
        recipients=(OPERATOR.public, SECOND.public, OPERATOR.public),
        custodians=(CUSTODIAN.public,) if machine else (),
    )


def staged(folder: Path, entries: int = 5) -> Staged:
    """Lay out parts as :func:`strongroom.backup.adapters.snapshot.take` does."""
    rebuilt, log = Rebuilt(GENESIS), b""
    for data in some_entries(entries):
        rebuilt.take(data)
        log += write_entry(data)
    note = Checkpoint(ORIGIN, rebuilt.size, rebuilt.root).sign(LOG_SIGNER)
    parts = {**KEPT, **OWN, LOG_ENTRIES: log, GENESIS_PART: GENESIS.to_bytes()}
    for name, data in parts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    measured = [
        Part(name=part_name(name), size=len(parts[name]), digest=Digest.of(parts[name])) for name in sorted(parts)
    ]
    return Staged(folder=folder, position=position_of(rebuilt, note), parts=tuple(measured))


def made_backup(folder: Path, *, machine: bool = True) -> tuple[Path, Made]:
    """Make a backup in ``folder``; returns its file."""
    path = folder / "backup.srb"
    return path, write_backup(path, staged(folder / "parts"), wanted(folder, machine=machine), _random)


def _random(count: int) -> bytes:
    return hashlib.shake_256(b"random").digest(count)
