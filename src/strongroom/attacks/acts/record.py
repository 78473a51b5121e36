"""Who wants another past: the log rewritten, cut off, forked with its own stolen key, rolled back; clocks set back."""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from strongroom.access.request import Action
from strongroom.attacks.attack import attack
from strongroom.attacks.lab.cast import DAY, STRANGER
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import LogError
from strongroom.audit.merkle import leaf_hash, tree_root
from strongroom.audit.note import VerifierKey
from strongroom.audit.replay import EntryChecks
from strongroom.audit.tiles import TileBuilder, bundles_of, encode_bundle, read_bundle
from strongroom.audit.verify import SeenRoot, verify_log
from strongroom.audit.wiring import Places
from strongroom.core import canonical
from strongroom.core.digest import Digest
from strongroom.core.signature import Ed25519Signer, Signer

COPIES: Final = 5
PUBLISHING_SECONDS: Final = 0.3


class _Published:
    """A copy of the published log, to be rewritten, and the auditor who verifies it."""

    def __init__(self, trial: Trial) -> None:
        scratch = trial.scratch
        self.genesis = scratch.genesis
        self.key = VerifierKey(self.genesis.log_origin, self.genesis.log_key)
        self.folder = trial.lab.copied(scratch.home / "log" / "public")
        self.size = self.verify()
        bundles = bundles_of(self.size)
        self.entries = [entry for bundle in bundles for entry in read_bundle(FolderSource(self.folder), bundle)]
        self.kept = (self.folder / "checkpoint").read_bytes()

    def verify(self, *, kept: bytes = b"") -> int:
        """Verify as an auditor does, offline; returns the number of entries. ``kept``: a checkpoint seen earlier."""
        checks = EntryChecks(keeper_key=self.genesis.keeper_key, genesis=self.genesis.digest)
        seen = [SeenRoot.kept(kept, self.key)] if kept else []
        return verify_log(FolderSource(self.folder), self.key, entries=checks, seen=seen).checkpoint.size

    def rewrite(self, entries: list[bytes], signer: Signer) -> None:
        """Publish other entries, consistent throughout and signed by whom the attacker has."""
        shutil.rmtree(self.folder)
        files: dict[str, bytes] = {}
        builder = TileBuilder()
        for entry in entries:
            files.update({tile.path: data for tile, data in builder.append(leaf_hash(entry))})
        files.update({tile.path: data for tile, data in builder.partials()})
        for bundle in bundles_of(len(entries)):
            files[bundle.path] = encode_bundle(entries[bundle.index * 256 :][: bundle.width])
        root = tree_root(leaf_hash(entry) for entry in entries)
        files["checkpoint"] = Checkpoint(self.genesis.log_origin, len(entries), root).sign(signer)
        for path, data in files.items():
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / path).write_bytes(data)


def _published(trial: Trial) -> _Published:
    with trial.honest("the untouched copy verifies offline"):
        trial.scratch.exported()
        for _ in range(COPIES - 1):
            # What is copied while it is published may be half of one state and half of the next.
            with suppress(LogError, shutil.Error):
                return _Published(trial)
            time.sleep(PUBLISHING_SECONDS)
        return _Published(trial)


def _log_key(trial: Trial) -> Ed25519Signer:
    """Return the log's own signing key: what who controls the log writer has."""
    return Ed25519Signer.from_seed(Places(trial.scratch.home).key.read_bytes())


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL2-WMO-01 SL4-WMO-02",
    layer=Layer.LOG,
    refusals="log-entry-edited",
)
def log_entry_edited(trial: Trial) -> None:
    """An administrator edits one entry of the published log."""
    copy = _published(trial)
    entries = list(copy.entries)
    entries[-1] = entries[-1].replace(b'"at":"20', b'"at":"19', 1)
    bundle = tuple(bundles_of(copy.size))[-1]
    (copy.folder / bundle.path).write_bytes(encode_bundle(entries[bundle.index * 256 :][: bundle.width]))
    trial.attempt("the last entry's time", copy.verify)
    trial.finding("the offline verification names the entry")


@attack(
    vectors="CEC-4 ACS-4",
    capacity="OC3",
    measures="SL2-WMO-01 SL4-WMO-02",
    layer=Layer.LOG,
    refusals="log-entry-forged log-sequence-gap",
)
def log_rewritten_with_its_own_key(trial: Trial) -> None:
    """Who controls the log writer edits, leaves out and invents entries, and signs all of it with the log's key."""
    copy, key = _published(trial), _log_key(trial)
    edited = [
        entry.replace(b'"at":"20', b'"at":"19', 1) if at == copy.size - 2 else entry
        for at, entry in enumerate(copy.entries)
    ]
    left_out = [entry for at, entry in enumerate(copy.entries) if at != copy.size - 3]
    doubled = [*copy.entries, copy.entries[-1]]
    for what, entries in (("edited", edited), ("left out", left_out), ("shown twice", doubled)):
        copy.rewrite(entries, key)
        trial.attempt(f"an entry {what}", copy.verify)
    trial.finding("the offline verification names the entry")


