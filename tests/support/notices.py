"""A notice board over a log in memory, and what stands around it."""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.audit.entries import make_entry, read_entry
from strongroom.audit.facts import Fact, Producer
from strongroom.broker.noticeboard import NoticeBoard
from strongroom.broker.notices import Asked, Notice, NoticeKind, Priority
from strongroom.broker.ports import RequestRow
from strongroom.core.clock import Instant
from strongroom.core.digest import Digest
from strongroom.core.errors import NotFoundError, UnavailableError
from strongroom.core.events import EventName
from support.logs import AT, KEEPER, opening, sample_facts


def digest(name: str) -> Digest:
    """Return the digest of a request that a name stands for."""
    return Digest.of(name.encode())


def notice(
    index: int, *, kind: NoticeKind = NoticeKind.REQUEST_CREATED, loud: bool = False, at: Instant = AT
) -> Notice:
    """Return a notice."""
    return Notice(
        kind=kind,
        index=index,
        at=at,
        priority=Priority.PAGE if loud else Priority.NORMAL,
        request=digest("r"),
        asked=Asked(action="freeze", model="atlas", requester="dana"),
    )


@dataclass
class Log:
    """Entries in memory; a test may let it fail, shrink or hold foreign entries."""

    entries: list[bytes] = field(default_factory=lambda: [opening()])
    broken: bool = False
    reads: int = 0

    def add(self, event: EventName, **facts: Fact) -> int:
        """Append an entry of the keeper's; returns its index."""
        given = {**sample_facts(event), **facts}
        self.entries.append(
            make_entry(event, at=AT, by=Producer.KEEPER, seq=len(self.entries) - 1, facts=given, signer=KEEPER)
        )
        return len(self.entries) - 1

    def ask(self, name: str, *, action: str = "open-in-enclave") -> int:
        """Record a request."""
        facts: dict[str, Fact] = {"action": action, "model": "atlas", "requester": "dana"}
        return self.add(EventName.REQUEST_CREATED, request=digest(name), **facts)

    async def checkpoint(self) -> tuple[int, str]:
        """Return the size; nobody here looks at the signature."""
        if self.broken:
            raise UnavailableError("the log is away")
        return len(self.entries), ""

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries."""
        self.reads += 1
        return tuple(self.entries[start : start + count])

    async def find(self, request: Digest) -> int:
        """Find a request as the broker does."""
        for index, data in enumerate(self.entries):
            entry = read_entry(data)
            if entry.event is EventName.REQUEST_CREATED and entry.digest("request") == request:
                return index
        raise NotFoundError("none")


@dataclass
class Store:
    """Rows that say where a request was recorded; they may lie."""

    places: dict[str, int] = field(default_factory=dict)

    async def request(self, name: str) -> RequestRow | None:
        """Return a row."""
        if name not in self.places:
            return None
        return RequestRow(
            digest=name,
            action="forged",
            model="forged",
            requester="forged",
            created=AT,
            envelope="",
            log_index=self.places[name],
        )


def board(log: Log, store: Store | None = None) -> NoticeBoard:
    """Return a board that follows ``log`` once somebody lets it."""
    rows = store or Store()
    return NoticeBoard(log=log, store=rows, keeper_key=KEEPER.public_key, find=log.find)  # type: ignore[arg-type]  # the board asks them for no more than they have
