"""A keeper without its root key: its socket, its escrow, and the key service that the root key goes to afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from strongroom.core.canonical import Json
from strongroom.core.clock import Clock
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UnavailableError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.ipc.adapters.process import say_ready
from strongroom.ipc.adapters.server import Serve, UnixServer
from strongroom.ipc.frames import Call
from strongroom.keeper.adapters.escrow_file import EscrowFile
from strongroom.keeper.adapters.files import load_keyring, replace_keyring
from strongroom.keeper.adapters.move_note import MoveFile
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.reconciling import providers_digest
from strongroom.keeper.unlocking import LockedKeeper, Opened
from strongroom.keeper.vault import Vault, open_signing
from strongroom.keys.escrow import Escrow
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import WrappingProvider
from strongroom.keys.split_root import hold_root, open_root


class Door:
    """The keeper's socket, which outlives what is served at it: first a locked keeper, then all of it."""

    def __init__(self, callers: Collection[int]) -> None:
        self._within: Serve | None = None
        self._server = UnixServer(self._serve, admits=callers)
        self._open = False

    async def open(self, home: Path, within: Serve) -> None:
        """Serve ``within`` from here on, in place of what was served before."""
        self._within = within
        if not self._open:
            await self._server.start(home / "run" / "keeper.sock")
            self._open = True

    async def close(self) -> None:
        """Stop serving."""
        await self._server.stop()

    async def _serve(self, call: Call, uid: int) -> dict[str, Json]:
        if self._within is None:
            raise UnavailableError("the keeper isn't serving yet")
        return await self._within(call, uid)


async def open_by_shares(
    home: Path, genesis: Genesis, door: Door, *, clock: Clock, stop: asyncio.Event, provider: WrappingProvider | None
) -> Opened | None:
    """Serve a locked keeper until its custodians' shares open the keyring; None if it was stopped before.

    With ``provider``, the root key is put under it once it is there: what held it before is believed lost. The keyring
    then names that provider alone. Custodians are shown it with the offer.

    :raises UsageError: there is no escrow of this keyring's generation.
    :raises StrongroomError: the provider can't wrap and open; nobody is asked for a share then.
    """
    folder = home / "keeper"
    keyring = load_keyring(folder)
    if provider is not None:
        await asyncio.to_thread(provider.health)

    def open_vault(root: SecretBytes) -> Vault:
        after = _moved(genesis, keyring, root, provider) if provider else keyring
        vault = Vault(genesis.digest, after, {Tree.ESCROWED: root})
        vault.require_keeper_of(genesis)
        if after is not keyring:
            # Only now: what was opened is known to be the root key.
            MoveFile(folder).save(providers_digest(after))
            replace_keyring(folder, after)
        return vault

    # A machine that stands in for a lost one has none: custodians are told the new key's id by voice.
    signer = EscrowFile(folder).need_unlock_signer(os.urandom)
    locked = LockedKeeper(
        genesis,
        _escrow(EscrowFile(folder), keyring),
        signer,
        open_vault=open_vault,
        clock=clock,
        random_bytes=os.urandom,
        providers=(str(provider.uri),) if provider else (),
    )
    try:
        await door.open(home, locked.serve)
        known = signer.public_key == locked.unlock_key
        say_ready("keeper", locked=True, unlock_key=signer.public_key.key_id, known=known)
        stopping = asyncio.create_task(stop.wait())
        both: tuple[asyncio.Future[Any], ...] = (locked.opened, stopping)
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping
        return locked.opened.result() if locked.opened.done() else None
    finally:
        locked.end()


def _escrow(file: EscrowFile, keyring: Keyring) -> Envelope:
    # A crash may have left the escrow of the present generation beside an older one.
    for envelope in (file.load(), file.load_next()):
        if envelope is not None and Escrow.parse(envelope.payload).generation == keyring.generation:
            return envelope
    raise UsageError(
        f"the keeper has no escrow of generation {keyring.generation} of its root key",
        remedy="put `escrow.json` of a custodian or a key package into the keeper's folder",
        reason="no-escrow",
    )


def _moved(genesis: Genesis, keyring: Keyring, root: SecretBytes, provider: WrappingProvider) -> Keyring:
    # Proved with the old keyring first: a key service is never handed what isn't this deployment's root key.
    open_signing(genesis.digest, keyring, root).wipe()
    stored = hold_root(genesis.digest, root, provider)
    open_root(genesis.digest, stored, lambda _uri: provider).wipe()
    roots = tuple((tree, stored if tree is Tree.ESCROWED else before) for tree, before in keyring.roots)
    return replace(keyring, roots=roots)
