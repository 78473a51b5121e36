"""Replaying a log from its first entry: the one way to know what stands, for the keeper as for an auditor.

Numbered as in docs/spec/audit-entries.md:
1. each entry is well formed; 2. counters have no gap; 3. the first entry opens this deployment's log;
4. the keeper signed what is said to be its own. That all of it hashes to the signed root is for the caller to check.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.errors import EditedEntryError, EntryError, EntryForgedError, LogError, SuccessionError
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.sequencer import Counters
from strongroom.audit.succession import Opening, check_opening
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChecks:
    """What is asked of each entry by itself.

    Without ``keeper_key`` the keeper's signatures aren't checked, without ``genesis`` any deployment's log is taken.
    ``opening`` is what a later shard's first entry must say. Indexes are those within the shard.
    """

    keeper_key: PublicKey | None
    genesis: Digest | None
    opening: Opening | None = None

    def read(self, index: int, data: bytes) -> Entry:
        """Read the entry at ``index``.

        :raises EditedEntryError: malformed (step 1). :raises GenesisMismatchError: another deployment's (3).
        :raises SuccessionError: a later shard's opening that doesn't continue the one before (3).
        :raises EntryForgedError: not the keeper's (4).
        """
        try:
            entry = read_entry(data)
        except EntryError as error:
            raise EditedEntryError(f"entry {index}: {error.message}", index=index) from None
        self._opening(entry, index)
        if self.keeper_key is not None:
            try:
                verify_entry(entry, self.keeper_key)
            except EntryForgedError as error:
                raise EntryForgedError(f"entry {index}: {error.message}", index=index) from None
        return entry

    def _opening(self, entry: Entry, index: int) -> None:
        try:
            check_opening(entry, first=index == 0, opening=self.opening, genesis=self.genesis)
        except LogError as error:
            raise type(error)(f"entry {index}: {error.message}", index=index) from None


class Replay:
    """Takes a shard's entries in order and refuses the first that doesn't belong.

    ``counters`` are those of the shard before: producers count on over a seam.
    """

    def __init__(self, checks: EntryChecks, counters: Counters | None = None) -> None:
        self._checks = checks
        self.counters = counters or Counters()
        self.frontier = Frontier()
        self.closed: Entry | None = None
        """The entry that closed the shard: nothing follows it."""

    @property
    def size(self) -> int:
        """Entries taken so far."""
        return self.frontier.size

    def feed(self, data: bytes, leaf: bytes | None = None) -> Entry:
        """Take the next entry; ``leaf`` is its hash where the caller has it.

        :raises SequenceError: a gap (step 2). :raises SuccessionError: it follows the entry that closed the shard.
        Raises what :meth:`EntryChecks.read` raises.
        """
        entry = self._checks.read(self.size, data)
        if self.closed is not None:
            raise SuccessionError(f"entry {self.size} follows the one that closed the shard", index=self.size)
        self.counters.replay(entry, self.size)
        self.frontier.append(leaf_hash(data) if leaf is None else leaf)
        self.closed = entry if entry.event is EventName.SHARD_CLOSED else None
        return entry
