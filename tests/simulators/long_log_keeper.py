"""The real keeper without its quotas, that makes its log as long as a benchmark wants: with refusals of what was asked.

A file in its folder says how many entries there are to be. Everything else is the keeper's own: each
entry is signed, folded in and durable as any other.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from simulators.unhurried_keeper import without_quotas
from strongroom.audit.facts import Fact
from strongroom.core.clock import format_instant
from strongroom.core.events import EventName
from strongroom.keeper import wiring
from strongroom.keeper.service import Keeper

WANTED = "keeper/entries-wanted"
BATCH = 512


class LongLogKeeper(Keeper):
    """A keeper that fills its log when it is told to."""

    async def start(self) -> None:
        """Start, and wait to be told."""
        await super().start()
        self._filling = asyncio.create_task(self._fill(Path(sys.argv[sys.argv.index("--home") + 1]) / WANTED))
        self._filling.add_done_callback(lambda task: task.result())

    async def _fill(self, told: Path) -> None:
        wanted = await asyncio.to_thread(_read_when_there, told)
        requests, at = sorted(self.journal.ledger.created, key=str), format_instant(self.journal.latest)
        while self.journal.size < wanted:
            for number in range(BATCH):
                facts: dict[str, Fact] = {"request": requests[number % len(requests)], "count": 2, "first": at}
                last = self.journal.record(EventName.REFUSALS_SUMMED, facts | {"last": at}, self.vault.signer)
            await last


def _read_when_there(told: Path) -> int:
    while not told.exists():
        time.sleep(0.2)
    return int(told.read_text())


if __name__ == "__main__":
    without_quotas()
    wiring.main(LongLogKeeper)
