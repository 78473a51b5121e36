"""Logs in memory, as readers see them, and made-up histories of a deployment to fill them with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hypothesis import strategies as st

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import make_entry
from strongroom.audit.facts import SCHEMA, Fact, Kind, producer_of
from strongroom.audit.merkle import leaf_hash, make_consistency, make_inclusion, range_root, tree_root
from strongroom.audit.protocol import ProvenEntry
from strongroom.audit.reading.view import Extent
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey
from support.logs import AT, KEEPER, ORIGIN, opening, sample_facts

PEOPLE = ("dana", "dana-2", "erin")
MODELS = ("atlas-7b", "borealis")
PLATFORMS = tuple(f"tpm-{n:064x}" for n in range(2))
REQUESTS = tuple(Digest.of(b"request %d" % n) for n in range(4))


@dataclass
class MemoryView:
    """A log whose head is believed; what it hands out may be changed by a test."""

    log: Sequence[bytes]
    """What was signed."""
    signed: bool = True
    keeper_key: PublicKey | None = None
    shown: dict[int, bytes] = field(default_factory=dict)
    """Index -> other bytes, shown instead."""
    most: int = 256
    reads: int = 0

    def head(self) -> Checkpoint:
        return Checkpoint(ORIGIN, len(self.log), tree_root(leaf_hash(entry) for entry in self.log))

    def extent(self, _index: int) -> Extent:
        return Extent(0, len(self.log), self.head().root)

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        self.reads += 1
        end = min(len(self.log), start + min(count, self.most))
        return tuple(self.shown.get(i, self.log[i]) for i in range(start, end))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        return make_inclusion(index, size, self._node)

    def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        shown = tuple((self.shown.get(i, self.log[i]), self.inclusion(i, size)) for i in places[: self.most])
        self.reads += 1
        return shown

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return make_consistency(old, new, self._node)

    def _node(self, level: int, index: int) -> bytes:
        leaves = [leaf_hash(entry) for entry in self.log[index << level : (index + 1) << level]]
        return range_root(0, len(leaves), lambda up, at: tree_root(leaves[at << up : (at + 1) << up]))


def entry(event: EventName, seq: int, facts: Mapping[str, Fact], *, at: int = AT) -> bytes:
    """Return an entry of the keeper with these facts, and made-up ones for the rest."""
    chosen = {**sample_facts(event), **facts}
    return make_entry(event, at=at, by=producer_of(event), seq=seq, facts=chosen, signer=KEEPER)


Act = tuple[EventName, int, dict[str, Fact]]
"""An event, how many seconds after the one before, and some facts."""


def log_of(acts: Iterable[Act], *, at: int = AT) -> list[bytes]:
    """Return a log that opens and then records ``acts``."""
    log = [opening()]
    for seq, (event, after, facts) in enumerate(acts):
        at += after
        log.append(entry(event, seq, facts, at=at))
    return log


_EVENTS = tuple(event for event in EventName if event.family != "log")


@st.composite
def acts(draw: st.DrawFn, events: Sequence[EventName] = _EVENTS) -> Act:
    """Return any act, about few people, models, platforms and requests, so that they meet."""
    event = draw(st.sampled_from(events))
    facts: dict[str, Fact] = {}
    for name, kind in SCHEMA[event].items():
        match kind:
            case Kind.MODEL:
                facts[name] = draw(st.sampled_from(MODELS))
            case Kind.PERSON:
                facts[name] = draw(st.sampled_from(PEOPLE))
            case Kind.PERSONS:
                facts[name] = draw(st.lists(st.sampled_from(PEOPLE), max_size=2, unique=True))
            case Kind.PLATFORM:
                facts[name] = draw(st.sampled_from(PLATFORMS))
            case Kind.DIGEST if name in {"request", "grant"}:
                facts[name] = draw(st.sampled_from(REQUESTS))
            case Kind.INTEGER if name in {"use", "version"}:
                facts[name] = draw(st.integers(1, 2))
            case Kind.INTEGER if name == "total":
                facts[name] = draw(st.integers(0, 100))
            case Kind.CODE if name == "isolation":
                facts[name] = draw(st.sampled_from(("process", "vm")))
            case _:
                pass
    return event, draw(st.sampled_from((0, 1, 600, 4000, -30))), facts


def histories(events: Sequence[EventName] = _EVENTS, *, most: int = 25) -> st.SearchStrategy[list[bytes]]:
    """Return logs of made-up acts."""
    return st.lists(acts(events), max_size=most).map(log_of)
