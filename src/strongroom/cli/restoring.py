"""Putting a deployment back from a backup, a log and a key package: beside its place, and there only when all fits."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.access.request import REQUEST_TYPE, Request
from strongroom.audit.adapters.stores import PASSWORD, SETTINGS
from strongroom.audit.succession import Shard, Succession
from strongroom.audit.witness_policy import WitnessPolicy
from strongroom.backup.adapters.log_copy import BackedUpLog, LogCopy, fill_store, whole_log
from strongroom.backup.adapters.reading import Backup, PartSink, read_section
from strongroom.backup.adapters.witness_heads import ask_witnesses
from strongroom.backup.contents import (
    BROKER_DATABASE,
    GENESIS,
    LOG_ENTRIES,
    WITNESS_POLICY,
    Section,
    log_key_name,
)
from strongroom.backup.entries import Rebuilt, read_entries, rebuilding, require_position
from strongroom.backup.errors import BackupDamagedError, RestoreRefusedError
from strongroom.backup.header import Part
from strongroom.backup.judgement import SeenHead, require_reaches, require_witnesses, seen_checkpoint
from strongroom.backup.replaying import Replayed
from strongroom.broker.adapters.restoring import Vouched, keep_vouched, signed_requests, wrapping_keks
from strongroom.cli.files import require_new
from strongroom.cli.staging import whole_or_none
from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, verify
from strongroom.core.errors import MalformedError, StrongroomError, TamperedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId
from strongroom.core.signature import SEED_BYTES, Ed25519Signer, PublicKey
from strongroom.keeper.adapters.escrow_file import EscrowFile
from strongroom.keeper.adapters.files import PinFile, RestoredFile, save_keyring
from strongroom.keeper.package import KeyPackage
from strongroom.keeper.restoring import (
    Fitted,
    Restored,
    examine_restore,
    fit,
    require_ordered,
    restored_pins,
    seen_by,
    summary,
)
from strongroom.keys.recipient import RecipientIdentity
from strongroom.personnel.roster import ROSTER_TYPE, Roster
from strongroom.release.documents import DocumentKind, adopted

CHUNK: Final = 1 << 20
_LOST: Final = "their weights stay sealed for ever; go on without them: --without MODEL for each"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be put back, from what, and what somebody saw."""

    backup: Backup
    home: Path
    identities: tuple[RecipientIdentity, ...]
    package: KeyPackage
    order: Envelope
    at: Instant
    log: LogCopy | None = None
    """None: the backup's own log is the newest that there is."""
    witnesses: WitnessPolicy | None = None
    """None: those that the deployment asked when the backup was made."""
    authority: Path | None = None
    seen: tuple[tuple[str, bytes], ...] = ()
    """Checkpoints that somebody kept, each with where it is from."""
    log_key: bytes | None = None
    """The seed of the log's key, where the backup doesn't hold it, or none of the identities opens it."""
    store: tuple[tuple[str, bytes], ...] = ()
    """Settings of the log's store, by their file names: none for a file under the home."""
    without: frozenset[ModelId] = frozenset()
    """Models that may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of it."""

    genesis: Digest
    backup: Digest
    numbers: dict[str, int]
    dropped: dict[str, int]
    """Rows of the broker's database that the log doesn't vouch for, by table."""
    missing: tuple[str, ...]
    """Documents in force that are to be handed in again."""
    lost: tuple[ModelId, ...]
    asked: tuple[str, ...]
    """Who the log was compared with."""
    newer: int
    """Entries of the log that are newer than the backup."""


def put_back(asked: Asked, reached: Callable[[str], None] = lambda _step: None) -> Told:
    """Restore a deployment into a folder that doesn't exist yet.

    :param reached: is told each step; crash tests end the process there.
    :raises ConflictError: the folder is there.
    :raises RestoreRefusedError: the log is behind what somebody saw, or something is missing.
    :raises KeyOrderRefusedError: nobody ordered this backup to be restored.
    :raises KeysMissingError: the key package is too old for the log.
    :raises BackupDamagedError: the backup isn't whole.
    """
    home = asked.home.absolute()
    require_new(home)
    with whole_or_none(home, "restoring") as staging:
        reached("begun")
        told = _Restoration(asked, staging).run(reached)
    reached("named")
    return told


