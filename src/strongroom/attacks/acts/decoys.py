"""Who came as far as the storage, and opens what nobody has a reason to open."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from strongroom.attacks.attack import attack
from strongroom.attacks.lab.cast import MODEL
from strongroom.attacks.lab.guarded import guarded, let_go, wait_for_freeze
from strongroom.attacks.layers import Layer
from strongroom.attacks.trial import Trial
from strongroom.keys.recipient import RecipientKey


@attack(
    vectors="CEC-4 BYP-2",
    capacity="OC3",
    measures="SL3-TDR-01 SL3-WMO-02",
    layer=Layer.DECOYS,
    refusals="EPERM model-frozen",
)
def opened_decoy(trial: Trial) -> None:
    """Root on the storage opens a decoy by each of its names, and goes on to an approved key of that model."""
    scratch, folder = trial.scratch, trial.lab.folder("responder")
    with let_go(scratch), guarded(scratch, folder) as (decoy, *_others):
        with trial.honest("sealed files beside it open, and a key that two others agreed to is delivered"):
            for path in scratch.versions[MODEL].folder.rglob("*.sealed"):
                _begins(path)
            scratch.exported()
        key = RecipientKey()
        request = scratch.ask_export(key)
        scratch.approve(request)
        trial.begin()
        trial.attempt("by its name", lambda: _begins(decoy))
        trial.attempt("by a second name", lambda: _begins(_linked(decoy, folder / "by-a-link", os.link)))
        trial.attempt("by a symbolic link", lambda: _begins(_linked(decoy, folder / "by-another", os.symlink)))
        trial.attempt("by a handle that was none to read", lambda: _begins_by_handle(decoy))
        trial.attempt("to write to it", lambda: decoy.open("r+b").close())
        wait_for_freeze(scratch)
        trial.attempt("an approved export of the model that it stands for", lambda: scratch.export(request, key))
        trial.finding("the guard told its responder, which froze the model")


def _begins(path: Path) -> int:
    with path.open("rb") as file:
        return len(file.read(1))


def _linked(path: Path, name: Path, link: Callable[[Path, Path], None]) -> Path:
    link(path, name)
    return name


def _begins_by_handle(path: Path) -> int:
    # Such a handle is given without a question: what it stands for isn't opened yet.
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return _begins(Path(f"/proc/self/fd/{handle}"))
    finally:
        os.close(handle)