@attack(
    vectors="CEC-4 ACS-4",
    capacity="OC3",
    measures="SL2-WMO-01",
    layer=Layer.LOG,
    refusals="log-rows-missing",
)
def log_cut_off(trial: Trial) -> None:
    """The log's end is cut off, and the rest signed with the log's own key; an auditor kept a checkpoint."""
    copy, key = _published(trial), _log_key(trial)
    copy.rewrite(copy.entries[:-2], key)
    trial.attempt("two entries fewer", lambda: copy.verify(kept=copy.kept))
    trial.finding("the auditor's kept checkpoint is ahead")


@attack(
    vectors="ACS-1",
    capacity="OC3",
    measures="SL2-WMO-01",
    layer=Layer.LOG,
    refusals="log-key-wrong",
)
def log_signed_by_another_key(trial: Trial) -> None:
    """A whole log of the attacker's own, signed with a key of theirs under the log's name."""
    copy = _published(trial)
    copy.rewrite(copy.entries, trial.scratch.cast.signer(STRANGER))
    trial.attempt("their own key", copy.verify)
    trial.finding("the checkpoint isn't this log's")


def _put_back(trial: Trial, what: str, *names: str) -> None:
    """Copy files of a stopped deployment, freeze a model, put the copies back, and try to start."""
    scratch = trial.scratch
    copies = trial.lab.folder("earlier")
    with trial.honest("it is stopped and started without a change"), scratch.all_down():
        for name in names:
            _copy(scratch.home / name, copies / name)
    scratch.control(scratch.ask(Action.FREEZE))
    trial.begin()
    scratch.stop()
    later = trial.lab.folder("later")
    for name in names:
        _copy(scratch.home / name, later / name)
        _copy(copies / name, scratch.home / name)
    trial.attempt(what, scratch.start)
    scratch.stop()
    for name in names:
        _copy(later / name, scratch.home / name)
    scratch.start()


def _copy(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def _thaw(trial: Trial) -> None:
    both = trial.scratch.ask(Action.RESUME)
    trial.scratch.approve(both)
    trial.scratch.control(both)


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WMO-01 SL3-WMO-01",
    layer=Layer.PINS,
    refusals="rolled-back",
)
def log_rolled_back(trial: Trial) -> None:
    """The log's whole folder from before a freeze is put back, and the deployment started on it."""
    _put_back(trial, "the log from before", "log")
    trial.finding("the keeper doesn't start, and says why")
    _thaw(trial)


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WMO-01",
    layer=Layer.LOG,
    refusals="log-store-damaged",
)
def log_store_put_back_alone(trial: Trial) -> None:
    """The log's database alone is put back as it was; what was published stays."""
    _put_back(trial, "an older store", "log/log.db")
    trial.finding("the log writer doesn't start, and says why")
    _thaw(trial)


@attack(
    vectors="CEC-4",
    capacity="OC3",
    measures="SL2-WST-02 SL2-WMO-01",
    layer=Layer.PINS,
    refusals="rolled-back",
)
def keepers_pins_edited(trial: Trial) -> None:
    """The keeper's own pins are rewritten, so that they fit a log of the attacker's own."""
    scratch = trial.scratch
    pins = scratch.home / "keeper" / "pins.json"
    with trial.honest("the keeper is stopped and started with its pins as they are"):
        scratch.processes.stop("keeper")
        scratch.processes.start("keeper")
    trial.begin()
    scratch.processes.stop("keeper")
    kept = pins.read_bytes()
    told = json.loads(kept)
    pins.write_bytes(canonical.encode({**told, "log_root": str(Digest.of(b"another log"))}))
    trial.attempt("a changed pin", lambda: scratch.processes.start("keeper"))
    if "keeper" in scratch.processes.running:
        scratch.processes.stop("keeper")
    pins.write_bytes(kept)
    scratch.processes.start("keeper")
    trial.finding("the keeper doesn't start, and says why")


@attack(
    vectors="CEC-4",
    capacity="OC2",
    measures="SL3-WAC-01 SL2-WMO-01",
    layer=Layer.PINS,
    refusals="rolled-back",
)
def clock_set_back(trial: Trial) -> None:
    """The keeper's machine has its clock set back by a day, so that what is over is valid again."""
    scratch = trial.scratch
    with trial.honest("the same way, the keeper starts with the clock as it is"):
        scratch.processes.stop("keeper")
        scratch.processes.start("keeper", clock=0)
    trial.begin()
    scratch.processes.stop("keeper")
    trial.attempt("a day back", lambda: scratch.processes.start("keeper", clock=-DAY))
    if "keeper" in scratch.processes.running:
        scratch.processes.stop("keeper")
    scratch.processes.start("keeper")
    trial.finding("the keeper doesn't start, and says why")
