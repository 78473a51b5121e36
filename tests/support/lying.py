"""A keeper that lies: it records, with its own key, what follows from nothing."""

from __future__ import annotations

from collections.abc import Mapping
from unittest import mock

from strongroom.audit.entries import Entry
from strongroom.audit.facts import Fact
from strongroom.core.events import EventName
from strongroom.keeper.journal import Recorded
from strongroom.keeper.service import Keeper
from strongroom.release.chronicle import Chronicle


async def lie(keeper: Keeper, event: EventName, facts: Mapping[str, Fact]) -> Recorded:
    """Record what the journal's own reader would refuse. What the ledger can't take, it refuses all the same."""
    with mock.patch.object(Chronicle, "require"):
        recording = keeper.journal.record(event, facts, keeper.vault.signer)
    return await recording


class _Gullible(Chronicle):
    """A reader that takes every act for founded."""

    def require(self, index: int, entry: Entry) -> None:
        """Refuse nothing."""


def gullible(keeper: Keeper) -> Keeper:
    """Have a keeper record what nobody asked for or agreed on: for rooms without people, whose keys are looked at."""
    keeper.journal._reader = _Gullible(ledger=keeper.journal.ledger)
    return keeper
