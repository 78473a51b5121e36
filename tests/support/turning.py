"""A hand that writes at a real log writer what a keeper would, seams among it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from strongroom.audit.adapters.client import BlockingLogClient
from strongroom.audit.adapters.folder import FolderSource
from strongroom.audit.entries import make_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.audit.replay import EntryChecks
from strongroom.audit.succession import Prepared, Succession
from strongroom.audit.verify_shards import LogReport, verify_shards
from strongroom.audit.wiring import Places
from strongroom.core.encoding import to_base64
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from support.logs import AT, KEEPER, sample_facts


class Hand:
    """Writes what a keeper would, by hand, and remembers the succession."""

    def __init__(self, home: Path, genesis: Genesis) -> None:
        self.home, self.genesis = home, genesis

    def client(self) -> BlockingLogClient:
        return BlockingLogClient(Places(self.home).socket)

    def entry(self, seq: int, event: EventName, facts: dict[str, Fact]) -> bytes:
        return make_entry(event, at=AT, by=Producer.KEEPER, seq=seq, facts=facts, signer=KEEPER)

    def ordinary(self, client: BlockingLogClient, count: int = 1) -> None:
        for _ in range(count):
            client.append([self.entry(client.head().next_seq, EventName.REFUSED, sample_facts(EventName.REFUSED))])

    def closing(self, client: BlockingLogClient, prepared: Prepared) -> bytes:
        head = client.head()
        facts: dict[str, Fact] = {
            "next": prepared.number,
            "key": prepared.key,
            "cosigner": to_base64(prepared.cosigner),
            "base": head.size + 1,
        }
        return self.entry(head.next_seq, EventName.SHARD_CLOSED, facts)

    def opening(self, client: BlockingLogClient) -> bytes:
        known = self.followed(client)
        assert known.opening is not None
        return self.entry(client.head().next_seq, EventName.SHARD_CONTINUED, known.opening.facts(self.genesis.digest))

    def followed(self, client: BlockingLogClient) -> Succession:
        known = Succession.of(self.genesis)
        for seam in client.seams(1):
            known = known.cross(seam, KEEPER.public_key)
        return known

    def turn(self, client: BlockingLogClient) -> None:
        client.append([self.closing(client, client.prepare())])
        client.append([self.opening(client)])

    def verified(self) -> LogReport:
        return verified(Places(self.home).public, self.genesis)


def verified(folder: Path, genesis: Genesis) -> LogReport:
    checks = EntryChecks(keeper_key=genesis.keeper_key, genesis=genesis.digest)
    source, first = FolderSource(folder), Succession.of(genesis)
    return verify_shards(source, first, entries=checks, keeper_key=genesis.keeper_key, cosigned=False)


def wait_until(true: Callable[[], bool], *, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)
