"""Replaying a log from its first entry: the one way to know what stands, for the keeper as for an auditor.

Numbered as in docs/spec/audit-entries.md:
1. each entry is well formed; 2. counters have no gap; 3. the first entry opens this deployment's log;
4. the keeper signed what is said to be its own; 5. all of it hashes to the signed root.
"""

from __future__ import annotations

from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.entries import Entry, read_entry, verify_entry
from strongroom.audit.errors import (
    EditedEntryError,
    EntryError,
    EntryForgedError,
    GenesisMismatchError,
    MissingRowsError,
)
from strongroom.audit.merkle import Frontier, leaf_hash
from strongroom.audit.sequencer import Counters
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.core.signature import PublicKey


class Replay:
    """Takes entries in order and refuses the first that doesn't belong.

    Without ``keeper_key`` the keeper's signatures aren't checked, without ``genesis`` any deployment's log is taken.
    """

    def __init__(self, *, keeper_key: PublicKey | None, genesis: Digest | None) -> None:
        self._keeper_key = keeper_key
        self._genesis = genesis
        self.counters = Counters()
        self.frontier = Frontier()
        self.signatures = 0

    @property
    def size(self) -> int:
        """Entries taken so far."""
        return self.frontier.size

    def feed(self, data: bytes, leaf: bytes | None = None) -> Entry:
        """Take the next entry; ``leaf`` is its hash where the caller has it.

        :raises EditedEntryError: malformed (step 1). :raises SequenceError: a gap (2).
        :raises GenesisMismatchError: another deployment's (3). :raises EntryForgedError: not the keeper's (4).
        """
        index = self.size
        try:
            entry = read_entry(data)
        except EntryError as error:
            raise EditedEntryError(f"entry {index}: {error.message}", index=index) from None
        self.counters.replay(entry, index)
        self._check_opening(entry, index)
        if self._keeper_key is not None:
            try:
                verify_entry(entry, self._keeper_key)
            except EntryForgedError as error:
                raise EntryForgedError(f"entry {index}: {error.message}", index=index) from None
            self.signatures += entry.signature is not None
        self.frontier.append(leaf_hash(data) if leaf is None else leaf)
        return entry

    def _check_opening(self, entry: Entry, index: int) -> None:
        if (entry.event is EventName.LOG_OPENED) != (index == 0):
            raise GenesisMismatchError(f"entry {index}: a log is opened by its first entry, once", index=index)
        if index == 0 and self._genesis is not None and not entry.digest("genesis").matches(self._genesis):
            raise GenesisMismatchError("the log was opened for another genesis", index=0)

    def finish(self, checkpoint: Checkpoint) -> None:
        """Check that what was taken is exactly the tree that was signed (step 5).

        :raises MissingRowsError: fewer entries. :raises EditedEntryError: other entries.
        """
        if self.size != checkpoint.size:
            raise MissingRowsError(
                f"{self.size} entries are there, {checkpoint.size} were signed", index=min(self.size, checkpoint.size)
            )
        if self.frontier.root() != checkpoint.root:
            raise EditedEntryError(f"the {self.size} entries don't hash to the signed root")
