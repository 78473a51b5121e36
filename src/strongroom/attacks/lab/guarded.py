"""A responder beside the scratch deployment: the shipped program, with decoys of its own and the kernel's guard.

Where files can't be guarded, by this kernel or this user, attacks on decoys don't run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from strongroom.access.request import Action
from strongroom.attacks.ending import NotRunError, SetupError
from strongroom.attacks.lab.cast import MODEL
from strongroom.attacks.lab.scratch import Scratch
from strongroom.client.adapters.wallet_folder import TLS_CERTIFICATE, TLS_KEY, WalletFolder
from strongroom.core.ids import PersonId
from strongroom.core.secret import SecretBytes
from strongroom.detection.adapters.fanotify import FileGuard, GuardUnavailableError
from strongroom.responder.planting.wiring import plant_shards

RESPONDER: Final = "dana"
"""Who of the cast may freeze: in whose name the responder does."""
_FREEZE_SECONDS: Final = 10.0


def guard_settings(host: str, model: str) -> dict[str, object]:
    """Return the settings of a responder that hears its guard alone."""
    return {
        "v": 1,
        "host": host,
        "models": [model],
        "watched": [],
        "readers": [],
        "gates": [],
        "sensors": [],
        "acting": ["guard"],
        "freezes_an_hour": 100,
    }


@contextmanager
def guarded(scratch: Scratch, folder: Path) -> Iterator[tuple[Path, ...]]:
    """Plant a sealed directory below ``folder`` that nobody has a reason to open, and guard it; yields its files.

    :raises NotRunError: files can't be guarded here.
    """
    need_guard(folder)
    wallet, state, settings = _wallet(scratch, folder / "wallet"), folder / "state", folder / "responder.json"
    like = scratch.versions[MODEL].folder
    decoys = plant_shards(folder / f"{MODEL}-2.sealed", like, state, wallet, now=int(time.time()))
    settings.write_text(json.dumps(guard_settings("scratch", MODEL)))
    given = ("--wallet", str(folder / "wallet"), "--settings", str(settings), "--state", str(state))
    scratch.processes.start("responder", *given)
    try:
        yield tuple(Path(one.path) for one in decoys)
    finally:
        scratch.processes.stop("responder")


@contextmanager
def let_go(scratch: Scratch) -> Iterator[None]:
    """Have people let the model go again if it is frozen at the end, whatever went wrong: others use this copy."""
    try:
        yield
    finally:
        if _frozen(scratch):
            request = scratch.ask(Action.RESUME)
            scratch.approve(request)
            scratch.control(request)


def wait_for_freeze(scratch: Scratch) -> None:
    """Wait until the keeper gives nothing of the model to anybody, or for long enough."""
    ends = time.monotonic() + _FREEZE_SECONDS
    while not _frozen(scratch) and time.monotonic() < ends:
        time.sleep(0.05)


def _frozen(scratch: Scratch) -> bool:
    frozen = scratch.call("status")["frozen"]
    return isinstance(frozen, list) and MODEL in frozen


def need_guard(folder: Path) -> None:
    """Refuse where files in a folder can't be guarded.

    :raises NotRunError: they can't, by this kernel or this user.
    """
    probe = folder / "probe"
    probe.touch()
    try:
        FileGuard([probe]).close()
    except GuardUnavailableError as error:
        raise NotRunError(f"{error.message}: it needs root, and Linux with fanotify") from None
    finally:
        probe.unlink()


def _wallet(scratch: Scratch, folder: Path) -> WalletFolder:
    WalletFolder.create(folder, PersonId(RESPONDER), lambda _size: scratch.cast.seed(RESPONDER), passphrase=None)
    authority, made = scratch.authority(), WalletFolder(folder, _nobody)
    made.bind(f"https://127.0.0.1:{scratch.port}", scratch.genesis, authority.certificate)
    issued = authority.issue_person(RESPONDER, at=int(time.time()), life=timedelta(hours=1))
    issued.save(folder / TLS_CERTIFICATE, folder / TLS_KEY)
    return made


def _nobody() -> SecretBytes:
    raise SetupError("the responder's wallet has no passphrase")