class _Restoration:
    """One restoration, in a folder beside its place."""

    def __init__(self, asked: Asked, staging: Path) -> None:
        self._asked = asked
        self._staging = staging
        self._digest = asked.backup.digest()
        self._replayed: Replayed

    def run(self, reached: Callable[[str], None]) -> Told:
        self._take_out()
        genesis = self._genesis()
        # The package comes from a safe: it says which genesis is ours, and that one whose order counts. Anybody can
        # encrypt a backup of their own making; until here nothing of it was opened but the genesis.
        self._asked.package.verify(genesis)
        require_ordered(self._asked.order, self._digest, genesis)
        reached("taken out")
        position = self._asked.backup.header.log
        self._check_own_log(genesis)
        copy = self._asked.log or BackedUpLog(self._staging, position)
        self._replayed = Replayed(genesis)
        for _entry in self._replayed.through(whole_log(copy, self._replayed.rebuilt)):
            pass
        ledger, succession = self._replayed.ledger, self._replayed.rebuilt.succession
        seen = self._seen(succession)
        require_reaches(ledger, seen)
        examine_restore(self._asked.order, self._digest, genesis, ledger, self._asked.at)
        fitted = self._fitted()
        shut = self._without_rows(fitted)
        self._log_key(succession.current)
        reached("judged")
        self._fill(copy, succession)
        reached("log filled")
        self._keeper(genesis, fitted)
        reached("keeper's files")
        dropped = self._rows()
        reached("rows")
        self._tidy()
        return Told(
            genesis=genesis.digest,
            backup=self._digest,
            numbers=dict(summary(fitted, ledger)),
            dropped=dropped,
            missing=tuple(self._missing_documents()),
            lost=tuple(sorted({*fitted.models, *shut})),
            asked=tuple(sorted({one.by for one in seen})),
            newer=ledger.size - position.size,
        )

    # --- the backup -------------------------------------------------------------------------------------------------

    def _take_out(self) -> None:
        opened = {
            kind
            for kind in Section
            for identity in self._asked.identities
            if read_section(self._asked.backup, kind, identity, self._sink)
        }
        if Section.RECORDS not in opened:
            raise RestoreRefusedError(
                "the backup isn't encrypted to this recipient key",
                reason="other-recipient",
                remedy="see `strongroom backup show` for the digests of the keys that open it",
            )

    def _sink(self, part: Part) -> PartSink:
        # The name is one of the closed list: it can't lead out of here.
        place = self._staging / part.name
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        return _Synced(handle)

    def _genesis(self) -> Genesis:
        header = self._asked.backup.header
        genesis = Genesis.parse(self._read(GENESIS))
        if not genesis.digest.matches(header.genesis):
            raise BackupDamagedError("the backup's genesis isn't the one that its header names")
        return genesis

    def _check_own_log(self, genesis: Genesis) -> None:
        rebuilt, position = Rebuilt(genesis), self._asked.backup.header.log
        with (self._staging / LOG_ENTRIES).open("rb") as file:
            chunks = iter(lambda: file.read(CHUNK), b"")
            for _entry in rebuilding(read_entries(chunks), rebuilt, most=position.size):
                pass
        require_position(rebuilt, position)

    # --- what was seen ----------------------------------------------------------------------------------------------

    def _seen(self, succession: Succession) -> list[SeenHead]:
        position, order = self._asked.backup.header.log, seen_by(self._asked.order)
        seen = [
            SeenHead(size=position.size, root=position.root.value, by="the backup"),
            SeenHead(size=order.size, root=order.root.value, by="whoever signed the order"),
            *(seen_checkpoint(note, succession, f"`{where}`") for where, note in self._asked.seen),
            *self._heads_in_rows(),
        ]
        policy = self._asked.witnesses or self._kept_policy()
        if policy is not None:
            told = ask_witnesses(policy, succession, self._asked.authority or self._kept_authority())
            require_witnesses(policy, told)
            seen += told.values()
        return seen

    def _kept_policy(self) -> WitnessPolicy | None:
        return WitnessPolicy.parse(self._read(WITNESS_POLICY)) if (self._staging / WITNESS_POLICY).exists() else None

    def _kept_authority(self) -> Path | None:
        place = self._staging / "log" / "witnesses-ca.pem"
        return place if place.exists() else None

    def _heads_in_rows(self) -> Iterator[SeenHead]:
        """Yield the heads that people signed in requests which the log doesn't have: they saw a longer one."""
        if not (self._staging / BROKER_DATABASE).exists():
            return
        ledger, keys = self._replayed.ledger, self._people()
        for envelope in signed_requests(self._staging / BROKER_DATABASE):
            try:
                request = Request.parse(envelope.payload)
                if envelope.digest in self._replayed.named or request.log.size <= ledger.size:
                    continue
                # Whoever wrote the row may have made it up; who signed it is one of the deployment's people.
                verify(envelope, REQUEST_TYPE, keys, threshold=1)
            except StrongroomError:
                continue
            yield SeenHead(size=request.log.size, root=request.log.root.value, by=f"a request of `{request.requester}`")

    def _people(self) -> list[PublicKey]:
        keys: dict[PublicKey, None] = {}
        for path in sorted((self._staging / "keeper").glob("roster-*.json")):
            try:
                envelope = Envelope.parse(path.read_bytes())
                self._replayed.genesis.verify_root(envelope, ROSTER_TYPE)
                keys |= {key: None for person in Roster.parse(envelope.payload).people for key in person.keys}
            except (MalformedError, TamperedError):
                continue
        return list(keys)

    # --- keys -------------------------------------------------------------------------------------------------------

    def _fitted(self) -> Fitted:
        fitted = fit(self._asked.package.keyring, self._replayed.ledger.keys)
        unexpected = [model for model in fitted.models if model not in self._asked.without]
        if unexpected:
            raise RestoreRefusedError(
                f"the key package holds no key of {len(unexpected)} models, among them `{unexpected[0]}`",
                reason="keys-missing",
                remedy=f"take the newest key package. Is there none with them, {_LOST}",
            )
        return fitted

    def _without_rows(self, fitted: Fitted) -> tuple[ModelId, ...]:
        """Return the models whose current version's data key this backup lacks, or has under a KEK that is gone."""
        if not (self._staging / BROKER_DATABASE).exists():
            return ()
        ledger, rows = self._replayed.ledger, wrapping_keks(self._staging / BROKER_DATABASE)
        held = {(kek.model, kek.kek) for kek in fitted.keyring.keks}
        shut = [
            model
            for model, versions in ledger.versions.items()
            if model not in ledger.keys.destroyed
            and model not in fitted.models
            and (model, rows.get(versions[-1].data_key, "")) not in held
        ]
        unexpected = [model for model in shut if model not in self._asked.without]
        if unexpected:
            raise RestoreRefusedError(
                f"the backup is older than the data keys of {len(unexpected)} models, among them `{unexpected[0]}`",
                reason="backup-behind-keys",
                remedy=f"take a backup from after they were sealed and their KEKs rotated. Is there none, {_LOST}",
            )
        return tuple(shut)

    def _log_key(self, shard: Shard) -> None:
        place = self._staging / log_key_name(shard.folder)
        if self._asked.log_key is not None:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(place, self._asked.log_key)
        seed = place.read_bytes() if place.exists() else b""
        if len(seed) != SEED_BYTES or Ed25519Signer.from_seed(seed).public_key != shard.key:
            raise RestoreRefusedError(
                f"the key of shard {shard.number} of the log is missing, or is another one",
                reason="log-key-missing",
                remedy="open the backup's machine section with a custodian's key too, or give --log-key",
            )

    # --- filling ----------------------------------------------------------------------------------------------------

    def _fill(self, copy: LogCopy, succession: Succession) -> None:
        folder = self._staging / "log"
        for name, data in self._asked.store:
            write_durably(folder / name, data)
        for shard in succession.shards:
            note = copy.note(shard)
            if note is not None:
                fill_store(folder, shard, copy.entries(shard), note, os.urandom)

    def _keeper(self, genesis: Genesis, fitted: Fitted) -> None:
        folder = self._staging / "keeper"
        folder.mkdir(mode=0o700, exist_ok=True)
        save_keyring(folder, fitted.keyring)
        if self._asked.package.escrow is not None:
            EscrowFile(folder).save(self._asked.package.escrow)
        PinFile(folder).save(restored_pins(genesis, self._replayed.ledger, self._asked.at))
        write_durably(folder / "genesis.digest", f"{genesis.digest}\n".encode())
        backup = self._asked.backup
        marker = Restored(order=self._asked.order, backup=self._digest, size=backup.size, lost=fitted.lost)
        RestoredFile(folder).save(marker)

    def _rows(self) -> dict[str, int]:
        place = self._staging / BROKER_DATABASE
        if not place.exists():
            return {}
        ledger = self._replayed.ledger
        return keep_vouched(
            place,
            Vouched(
                objects=self._replayed.named,
                platforms={str(platform): record for platform, record in ledger.platforms.items()},
                manifests={(m, one.version): one.manifest for m, known in ledger.versions.items() for one in known},
                data_keys=ledger.data_keys.keys(),
            ),
        )

    def _tidy(self) -> None:
        (self._staging / "run").mkdir(mode=0o700, exist_ok=True)
        (self._staging / LOG_ENTRIES).unlink()
        shutil.rmtree(self._staging / "log" / "finals", ignore_errors=True)
        for folder, _names, _files in os.walk(self._staging):
            sync_folder(Path(folder))

    def _missing_documents(self) -> Iterable[str]:
        for kind in DocumentKind:
            in_force = adopted(self._replayed.ledger, kind)
            if in_force is None:
                continue
            if not (self._staging / "keeper" / f"{kind.value}-{in_force.document.value.hex()}.json").exists():
                yield f"{kind.value} of epoch {in_force.epoch}"

    def _read(self, name: str) -> bytes:
        try:
            return (self._staging / name).read_bytes()
        except FileNotFoundError:
            raise BackupDamagedError(f"the backup has no part `{name}`") from None


class _Synced:
    """A file that is on the disk once it is closed."""

    def __init__(self, handle: int) -> None:
        self._file = os.fdopen(handle, "wb")

    def write(self, data: bytes) -> int:
        return self._file.write(data)

    def close(self) -> None:
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()


def store_settings(settings: Path, password: Path | None) -> tuple[tuple[str, bytes], ...]:
    """Read the settings of the log's store that a restored deployment is to have.

    :raises UsageError: one can't be read.
    """
    try:
        found = [(SETTINGS, settings.read_bytes()), *([(PASSWORD, password.read_bytes())] if password else [])]
    except OSError:
        raise UsageError("the settings of the log's store can't be read") from None
    return tuple(found)
