"""Replaying a log from its first entry: the one way to know what stands, for the keeper as for an auditor.

Numbered as in docs/spec/audit-entries.md:
1. each entry is well formed; 2. counters have no gap; 3. the first entry opens this deployment's log;
4. the keeper signed what is said to be its own. That all of it hashes to the signed root is for the caller to check.
"""

from __future__ import annotations

from dataclasses import dataclass

from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.errors import EditedEntryError, EntryError, EntryForgedError, GenesisMismatchError
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.sequencer import Counters
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChecks:
    """What is asked of each entry by itself.

    Without ``keeper_key`` the keeper's signatures aren't checked, without ``genesis`` any deployment's log is taken.
    """

    keeper_key: PublicKey | None
    genesis: Digest | None

    def read(self, index: int, data: bytes) -> Entry:
        """Read the entry at ``index``.

        :raises EditedEntryError: malformed (step 1). :raises GenesisMismatchError: another deployment's (3).
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
        if (entry.event is EventName.LOG_OPENED) != (index == 0):
            raise GenesisMismatchError(f"entry {index}: a log is opened by its first entry, once", index=index)
        if index == 0 and self.genesis is not None and not entry.digest("genesis").matches(self.genesis):
            raise GenesisMismatchError("the log was opened for another genesis", index=0)


class Replay:
    """Takes entries in order and refuses the first that doesn't belong."""

    def __init__(self, checks: EntryChecks) -> None:
        self._checks = checks
        self.counters = Counters()
        self.frontier = Frontier()

    @property
    def size(self) -> int:
        """Entries taken so far."""
        return self.frontier.size

    def feed(self, data: bytes, leaf: bytes | None = None) -> Entry:
        """Take the next entry; ``leaf`` is its hash where the caller has it.

        :raises SequenceError: a gap (step 2). Raises what :meth:`EntryChecks.read` raises.
        """
        entry = self._checks.read(self.size, data)
        self.counters.replay(entry, self.size)
        self.frontier.append(leaf_hash(data) if leaf is None else leaf)
        return entry
