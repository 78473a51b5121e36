"""What the log says before anything of a backup is believed: its ledger, and every object that it names.

A row or file of the backup that the log doesn't name is dropped; whatever may happen once is known from here alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from strongroom.audit.entries import Entry
from strongroom.audit.replay import EntryChecks
from strongroom.audit.sequencer import Counters
from strongroom.backup.entries import Rebuilt
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, TamperedError
from strongroom.core.events import EventName
from strongroom.core.genesis import Genesis
from strongroom.release.ledger import Ledger

_NAMES: Final = {
    EventName.REQUEST_CREATED: "request",
    EventName.REQUEST_APPROVED: "approval",
    EventName.REQUEST_DENIED: "denial",
    EventName.ROSTER_ADOPTED: "document",
    EventName.POLICY_ADOPTED: "document",
    EventName.REFERENCE_VALUES_ADOPTED: "document",
    EventName.EGRESS_POLICIES_ADOPTED: "document",
    EventName.CHANGE_PROPOSED: "document",
    EventName.PLATFORM_ENROLLED: "record",
}
"""Event -> the fact with the digest of a signed object that the broker keeps."""


class ReplayRefusedError(TamperedError):
    """The log holds an entry that can't be there."""

    code = "log-replay-refused"


@dataclass(slots=True)
class Replayed:
    """The log's effect, entry by entry."""

    genesis: Genesis
    ledger: Ledger = field(default_factory=Ledger)
    named: set[Digest] = field(default_factory=set)
    """Signed objects: requests, approvals, denials, documents, platform records."""
    rebuilt: Rebuilt = field(init=False)
    _counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        self.rebuilt = Rebuilt(self.genesis)

    def through(self, entries: Iterable[bytes]) -> Iterator[bytes]:
        """Pass entries on, each taken before. Believe nothing of it before the checkpoint over them was checked.

        :raises ReplayRefusedError: one isn't the keeper's or the log's own, or contradicts those before it.
        """
        for data in entries:
            try:
                entry = self._taken(data)
            except (MalformedError, TamperedError) as error:
                raise ReplayRefusedError(f"entry {self.ledger.size} of the log: {error.message}") from None
            if entry.event in _NAMES:
                self.named.add(entry.digest(_NAMES[entry.event]))
            yield data

    def _taken(self, data: bytes) -> Entry:
        rebuilt, index = self.rebuilt, self.ledger.size
        checks = EntryChecks(
            keeper_key=self.genesis.keeper_key, genesis=self.genesis.digest, opening=rebuilt.succession.opening
        )
        entry = checks.read(rebuilt.frontier.size, data)
        self._counters.replay(entry, index)
        self.ledger.apply(index, entry)
        rebuilt.take(data)
        self.ledger.roots += rebuilt.root
        return entry
