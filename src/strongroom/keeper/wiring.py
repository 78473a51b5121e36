"""The keeper's process: unlock, replay, serve.

``python -m strongroom.keeper.wiring --home DIR [--passphrase-fd N]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import structlog

from strongroom.audit.adapters.client import LogClient
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, TamperedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.ipc.adapters.process import harden, program_log, read_passphrase, say_ready
from strongroom.ipc.adapters.server import UnixServer
from strongroom.keeper.adapters.collateral_folder import CollateralFolder
from strongroom.keeper.adapters.files import (
    AttestedFile,
    DecisionFile,
    DocumentFolder,
    PinFile,
    RecordFolder,
    load_keyring,
    read_own,
    replace_own,
    save_keyring,
)
from strongroom.keeper.adapters.log import SocketLog
from strongroom.keeper.collateral import CollateralRegistry
from strongroom.keeper.founding import found
from strongroom.keeper.journal import Journal
from strongroom.keeper.leases import Leases
from strongroom.keeper.people import People
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.registry import PlatformRegistry
from strongroom.keeper.routes import KeeperRoutes
from strongroom.keeper.service import Keeper
from strongroom.keeper.vault import Vault
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.keys.split_root import make_root, open_root
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import key_provider
from strongroom.release.lease import LEASE_SECONDS, LEAST_SECONDS, MOST_SECONDS

PIN_SECONDS: Final = 1.0
PASSPHRASE_ALONE: Final = (KeyUri.parse("local:"),)
_log = structlog.get_logger("strongroom.keeper")


class OtherGenesisError(TamperedError):
    """The genesis beside the deployment isn't the one that the keeper pinned."""

    code = "genesis-changed"


def load_genesis(home: Path) -> Genesis:
    """Read the genesis and compare it with the keeper's own copy of its digest.

    :raises OtherGenesisError: it was replaced.
    :raises UsageError: there is no deployment here.
    """
    try:
        genesis = Genesis.parse((home / "genesis.json").read_bytes())
    except FileNotFoundError:
        raise UsageError(f"no deployment at `{home}`", remedy="make one: strongroom init") from None
    pinned = read_own(home / "keeper" / "genesis.digest")
    if pinned is None or not Digest.parse(pinned.decode().strip()).matches(genesis.digest):
        raise OtherGenesisError("the genesis isn't the one that the keeper pinned", remedy="restore genesis.json")
    return genesis


def unlock(home: Path, genesis: Genesis, passphrase: SecretBytes | None) -> Vault:
    """Open the keyring by the providers that it names; the root key is wiped again before this returns.

    :raises LockedError: a provider is a passphrase, and there is none, or it is wrong.
    :raises StrongroomError: a provider refused or isn't there, or the keyring was changed.
    """
    keyring = load_keyring(home / "keeper")
    with open_root(genesis.digest, keyring.root, lambda uri: key_provider(uri, passphrase=passphrase)) as root:
        vault = Vault(genesis.digest, keyring, root)
    if vault.signer.public_key != genesis.keeper_key:
        raise OtherGenesisError("the keyring's signing key isn't the one that the genesis names")
    return vault


def found_keeper(
    home: Path,
    *,
    deployment: str,
    root_keys: Sequence[PublicKey],
    root_threshold: int,
    log_key: PublicKey,
    log_cosigner: bytes,
    providers: Sequence[KeyUri] = PASSPHRASE_ALONE,
    passphrase: SecretBytes | None,
    cost: Argon2Cost,
) -> Genesis:
    """Make the keeper's folder and the genesis of a new deployment at ``home``.

    ``providers`` are one or two key services that hold the root key; ``passphrase`` and ``cost`` are for ``local:``.

    :raises UsageError: there is one already, or the root keys or providers can't found one.
    :raises StrongroomError: a key service refused or isn't there.
    """
    folder = home / "keeper"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    founded = found(
        deployment=deployment,
        root_keys=root_keys,
        root_threshold=root_threshold,
        log_key=log_key,
        log_cosigner=log_cosigner,
        at=SystemClock().now(),
        random_bytes=os.urandom,
        root_of=lambda genesis: make_root(
            genesis, [key_provider(uri, passphrase=passphrase, cost=cost) for uri in providers], os.urandom
        ),
    )
    if tuple(providers) != PASSPHRASE_ALONE:
        # Who may encrypt may perhaps not decrypt: that is found out now, and not at the first start.
        open_root(
            founded.genesis.digest, founded.keyring.root, lambda uri: key_provider(uri, passphrase=passphrase)
        ).wipe()
    save_keyring(folder, founded.keyring)
    replace_own(folder / "genesis.digest", f"{founded.genesis.digest}\n".encode())
    replace_own(home / "genesis.json", founded.genesis.to_bytes())
    return founded.genesis


