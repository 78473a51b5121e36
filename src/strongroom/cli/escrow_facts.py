"""What a doctor says of the root key's escrow: whether custodians could open it today, and what one loss would end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.core.clock import Clock, Instant
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import Fields
from strongroom.enclave.facts import Fact, FactState
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keeper.adapters.escrow_file import EscrowFile
from strongroom.keeper.adapters.files import load_keyring
from strongroom.keeper.wiring import load_genesis
from strongroom.keys.escrow import Escrow, verify_escrow
from strongroom.keys.hierarchy import Tree
from strongroom.keys.slip39 import MOST_SHARES
from strongroom.keys.split_root import read_root

BACKUP_DAYS: Final = 30
_KEEPER_SECONDS: Final = 5.0
_STANDINGS: Final = {"unknown": "isn't in the roster", "suspended": "is suspended", "left": "has left"}
_OTHERS: Final = "name others: strongroom custodian plan, strongroom key order adopt-escrow"
_PUT_BACK: Final = "put `escrow.json` of a custodian or a key package back into the keeper's folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class CustodianToday:
    """How a custodian stands in the roster: active, left, suspended or unknown; and for whom they act."""

    person: str
    standing: str
    stands_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperTold:
    """What a running keeper says: which escrow the log names, who its custodians are, when a backup was last made."""

    escrow: Digest | None
    custodians: tuple[CustodianToday, ...]
    backup: Instant | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EscrowSeen:
    """What was read of a deployment, before it is judged."""

    providers: tuple[str, ...]
    generation: int
    escrow: Escrow | None
    refused: StrongroomError | None
    """Why the file isn't this keeper's escrow."""
    unlock_key: bool
    """Whether the keeper's unlock key is the one that custodians know."""
    told: KeeperTold | None
    """None: the keeper isn't running, or is locked."""


def escrow_facts(home: Path, clock: Clock) -> tuple[Fact, ...]:
    """Read and judge a deployment's escrow.

    :raises StrongroomError: there is no deployment whose keyring this user can read.
    """
    return tuple(judge(_look(home), clock.now()))


def judge(seen: EscrowSeen, now: Instant) -> Iterator[Fact]:
    """Say whether the escrow opens the present root key, and name each silent single point of failure. Pure."""
    escrow = seen.escrow
    if seen.refused is not None:
        yield _fact(
            FactState.MISSING,
            f"`escrow.json` is refused: {seen.refused.message}",
            "no custodian can open it",
            _PUT_BACK,
        )
    elif escrow is None:
        both = " and ".join(seen.providers)
        yield _fact(
            FactState.DEGRADED,
            f"none; the root key is under {both} alone",
            f"when {both if len(seen.providers) == 1 else 'either of them'} is lost, every model is",
            _OTHERS,
        )
    elif escrow.generation != seen.generation:
        yield _fact(
            FactState.MISSING,
            f"of generation {escrow.generation}; the root key is of generation {seen.generation}",
            "custodians would open a root key under which nothing stands",
            _PUT_BACK,
        )
    elif seen.told is not None and seen.told.escrow != escrow.digest:
        yield _fact(
            FactState.MISSING, "`escrow.json` isn't the one in the log", "who keeps shares is unsure", _PUT_BACK
        )
    else:
        yield from _of_custodians(seen, escrow)
    if seen.told is not None:
        yield from _of_backups(seen.told, now)


