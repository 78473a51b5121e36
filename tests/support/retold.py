"""A room's log judged again, with everything that its keeper and its people kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from strongroom.audit.entries import read_entry
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.core.digest import Digest
from strongroom.release.exhibits import ExhibitKind, Kind
from strongroom.release.retrial import Retrial, Verdict
from support.room import Room


@dataclass
class RoomExhibits:
    """What a room keeps; ``instead`` puts other bytes in an object's place, None takes it away."""

    room: Room
    instead: dict[tuple[str, Digest], bytes | None] = field(default_factory=dict)

    def find(self, kind: Kind, digest: Digest) -> bytes | None:
        """Return an object."""
        name = (kind.value, digest)
        if name in self.instead:
            return self.instead[name]
        if kind is ExhibitKind.DECISION:
            return self.room.decisions.find(digest)
        if kind is ExhibitKind.ATTESTED:
            return self.room.attested.find(digest)
        return self.room.said.get(name) or self.room.documents.load(*name)


def retell(room: Room, exhibits: RoomExhibits | None = None) -> Verdict:
    """Judge everything that a room's log holds."""
    retrial, frontier = Retrial(room.genesis, exhibits or RoomExhibits(room)), Frontier()
    for index, data in enumerate(room.log.entries):
        frontier.append(leaf_hash(data))
        retrial.take(index, read_entry(data), frontier.root())
    return retrial.verdict()


def codes(verdict: Verdict) -> set[str]:
    """Return the codes of what was found wrong."""
    return {finding.code for finding in verdict.findings}
