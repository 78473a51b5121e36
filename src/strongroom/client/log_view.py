"""The log as a wallet's owner reads it over the broker's API: each head is checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from strongroom.access.request import LogHead
from strongroom.audit.checkpoint import Checkpoint
from strongroom.audit.errors import MissingRowsError
from strongroom.audit.protocol import ProvenEntry
from strongroom.audit.reading.view import Extent
from strongroom.audit.succession import Head
from strongroom.client.service import Session
from strongroom.client.trust import check_continues
from strongroom.client.wallet import MOST_LOOKS, Seen, advance, outrun
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import UnavailableError
from strongroom.core.signature import PublicKey

T = TypeVar("T")
TOO_MANY: Final = "too-many-calls"
"""The broker's word for calls that come too fast."""
PAUSE: Final = 0.5
"""Seconds: the broker lets some dozens of calls through meanwhile."""
MOST_TRIES: Final = 60


class BrokerLog:
    """The log of the deployment that a wallet is bound to; a ``LogView`` (:mod:`strongroom.audit.reading.view`).

    Nothing but the log is asked for: it can be read while the keeper is locked or gone. A long log takes more calls
    than the broker lets anybody make at once: this waits its turn.
    """

    signed = True

    def __init__(self, session: Session, sleep: Callable[[float], None]) -> None:
        self._session = session
        self._log = session.log
        self._head: Head | None = None
        self._sleep = sleep

    @property
    def keeper_key(self) -> PublicKey:
        """The keeper's key, from the pinned genesis."""
        return self._log.genesis.keeper_key

    def head(self) -> Checkpoint:
        """Return the newest checkpoint, and remember it in the wallet.

        :raises TamperedError: it isn't the log's, or doesn't continue what this wallet saw.
        :raises UnavailableError: others saw more each time.
        """
        wallet = self._session.wallet
        for _ in range(MOST_LOOKS):
            # Looked up before the log is asked: what others see meanwhile would make this look old.
            seen = wallet.seen()
            newest = self._log.head(self._patient(self._session.api.checkpoint))
            head = LogHead(size=newest.size, root=Digest(DigestAlgorithm.SHA256, newest.root))
            check_continues(seen.log, head, self._log.succession, self.consistency)
            if advance(wallet, seen, Seen(documents=seen.documents, log=head)):
                self._head = newest
                return Checkpoint(self._log.genesis.log_origin, newest.size, newest.root)
        raise outrun()

    def extent(self, index: int) -> Extent:
        """Return the tree that holds an entry."""
        known = self._log.succession
        shard = known.holding(index)
        tree = known.final(shard)
        if self._head is not None and shard == self._head.shard:
            tree = self._head.checkpoint
        if tree is None:
            raise MissingRowsError(f"the log has no entry {index} yet", index=index)
        return Extent(shard.base, shard.base + tree.size, tree.root)

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries, as the server says."""
        return self._patient(lambda: self._session.api.entries(start, count))

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return an audit path, as the server says."""
        return self._patient(lambda: self._session.api.inclusion(index, size))[1]

    def together(self, places: Sequence[int], size: int) -> tuple[ProvenEntry, ...]:
        """Return entries with their audit paths, as the server says."""
        return self._patient(lambda: self._session.api.together(places, size))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return a consistency proof, as the server says."""
        return self._patient(lambda: self._session.api.consistency(old, new))

    def _patient(self, call: Callable[[], T]) -> T:
        for tried in range(MOST_TRIES):
            try:
                return call()
            except UnavailableError as error:
                if error.reason != TOO_MANY or tried == MOST_TRIES - 1:
                    raise
            self._sleep(PAUSE)
        raise AssertionError("unreachable: the last try returns or raises")
