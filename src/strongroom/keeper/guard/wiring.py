"""Puts the guards in place, in the order in which a starting keeper needs them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from strongroom.core.clock import Clock, uptime
from strongroom.core.digest import Digest
from strongroom.core.secret import keep_secrets_in
from strongroom.keeper.adapters import walls
from strongroom.keeper.adapters.anchor_files import SETTING, AnchorFolder, TpmRegister
from strongroom.keeper.adapters.files import PinFile
from strongroom.keeper.adapters.own_files import OWN_FILES
from strongroom.keeper.adapters.tracer import TracerSign
from strongroom.keeper.anchor import AnchoredPins, anchor_secret
from strongroom.keeper.service import Keeper
from strongroom.keeper.tamper import ClockWatch, TamperCause, TamperWatch
from strongroom.keeper.vault import Vault
from strongroom.keeper.walls import Standing, reach_of
from strongroom.keys.uri import KeyUri
from strongroom.walls.adapters.secret_memory import SecretArena, SecretMemoryKind

LOOK_SECONDS: Final = 1.0
_WATCHED: Final = ("keyring.json", "genesis.digest", "pins.json", "escrow.json", SETTING)
_log = structlog.get_logger("strongroom.keeper")


def hide_secrets() -> SecretMemoryKind:
    """Keep every secret of this process from here on in memory that the kernel hides as well as it can; says how well.

    :raises UnavailableError: the kernel can't even lock such memory.
    """
    arena = SecretArena()
    keep_secrets_in(arena.take)
    return arena.kind


def shut_in(home: Path, providers: Sequence[KeyUri], secrets: SecretMemoryKind) -> Standing:
    """Put the walls up: before anything is read that others wrote, and while this process has one thread.

    :param providers: the key services that the keeper will ask; none where shares unlock it.
    :raises UnavailableError: the kernel takes no system call filter.
    """
    anchor = AnchorFolder(home / "keeper").uri()
    files = walls.enter(home, providers, [] if anchor is None else [anchor.path])
    return Standing(
        reach=reach_of(providers),
        providers=tuple(providers),
        system_calls=True,
        files=files,
        secrets=secrets.value,
        anchor="" if anchor is None else str(anchor),
    )


def pin_store(home: Path, vault: Vault, genesis: Digest) -> PinFile | AnchoredPins:
    """Return where pins are kept: in a file, and where one was chosen with an anchor in the TPM.

    :raises AnchorUriError: the setting holds something else.
    :raises LockedError: the keeper is locked.
    """
    pins, folder = PinFile(home / "keeper"), AnchorFolder(home / "keeper")
    uri = folder.uri()
    if uri is None:
        return pins
    secret = anchor_secret(vault.signer, genesis)
    return AnchoredPins(pins, folder, TpmRegister(uri), secret=secret, uptime=uptime)


def end(keeper: Keeper, pins: PinFile | AnchoredPins) -> None:
    """Pin and anchor for the last time, and wipe the keys.

    :raises UnavailableError: the pins couldn't be written.
    """
    pins.hasten(0)
    try:
        keeper.pin()
    finally:
        keeper.stop()


async def guarded(keeper: Keeper, home: Path, clock: Clock, standing: Standing) -> asyncio.Task[None]:
    """Close the walls behind the keeper, which serves from here on, and watch for signs of tampering.

    Cancel the task that is returned to end the watch.

    :raises UnavailableError: the kernel takes no system call filter.
    """
    folder = home / "keeper"
    await asyncio.to_thread(OWN_FILES.watch, folder, [folder / name for name in _WATCHED])
    watch = TamperWatch(ClockWatch(clock, uptime), OWN_FILES, TracerSign())
    walls.close_behind(standing.providers)
    keeper.standing = standing
    return asyncio.create_task(_watch(keeper, watch), name="tamper-watch")


async def _watch(keeper: Keeper, watch: TamperWatch) -> None:
    while not keeper.locked_because:
        await asyncio.sleep(LOOK_SECONDS)
        try:
            seen = await asyncio.to_thread(watch.look)
        except Exception:  # noqa: BLE001 - whatever it was: a watch that ended would be silent for ever
            _log.exception("the tamper watch failed")
            seen = TamperCause.BLIND
        if seen is not None:
            _log.error("tampering seen; the keeper locked itself", cause=seen.value)
            keeper.lock(seen.value)