def _of_custodians(seen: EscrowSeen, escrow: Escrow) -> Iterator[Fact]:
    count = len(escrow.shares)
    told = seen.told
    known = "" if told else "; who of them is active isn't known while the keeper isn't open"
    yield _fact(FactState.OK, f"any {escrow.threshold} of {count}, of generation {escrow.generation}{known}")
    if escrow.threshold == count:
        yield _fact(FactState.DEGRADED, f"all {count} custodians are needed", "one lost share ends the escrow", _OTHERS)
    if not seen.unlock_key:
        yield _fact(
            FactState.DEGRADED,
            "the keeper's unlock key isn't the one that the escrow names",
            "custodians refuse its offers until they are told its id by voice",
            "have the root key rotated: strongroom key order rotate-root",
        )
    if told is None:
        return
    gone = [one for one in told.custodians if one.standing != "active"]
    people = {one.stands_for for one in told.custodians if one.standing == "active"}
    for one in gone:
        lost = "nobody says whether they would still answer" if one.standing == "unknown" else "they still hold a share"
        seen_as = _STANDINGS.get(one.standing, "isn't active")
        yield _fact(FactState.DEGRADED, f"custodian `{one.person}` {seen_as}", lost, _OTHERS)
    for one in told.custodians:
        if one.stands_for != one.person and one.stands_for in {other.person for other in told.custodians}:
            yield _fact(
                FactState.DEGRADED,
                f"custodians `{one.person}` and `{one.stands_for}` are one person",
                "one person counts for two",
                _OTHERS,
            )
    if len(people) < escrow.threshold:
        yield _fact(
            FactState.MISSING,
            f"{len(people)} active people keep shares; {escrow.threshold} are needed",
            "the escrow opens nothing when the key service is gone",
            _OTHERS,
        )


def _of_backups(told: KeeperTold, now: Instant) -> Iterator[Fact]:
    days = None if told.backup is None else (now - told.backup) // 86_400
    if days is None or days >= BACKUP_DAYS:
        ever = "was ever made" if days is None else f"was made for {days} days"
        lost = "what the deployment knows is on one machine"
        yield Fact(
            name="backup", state=FactState.DEGRADED, seen=f"none {ever}", lost=lost, mend="strongroom backup make"
        )
    else:
        yield Fact(name="backup", state=FactState.OK, seen=f"made {days} days ago")


def _fact(state: FactState, seen: str, lost: str = "", mend: str = "") -> Fact:
    return Fact(name="escrow", state=state, seen=seen, lost=lost, mend=mend)


def _look(home: Path) -> EscrowSeen:
    genesis, keyring, file = load_genesis(home), load_keyring(home / "keeper"), EscrowFile(home / "keeper")
    escrow, refused, unlock_key = None, None, True
    try:
        envelope: Envelope | None = file.load()
        if envelope is not None:
            escrow = verify_escrow(envelope, genesis)
    except StrongroomError as error:
        refused = error
    if escrow is not None:
        try:
            unlock_key = file.unlock_signer().public_key == escrow.unlock_key
        except StrongroomError:
            unlock_key = False
    return EscrowSeen(
        providers=tuple(str(part.provider) for part in read_root(keyring.root(Tree.ESCROWED))),
        generation=keyring.generation,
        escrow=escrow,
        refused=refused,
        unlock_key=unlock_key,
        told=asyncio.run(_ask(home / "run" / "keeper.sock")),
    )


async def _ask(door: Path) -> KeeperTold | None:
    keeper = UnixClient(door, seconds=_KEEPER_SECONDS)
    try:
        with await keeper.call("escrow-state") as fields:
            fields.integer("generation")
            backup = fields.instant("backup") if fields.optional("backup") else None
            if not fields.optional("escrow"):
                return KeeperTold(escrow=None, custodians=(), backup=backup)
            with fields.child("escrow") as told:
                for name in ("generation", "threshold"):
                    told.integer(name)
                told.boolean("kept")
                return KeeperTold(
                    escrow=told.digest("digest"),
                    custodians=told.objects("custodians", _custodian, most=MOST_SHARES),
                    backup=backup,
                )
    except StrongroomError:
        # Not running, locked, or another user's: then nothing is known of custodians, and that is said.
        return None
    finally:
        await keeper.close()


def _custodian(fields: Fields) -> CustodianToday:
    return CustodianToday(person=fields.text("person"), standing=fields.text("standing"), stands_for=fields.text("of"))
