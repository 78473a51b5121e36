"""Torch checkpoints: a zip of one pickle and the storages that it names, whose sizes must agree.

Programs in a checkpoint (TorchScript: ``code/``, ``constants.pkl``) are refused: they run when they are loaded.
"""

from __future__ import annotations

import re
from typing import Final

from strongroom.intake.formats.pickle_globals import TORCH_GLOBALS, Globals
from strongroom.intake.formats.pickle_machine import View
from strongroom.intake.formats.pickles import PickleFacts, check_checkpoint_pickle, checkpoint_tensors
from strongroom.intake.formats.safetensors import TensorFacts
from strongroom.intake.formats.zips import STORED, Placed, check_zip, entry_bytes
from strongroom.intake.rules import IntakeRefusedError, Rule, shown
from strongroom.intake.source import Part, Source

_STORAGE: Final = re.compile(r"data/([0-9]{1,9})")
_SIDE: Final = frozenset({"version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment"})
_PROGRAM: Final = re.compile(r"code/.*|constants\.pkl|constants/.*|extra/.*|attributes\.pkl|model\.json")
_PICKLE: Final = "data.pkl"
_MAX_SIDE: Final = 4096


def check_torch_zip(source: Source, where: str, *, allowed: Globals = TORCH_GLOBALS) -> tuple[TensorFacts, PickleFacts]:
    """Judge a checkpoint as ``torch.save`` writes it.

    :raises IntakeRefusedError: torch-layout, torch-script, torch-storage, or as the archive's and the pickle's readers.
    """
    placed = check_zip(source, where)
    files = _files(placed, where)
    for one in placed:
        if one.entry.method != STORED:
            raise IntakeRefusedError(Rule.TORCH_LAYOUT, f"{where}: {shown(one.entry.name)} is compressed")
        # Read through for its checksum: a loader may or may not compare it.
        for _piece in entry_bytes(source, where, one):
            pass
    pickle = files.pop(_PICKLE, None)
    if pickle is None:
        raise IntakeRefusedError(Rule.TORCH_LAYOUT, f"{where}: no `data.pkl`")
    order = files.pop("byteorder", None)
    if order is not None and _content(source, order) != b"little":
        raise IntakeRefusedError(Rule.TORCH_LAYOUT, f"{where}: a byte order that isn't `little`")
    facts = check_checkpoint_pickle(_part(source, pickle), f"{where}/data.pkl", allowed=allowed)
    return _check_storages(facts, files, where), facts


def open_torch_zip(source: Source, where: str) -> tuple[dict[str, View], dict[str, Source]]:
    """Return a checkpoint's tensors by name, and its storages by key. Nothing is loaded: the pickle is read as judged.

    :raises IntakeRefusedError: as :func:`check_torch_zip`, or the tensors can't be told by names.
    """
    check_torch_zip(source, where)
    files = _files(check_zip(source, where), where)
    tensors = checkpoint_tensors(_part(source, files[_PICKLE]), f"{where}/data.pkl", allowed=TORCH_GLOBALS)
    stored: dict[str, Source] = {
        found[1]: _part(source, one) for name, one in files.items() if (found := _STORAGE.fullmatch(name))
    }
    return tensors, stored


def _files(placed: tuple[Placed, ...], where: str) -> dict[str, Placed]:
    """Return the entries by their names under the one folder that all of them lie in."""
    prefixes = {one.entry.name.partition("/")[0] for one in placed}
    if len(prefixes) != 1:
        raise IntakeRefusedError(Rule.TORCH_LAYOUT, f"{where}: entries in more than one folder, or none")
    files = {one.entry.name.partition("/")[2]: one for one in placed}
    for name, one in files.items():
        if _PROGRAM.fullmatch(name):
            raise IntakeRefusedError(
                Rule.TORCH_SCRIPT, f"{where}: {shown(name)} is part of a program", remedy="ask for the weights alone"
            )
        small = name in _SIDE and one.entry.size <= _MAX_SIDE
        if name != _PICKLE and not small and not _STORAGE.fullmatch(name):
            raise IntakeRefusedError(Rule.TORCH_LAYOUT, f"{where}: {shown(name)} isn't part of a checkpoint")
    return files


def _part(source: Source, placed: Placed) -> Part:
    return Part(source, placed.begin, placed.entry.size)


def _content(source: Source, placed: Placed) -> bytes:
    return source.read(placed.begin, placed.entry.size)


def _check_storages(facts: PickleFacts, files: dict[str, Placed], where: str) -> TensorFacts:
    stored = {found[1]: one.entry.size for name, one in files.items() if (found := _STORAGE.fullmatch(name))}
    total = 0
    for storage in facts.storages:
        size = storage.item_bytes * storage.elements
        # An empty storage may be left out by a writer.
        if stored.pop(storage.key, 0) != size:
            raise IntakeRefusedError(Rule.TORCH_STORAGE, f"{where}: storage {storage.key} isn't as large as it says")
        total += size
    if stored:
        raise IntakeRefusedError(Rule.TORCH_STORAGE, f"{where}: {len(stored)} storages that the pickle doesn't name")
    return TensorFacts(len(facts.storages), total)
