"""The keeper's process: unlock, replay, serve.

``python -m strongroom.keeper.wiring --home DIR [--passphrase-fd N]``
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from strongroom.audit.adapters.client import LogClient
from strongroom.audit.succession import KEPT_DAYS, SHARD_DAYS, SHARD_ENTRIES
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import PublicKey
from strongroom.ipc.adapters.process import go_first, harden, program_log, read_passphrase, say_ready
from strongroom.ipc.adapters.signals import when_told_to_end
from strongroom.keeper.adapters.collateral_folder import CollateralFolder
from strongroom.keeper.adapters.escrow_file import EscrowFile
from strongroom.keeper.adapters.files import (
    AttestedFile,
    DecisionFile,
    DocumentFolder,
    KeyringFile,
    RecordFolder,
    RestoredFile,
    load_keyring,
    read_own,
    replace_own,
    save_keyring,
)
from strongroom.keeper.adapters.log import SocketLog
from strongroom.keeper.adapters.move_note import MoveFile
from strongroom.keeper.anchor import ACT_SECONDS
from strongroom.keeper.collateral import CollateralRegistry
from strongroom.keeper.escrow import Escrows
from strongroom.keeper.escrow_routes import EscrowRoutes
from strongroom.keeper.founding import Ceremony, found
from strongroom.keeper.guard.wiring import end, guarded, hide_secrets, pin_store, shut_in
from strongroom.keeper.journal import Journal
from strongroom.keeper.key_routes import KeyRoutes
from strongroom.keeper.leases import Leases
from strongroom.keeper.locked.wiring import Door, open_by_shares
from strongroom.keeper.moving import record_move
from strongroom.keeper.people import People
from strongroom.keeper.records import PersonRecords
from strongroom.keeper.registry import PlatformRegistry
from strongroom.keeper.restoring import Restoring, drop_unreadable
from strongroom.keeper.rotation import Rotation
from strongroom.keeper.routes import KeeperRoutes
from strongroom.keeper.service import Keeper
from strongroom.keeper.shards import SHARD_LIMITS, ShardLimits, Shards
from strongroom.keeper.shredding import Shredding
from strongroom.keeper.shredding_routes import ShreddingRoutes
from strongroom.keeper.unlocking import Opened
from strongroom.keeper.vault import OtherGenesisError, Vault
from strongroom.keeper.walls import Standing
from strongroom.keys.adapters.local import Argon2Cost
from strongroom.keys.escrow import Custodian
from strongroom.keys.hierarchy import Tree
from strongroom.keys.provider import WrappingProvider
from strongroom.keys.split_root import make_root, open_root, read_root
from strongroom.keys.uri import KeyUri
from strongroom.keys.wiring import RootProviders, key_provider
from strongroom.release.lease import LEASE_SECONDS, LEAST_SECONDS, MOST_SECONDS

PIN_SECONDS: Final = 1.0
PASSPHRASE_ALONE: Final = (KeyUri.parse("local:"),)
_log = structlog.get_logger("strongroom.keeper")


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


def unlock(home: Path, genesis: Genesis, passphrase: SecretBytes | None, second: KeyUri | None = None) -> Vault:
    """Open the keyring by the providers that it names.

    A tree of keys that is in no escrow stays closed where its key service isn't there: the rest works.

    :param second: the key service for the second part of the next root key, where the present one has one part.
    :raises LockedError: a provider is a passphrase, and there is none, or it is wrong.
    :raises StrongroomError: a provider refused or isn't there, or the keyring was changed.
    """
    keyring = load_keyring(home / "keeper")
    providers = RootProviders(genesis.digest, passphrase, second)
    roots = {Tree.ESCROWED: providers.open(Tree.ESCROWED, keyring.root(Tree.ESCROWED))}
    for tree, stored in keyring.roots:
        if tree is not Tree.ESCROWED:
            try:
                roots[tree] = providers.open(tree, stored)
            except StrongroomError as error:
                # After a recovery it is still under the key service that was lost.
                _log.error("models that are in no escrow can't be opened", reason=error.reason)
    vault = Vault(genesis.digest, keyring, roots, providers)
    vault.require_keeper_of(genesis)
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
    custodians: Sequence[Custodian] = (),
    custodian_threshold: int = 0,
) -> Genesis:
    """Make the keeper's folder and the genesis of a new deployment at ``home``.

    ``providers`` are one or two key services that hold the root key; ``passphrase`` and ``cost`` are for ``local:``.
    ``custodians`` keep shares of it, of which ``custodian_threshold`` are enough; with none there is no escrow.

    :raises UsageError: there is one already, or the root keys or providers can't found one.
    :raises StrongroomError: a key service refused or isn't there.
    """
    folder = home / "keeper"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    escrows = EscrowFile(folder)
    ceremony = None
    if custodians:
        unlock_key = escrows.need_unlock_signer(os.urandom).public_key
        ceremony = Ceremony(custodians=tuple(custodians), threshold=custodian_threshold, unlock_key=unlock_key)
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
        ceremony=ceremony,
    )
    if tuple(providers) != PASSPHRASE_ALONE:
        # Who may encrypt may perhaps not decrypt: that is found out now, and not at the first start.
        open_root(
            founded.genesis.digest,
            founded.keyring.root(Tree.ESCROWED),
            lambda uri: key_provider(uri, passphrase=passphrase),
        ).wipe()
    save_keyring(folder, founded.keyring)
    if founded.escrow is not None:
        escrows.save(founded.escrow)
    replace_own(folder / "genesis.digest", f"{founded.genesis.digest}\n".encode())
    replace_own(home / "genesis.json", founded.genesis.to_bytes())
    return founded.genesis


async def _pin_always(keeper: Keeper, shards: Shards) -> None:
    while True:
        await asyncio.sleep(PIN_SECONDS)
        try:
            await keeper.journal.look_for_space()
            await asyncio.to_thread(keeper.pin)
            if not keeper.locked_because:
                # First: whatever goes wrong with the refusals must not keep a silent responder from being seen.
                keeper.dead_man.look(keeper.record)
                keeper.refusals.record(keeper.record)
            await shards.turn_if_due()
        except StrongroomError as error:
            _log.error("pinning failed", reason=error.reason)
        except Exception:
            # Whatever it was: with this loop ended, nothing would be pinned any more, and nobody would know.
            _log.exception("pinning failed")
            keeper.lock("pins-failed")
            raise


def _waits(error: StrongroomError) -> None:
    _log.error("a destruction waits to be finished", reason=error.reason)


def _overwrote(what: str) -> None:
    _log.error("a hold stands, and records are overwritten: as many files as may be are set aside", records=what)


async def serve(
    home: Path,
    vault: Vault,
    genesis: Genesis,
    *,
    callers: Collection[int],
    clock: Clock,
    standing: Standing,
    lease_seconds: int = LEASE_SECONDS,
    shard_limits: ShardLimits = SHARD_LIMITS,
    make_keeper: type[Keeper] = Keeper,
    by_shares: UnlockedByShares | None = None,
) -> None:
    """Serve until SIGTERM. ``callers`` are the user ids that may connect (the broker's); ``standing``: the walls."""
    stop = asyncio.Event()
    when_told_to_end(stop.set)
    door = by_shares.door if by_shares else Door(callers)
    async with await LogClient.connect(home / "run" / "log.sock") as client:
        journal = Journal(genesis, SocketLog(client), clock)

        def held() -> bool:
            return journal.ledger.precautions.any_hold() is not None

        decisions = DecisionFile(home / "keeper", held=held, overwrote=partial(_overwrote, "decisions"))
        attested = AttestedFile(home / "keeper", held=held, overwrote=partial(_overwrote, "evidence"))
        pins = pin_store(home, vault, genesis.digest)
        keeper = make_keeper(
            genesis=genesis,
            vault=vault,
            journal=journal,
            pins=pins,
            keyrings=KeyringFile(home / "keeper"),
            documents=DocumentFolder(home / "keeper"),
            decisions=decisions,
            attested=attested,
            clock=clock,
            random_bytes=os.urandom,
        )
        keeper.lease_seconds = lease_seconds
        keeper.acted = lambda: pins.hasten(ACT_SECONDS)
        shards = Shards(keeper, clock, shard_limits)
        opened = by_shares.opened if by_shares else None
        routes, shredding = await _begin(home, keeper, decisions, shards, clock, opened)
        await door.open(home, routes.serve)
        working = [asyncio.create_task(_pin_always(keeper, shards)), asyncio.create_task(shredding.run())]
        working.append(await guarded(keeper, home, clock, standing))
        say_ready("keeper", size=keeper.journal.durable[0])
        await stop.wait()
        await door.close()
        for each in working:
            each.cancel()
        end(keeper, pins)


async def _begin(
    home: Path, keeper: Keeper, decisions: DecisionFile, shards: Shards, clock: Clock, opened: Opened | None
) -> tuple[KeeperRoutes, Shredding]:
    """Start the keeper and every part beside it; returns what answers, and what goes on destroying models."""
    records = PersonRecords(keeper.genesis.digest, keeper.vault, RecordFolder(home / "keeper"), os.urandom)
    people = People(keeper, records, decisions, clock)
    restoring = Restoring(keeper, RestoredFile(home / "keeper"), clock)
    await keeper.start()
    await record_move(keeper, MoveFile(home / "keeper"))
    if restoring.begun:
        drop_unreadable(records, keeper.journal.ledger)
    people.load()
    collateral = CollateralRegistry(keeper, CollateralFolder(home / "keeper"), clock)
    collateral.load()
    leases = Leases(keeper, clock)
    people.live_leases = lambda person: [lease.to_json() for lease in leases.live(person=person)]
    platforms = PlatformRegistry(keeper, clock, os.urandom)
    rotation = Rotation(keeper=keeper, records=records, random_bytes=os.urandom)
    keys, shredding = await _keys(home, keeper, rotation, restoring, clock, opened)
    routes = KeeperRoutes(keeper, platforms, people, leases, decisions, clock, collateral, shards=shards, keys=keys)
    return routes, shredding


async def _keys(
    home: Path, keeper: Keeper, rotation: Rotation, restoring: Restoring, clock: Clock, opened: Opened | None
) -> tuple[KeyRoutes, Shredding]:
    """Settle what a crash cut short among the keys, and return what serves them; ``opened``: by custodians' shares."""
    keeper.found_tree = rotation.found_tree
    await rotation.resume()
    await restoring.finish(rotation)
    keys = KeyRoutes(keeper, rotation, clock)
    keys.routes["backup-made"] = restoring.serve
    escrows = Escrows(keeper, EscrowFile(home / "keeper"), clock, os.urandom)
    escrows.rotate_root, escrows.turn = rotation.rotate_root, rotation.turn
    rotation.before_root, rotation.after_root = escrows.before_root, escrows.after_root
    await escrows.start()
    if opened is not None:
        await escrows.opened(opened)
    EscrowRoutes(escrows).join(keys)
    shredding = Shredding(
        keeper=keeper, rotation=rotation, notes=DocumentFolder(home / "keeper"), clock=clock, failed=_waits
    )
    ShreddingRoutes(shredding).join(keys)
    return keys, shredding


@dataclass(frozen=True, slots=True)
class UnlockedByShares:
    """What custodians opened, and the door at which they did."""

    door: Door
    opened: Opened


@dataclass(frozen=True, slots=True)
class ByShares:
    """That a keeper is to be unlocked by shares, and the key service that its root key goes to, if any."""

    provider: KeyUri | None = None


async def _by_shares(
    home: Path,
    genesis: Genesis,
    provider: WrappingProvider | None,
    callers: Collection[int],
    serve_opened: Callable[[UnlockedByShares], Awaitable[None]],
) -> None:
    door, stop = Door(callers), asyncio.Event()
    when_told_to_end(stop.set)
    opened = await open_by_shares(home, genesis, door, clock=SystemClock(), stop=stop, provider=provider)
    if opened is None:
        await door.close()
    else:
        await serve_opened(UnlockedByShares(door, opened))


def run_keeper(
    home: Path,
    passphrase_fd: int | None,
    *,
    callers: Collection[int] | None = None,
    lease_seconds: int = LEASE_SECONDS,
    shard_limits: ShardLimits = SHARD_LIMITS,
    make_keeper: type[Keeper] = Keeper,
    by_shares: ByShares | None = None,
    second: KeyUri | None = None,
) -> None:
    """Run the keeper of the deployment at ``home`` until SIGTERM.

    :param lease_seconds: how long an enclave may go on without a renewal.
    :param shard_limits: when a shard of the log ends by itself.
    :param by_shares: wait for custodians' shares instead of asking the key services.
    :param second: the key service for the second part of the next root key, where the present one has one part.
    :raises UsageError: ``lease_seconds`` is out of bounds.
    :raises StrongroomError: whatever keeps it from starting; nothing is served then.
    """
    harden()
    go_first()
    program_log()
    secrets = hide_secrets()
    if not LEAST_SECONDS <= lease_seconds <= MOST_SECONDS:
        raise UsageError(f"a lease lasts {LEAST_SECONDS} to {MOST_SECONDS} seconds")
    genesis = load_genesis(home)
    admitted = callers if callers is not None else (os.geteuid(),)

    def serving(
        vault: Vault, standing: Standing, unlocked: UnlockedByShares | None = None
    ) -> Coroutine[None, None, None]:
        return serve(
            home,
            vault,
            genesis,
            callers=admitted,
            clock=SystemClock(),
            standing=standing,
            lease_seconds=lease_seconds,
            shard_limits=shard_limits,
            make_keeper=make_keeper,
            by_shares=unlocked,
        )

    with nullcontext() if passphrase_fd is None else read_passphrase(passphrase_fd) as passphrase:
        if by_shares is not None:
            uris = [] if by_shares.provider is None else [by_shares.provider]
            after = next((key_provider(uri, passphrase=passphrase) for uri in uris), None)
            walls = shut_in(home, uris, secrets)
            asyncio.run(
                _by_shares(home, genesis, after, admitted, lambda found: serving(found.opened.vault, walls, found))
            )
            return
        vault = unlock(home, genesis, passphrase, second)
    named = [part.provider for _tree, stored in vault.keyring.roots for part in read_root(stored)]
    asyncio.run(serving(vault, shut_in(home, [*named, *([] if second is None else [second])], secrets)))


def _asked_for(given: argparse.Namespace) -> ByShares | None:
    if not given.unlock_by_shares:
        return None
    return ByShares(KeyUri.parse(given.root_provider) if given.root_provider else None)


def main(make_keeper: type[Keeper] = Keeper) -> None:
    """Run as a program; exits with the code of :class:`strongroom.core.errors.ExitCode`."""
    parser = argparse.ArgumentParser(description="Strongroom's keeper")
    parser.add_argument("--home", type=Path, required=True, help="the deployment's folder")
    parser.add_argument("--passphrase-fd", type=int, help="open descriptor to read the passphrase from")
    parser.add_argument("--caller", type=int, action="append", help="user id that may connect (default: this user)")
    parser.add_argument("--lease-seconds", type=int, default=LEASE_SECONDS, help="how long a lease lasts")
    parser.add_argument("--unlock-by-shares", action="store_true", help="wait for custodians' shares")
    parser.add_argument("--root-provider", help="with shares: the key service for the root key from then on")
    parser.add_argument("--second-root-provider", help="the key service for the second part of the next root key")
    parser.add_argument("--shard-entries", type=int, default=SHARD_ENTRIES, help="entries of a shard of the log")
    parser.add_argument("--shard-days", type=int, default=SHARD_DAYS, help="days of a shard of the log")
    parser.add_argument("--kept-days", type=int, default=KEPT_DAYS, help="days that closed shards stay published")
    given = parser.parse_args()
    try:
        run_keeper(
            given.home,
            given.passphrase_fd,
            callers=given.caller,
            lease_seconds=given.lease_seconds,
            shard_limits=ShardLimits(
                entries=given.shard_entries, seconds=given.shard_days * 86_400, kept=given.kept_days * 86_400
            ),
            make_keeper=make_keeper,
            by_shares=_asked_for(given),
            second=KeyUri.parse(given.second_root_provider) if given.second_root_provider else None,
        )
    except StrongroomError as error:
        sys.stderr.write(json.dumps({"level": "error", "event": "keeper refused to start", **error.problem()}) + "\n")
        sys.exit(int(error.exit_code))


if __name__ == "__main__":
    main()
