"""Recorded decisions, as far as this client's own view of the log bears them out.

Whoever hands in decisions (the server, or a file that an auditor wrote) isn't believed: a decision counts if the log
holds its digest, and how many the log holds that weren't handed in is told. A root holder is in no roster, so no server
shows them decisions; they take an auditor's file, and check it against the same log as everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from strongroom.access.engine import CedarEngine
from strongroom.access.policy import POLICY_TYPE, Policy
from strongroom.access.request import LogHead
from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.merkle import leaf_hash, verify_inclusion
from strongroom.audit.tail import verify_tail
from strongroom.client.api import BrokerApi
from strongroom.client.trust import StateMismatchError, Trust
from strongroom.core.digest import Digest
from strongroom.core.errors import ConflictError, MalformedError, NotFoundError, StrongroomError, UsageError
from strongroom.core.events import EventName
from strongroom.release.decided import Decided, DecisionNotKeptError
from strongroom.release.documents import DocumentKind
from strongroom.release.what_if import Trial, try_out

CHUNK: Final = 256
MAX_ENTRIES: Final = 16384
"""How far back the log is read for decisions."""
MOST: Final = 500
MAX_TRIES: Final = 3
"""How often decisions are read anew that change while they are read, page by page."""
DECIDED_EVENTS: Final = frozenset({EventName.RELEASED, EventName.EXPORTED, EventName.REFUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A decision and the log entry that names it."""

    index: int
    entry: Entry
    decided: Decided


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Decisions that the log bears out, oldest first; and what doesn't fit."""

    recorded: tuple[Recorded, ...]
    missing: int
    """Decisions of the log that weren't handed in (erased with a person, no longer kept, withheld), or unreadable."""
    unknown: int
    """Handed-in decisions whose digest the log doesn't hold in its newest entries: older, or forged."""
    first: int
    """The oldest log entry that was looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """What a draft would have done to recorded decisions."""

    history: History
    trials: tuple[tuple[int, Trial], ...]
    """Log index, and the decision made again."""

    @property
    def changed(self) -> tuple[tuple[int, Trial], ...]:
        """The decisions that would have come out otherwise."""
        return tuple((index, trial) for index, trial in self.trials if trial.changed)

    @property
    def looser(self) -> bool:
        """Something that was refused would be allowed."""
        return any(trial.looser for _index, trial in self.trials)


def kept_decisions(api: BrokerApi, most: int) -> tuple[bytes, ...]:
    """Return the newest kept decisions, oldest first and each once; fewer than ``most`` are all that are kept.

    :raises ConflictError: they were overwritten or erased while they were read, again and again.
    :raises MalformedError: the server shows one twice.
    """
    for _try in range(MAX_TRIES):
        try:
            found = _pages(api, most)
        except DecisionNotKeptError:
            # The one that the last page began with isn't kept any more. What came before it may be: all are read anew.
            continue
        if len(set(found)) != len(found):
            raise MalformedError("the server shows a decision twice")
        return tuple(found)
    raise ConflictError(
        f"kept decisions were overwritten or erased while they were read, {MAX_TRIES} times",
        reason="decisions-turned",
        remedy="ask again, or for fewer of them",
    )


def _pages(api: BrokerApi, most: int) -> list[bytes]:
    found = [*api.decisions(most)]
    while found and len(found) < most and (page := api.decisions(most - len(found), Digest.of(found[0]))):
        found[:0] = page
    return found


def history(api: BrokerApi, trust: Trust, records: Iterable[bytes], *, most: int) -> History:
    """Match handed-in decisions with the newest ``most`` that the log names.

    :raises ProofError: the server shows other entries than the signed log has.
    """
    named, first = _named(api, trust.head, most)
    handed_in = {Digest.of(record): record for record in records}
    found = []
    for index, entry in named:
        record = handed_in.get(entry.digest("decision"))
        # One that this version can't read, though the log names it, must not hide all the others: it counts as missing.
        with suppress(MalformedError):
            if record is not None:
                found.append(Recorded(index=index, entry=entry, decided=Decided.parse(record)))
    digests = {entry.digest("decision") for _index, entry in named}
    return History(
        recorded=tuple(found),
        missing=len(named) - len(found),
        unknown=sum(digest not in digests for digest in handed_in),
        first=first,
    )


def what_if(api: BrokerApi, trust: Trust, past: History, draft: Policy, engine: CedarEngine) -> WhatIf:
    """Make every decision again, under a draft and under the policy of its day."""
    engines: dict[Digest, CedarEngine | None] = {}
    trials = []
    for one in past.recorded:
        named = one.decided.facts.request.policy
        if named not in engines:
            engines[named] = _engine(api, trust, named)
        trials.append((one.index, try_out(one.decided, draft, engine, engines[named])))
    return WhatIf(history=past, trials=tuple(trials))


def recorded_decision(api: BrokerApi, trust: Trust, index: int) -> Recorded:
    """Return the decision that a log entry names, checked to be in the log that this client sees.

    :raises UsageError: the log has no such entry. :raises NotFoundError: the entry names no decision.
    :raises ProofError: the entry isn't in the signed log. :raises StateMismatchError: it names another decision.
    """
    if index >= trust.head.size:
        raise UsageError(f"the log has {trust.head.size} entries, none with index {index}")
    data = api.entries(index, 1)
    if len(data) != 1:
        raise MalformedError("the server shows no such log entry")
    _leaf, proof = api.inclusion(index, trust.head.size)
    verify_inclusion(
        index=index, size=trust.head.size, leaf=leaf_hash(data[0]), proof=proof, root=trust.head.root.value
    )
    entry = read_entry(data[0])
    verify_entry(entry, trust.genesis.keeper_key)
    if not _names_one(entry):
        raise NotFoundError(
            f"log entry {index} is `{entry.event.value}` and records no decision",
            remedy="releases, exports and refusals at step 4.9 do: strongroom audit ls",
        )
    record = api.decided(index)
    if Digest.of(record) != entry.digest("decision"):
        raise StateMismatchError(f"the decision shown isn't the one that log entry {index} names")
    return Recorded(index=index, entry=entry, decided=Decided.parse(record))


def to_file(records: Iterable[bytes]) -> bytes:
    """Return a file of decisions: canonical JSON, a line each."""
    return b"".join(record + b"\n" for record in records)


def from_file(data: bytes) -> tuple[bytes, ...]:
    """Read a file of decisions; what each line is worth, the log says.

    :raises UsageError: more lines than are ever looked at.
    """
    lines = tuple(line for line in data.split(b"\n") if line)
    if len(lines) > MOST:
        raise UsageError(f"the file holds more than {MOST} decisions")
    return lines


def _named(api: BrokerApi, head: LogHead, most: int) -> tuple[list[tuple[int, Entry]], int]:
    """Return the newest entries that name decisions, oldest first, and the oldest entry that was read."""
    tail: list[bytes] = []
    found: list[tuple[int, Entry]] = []
    start = head.size
    while start and len(found) < most and len(tail) < MAX_ENTRIES:
        start, end = max(0, start - CHUNK), start
        chunk = list(_between(api, start, end))
        tail[:0] = chunk
        read = ((start + n, read_entry(data)) for n, data in enumerate(chunk))
        found[:0] = [(index, entry) for index, entry in read if _names_one(entry)]
    proof = api.inclusion(start, head.size)[1] if start else ()
    if head.size:
        verify_tail(start=start, entries=tail, size=head.size, root=head.root.value, proof=proof)
    return found[-most:], start


def _between(api: BrokerApi, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        some = api.entries(start, end - start)
        if not some:
            raise MalformedError("the server shows fewer log entries than the log has")
        yield from some[: end - start]
        start += len(some)


def _names_one(entry: Entry) -> bool:
    return entry.event in DECIDED_EVENTS and entry.facts["decision"] is not None


def _engine(api: BrokerApi, trust: Trust, named: Digest) -> CedarEngine | None:
    if trust.policy is not None and named == trust.digests.get(DocumentKind.POLICY):
        return CedarEngine(trust.policy)
    try:
        envelope = api.document(DocumentKind.POLICY, named)
        trust.genesis.verify_root(envelope, POLICY_TYPE)
        return CedarEngine(Policy.parse(envelope.payload)) if envelope.digest == named else None
    except StrongroomError:
        # Not to be had, or not what was asked for: then there's no control, and that is said beside the result.
        return None