async def _pin_always(keeper: Keeper) -> None:
    while True:
        await asyncio.sleep(PIN_SECONDS)
        await keeper.journal.look_for_space()
        try:
            await asyncio.to_thread(keeper.pin)
            if not keeper.locked_because:
                keeper.refusals.record(keeper.record)
        except StrongroomError as error:
            _log.error("pinning failed", reason=error.reason)


async def serve(
    home: Path,
    vault: Vault,
    genesis: Genesis,
    *,
    callers: Collection[int],
    clock: Clock,
    lease_seconds: int = LEASE_SECONDS,
    make_keeper: type[Keeper] = Keeper,
) -> None:
    """Serve until SIGTERM. ``callers`` are the user ids that may connect (the broker's)."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await LogClient.connect(home / "run" / "log.sock") as client:
        decisions = DecisionFile(home / "keeper")
        keeper = make_keeper(
            genesis=genesis,
            vault=vault,
            journal=Journal(genesis, SocketLog(client), clock),
            pins=PinFile(home / "keeper"),
            documents=DocumentFolder(home / "keeper"),
            decisions=decisions,
            attested=AttestedFile(home / "keeper"),
            clock=clock,
            random_bytes=os.urandom,
        )
        records = PersonRecords(genesis.digest, vault, RecordFolder(home / "keeper"), os.urandom)
        people = People(keeper, records, decisions, clock)
        keeper.lease_seconds = lease_seconds
        await keeper.start()
        people.load()
        collateral = CollateralRegistry(keeper, CollateralFolder(home / "keeper"), clock)
        collateral.load()
        leases = Leases(keeper, clock)
        people.live_leases = lambda person: [lease.to_json() for lease in leases.live(person=person)]
        platforms = PlatformRegistry(keeper, clock, os.urandom)
        routes = KeeperRoutes(keeper, platforms, people, leases, decisions, clock, collateral)
        server = UnixServer(routes.serve, admits=callers)
        await server.start(home / "run" / "keeper.sock")
        pinning = asyncio.create_task(_pin_always(keeper))
        say_ready("keeper", size=keeper.journal.durable[0])
        await stop.wait()
        await server.stop()
        pinning.cancel()
        keeper.pin()
        keeper.lock("stopped")


def run_keeper(
    home: Path,
    passphrase_fd: int | None,
    *,
    callers: Collection[int] | None = None,
    lease_seconds: int = LEASE_SECONDS,
    make_keeper: type[Keeper] = Keeper,
) -> None:
    """Run the keeper of the deployment at ``home`` until SIGTERM.

    :param lease_seconds: how long an enclave may go on without a renewal.
    :raises UsageError: ``lease_seconds`` is out of bounds.
    :raises StrongroomError: whatever keeps it from starting; nothing is served then.
    """
    harden()
    program_log()
    if not LEAST_SECONDS <= lease_seconds <= MOST_SECONDS:
        raise UsageError(f"a lease lasts {LEAST_SECONDS} to {MOST_SECONDS} seconds")
    genesis = load_genesis(home)
    with nullcontext() if passphrase_fd is None else read_passphrase(passphrase_fd) as passphrase:
        vault = unlock(home, genesis, passphrase)
    asyncio.run(
        serve(
            home,
            vault,
            genesis,
            callers=callers if callers is not None else (os.geteuid(),),
            clock=SystemClock(),
            lease_seconds=lease_seconds,
            make_keeper=make_keeper,
        )
    )


def main(make_keeper: type[Keeper] = Keeper) -> None:
    """Run as a program; exits with the code of :class:`strongroom.core.errors.ExitCode`."""
    parser = argparse.ArgumentParser(description="Strongroom's keeper")
    parser.add_argument("--home", type=Path, required=True, help="the deployment's folder")
    parser.add_argument("--passphrase-fd", type=int, help="open descriptor to read the passphrase from")
    parser.add_argument("--caller", type=int, action="append", help="user id that may connect (default: this user)")
    parser.add_argument("--lease-seconds", type=int, default=LEASE_SECONDS, help="how long a lease lasts")
    given = parser.parse_args()
    try:
        run_keeper(
            given.home,
            given.passphrase_fd,
            callers=given.caller,
            lease_seconds=given.lease_seconds,
            make_keeper=make_keeper,
        )
    except StrongroomError as error:
        sys.stderr.write(json.dumps({"level": "error", "event": "keeper refused to start", **error.problem()}) + "\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
