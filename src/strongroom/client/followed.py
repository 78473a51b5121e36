"""The log's shards as far as a client followed them: from the one that the genesis pins, seam by seam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from strongroom.access.request import LogHead
from strongroom.audit.succession import MAX_SHARDS, Head, Seam, Succession
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.genesis import Genesis

Fetch = Callable[[int], tuple[Seam, ...]]
"""Number of a shard -> how it and those after it were closed, oldest first; from a server that isn't believed."""
_ROUNDS: Final = MAX_SHARDS


class FollowedLog:
    """Checks checkpoints of any shard. Seams are fetched when a checkpoint of an unknown shard comes."""

    def __init__(self, genesis: Genesis, fetch: Fetch) -> None:
        self.genesis = genesis
        self.succession = Succession.of(genesis)
        self._fetch = fetch

    def head(self, note: bytes) -> Head:
        """Verify a signed checkpoint.

        :raises MalformedError: not a checkpoint. :raises WrongKeyError: no shard's of this log.
        :raises ForgedCheckpointError: the shard's key didn't sign it.
        :raises SuccessionError: a shard isn't shown to be closed as it must be.
        :raises EntryForgedError: the keeper didn't close it. :raises ForkError: it is of a closed shard, and another.
        """
        for _ in range(_ROUNDS):
            if self.succession.knows(note):
                break
            seams = self._fetch(self.succession.current.number)
            for seam in seams:
                self.succession = self.succession.cross(seam, self.genesis.keeper_key)
            if not seams:
                break
        return self.succession.read(note)

    def log_head(self, note: bytes) -> LogHead:
        """Verify a signed checkpoint; returns the size over all shards, and the root of the newest tree in it.

        Raises as :meth:`head`.
        """
        head = self.head(note)
        return LogHead(size=head.size, root=Digest(DigestAlgorithm.SHA256, head.root))
