"""The real keeper, which kills itself with SIGKILL at the place named in ``HOME/keeper/crash-at``, once.

Places: the numbers of steps that the keeper announces as done (``4.9``, ``5``, ``6``), and three within step 5:
``5 queued`` (the record is queued, nothing was sent), ``5 sent`` (the log writer may or may not have it) and
``5 answered`` (it is durable, and the keeper hasn't acted on it). Around the keyring's file: ``keyring planned`` and
``keyring held``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from strongroom.audit.facts import Fact
from strongroom.audit.succession import Prepared
from strongroom.core.events import EventName
from strongroom.core.secret import SecretBytes
from strongroom.keeper.journal import Appended, LogPort, Recorded
from strongroom.keeper.keyring import Keyring
from strongroom.keeper.service import Keeper
from strongroom.keeper.wiring import main
from strongroom.keys.hierarchy import Tree
from strongroom.release.steps import Step

FOLDER = Path(sys.argv[sys.argv.index("--home") + 1]) / "keeper"


def at(place: str) -> None:
    """Die here, if this is the place."""
    marker = FOLDER / "crash-at"
    if marker.exists() and marker.read_text() == place:
        marker.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


class CrashingLog:
    """The keeper's port to the log writer, with a crash on either side of the answer."""

    def __init__(self, log: LogPort) -> None:
        self._log = log

    async def append(self, entries: tuple[bytes, ...]) -> Appended:
        """Append; die once it is sent, or once it is answered."""
        appending = asyncio.ensure_future(self._log.append(entries))
        for _ in range(3):
            await asyncio.sleep(0)
        at("5 sent")
        appended = await appending
        at("5 answered")
        return appended

    async def read(self, start: int, count: int) -> tuple[bytes, ...]:
        """Return entries."""
        return await self._log.read(start, count)

    async def head(self) -> tuple[int, bytes | None]:
        """Return size and checkpoint."""
        return await self._log.head()

    async def tight(self) -> bool:
        """Return whether space is short."""
        return await self._log.tight()

    async def prepare(self) -> Prepared:
        """Have the next shard's keys made."""
        return await self._log.prepare()

    async def cosigned(self) -> bytes | None:
        """Return what witnesses cosigned."""
        return await self._log.cosigned()


class CrashingKeeper(Keeper):
    """Dies where a crash test wants it to."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.journal._log = CrashingLog(self.journal._log)

    def record(self, event: EventName, facts: Mapping[str, Fact]) -> asyncio.Future[Recorded]:
        """Die once the record of an act is queued; the grant that is issued with it is queued before."""
        recording = super().record(event, facts)
        if event is not EventName.GRANT_ISSUED:
            at("5 queued")
        return recording

    def hold(
        self, keyring: Keyring, roots: Mapping[Tree, SecretBytes] | None = None, *, data: bytes | None = None
    ) -> None:
        """Die before and after a keyring is made durable."""
        at("keyring planned")
        super().hold(keyring, roots, data=data)
        at("keyring held")

    def _reached(self, step: Step) -> None:
        at(step.number)


if __name__ == "__main__":
    main(CrashingKeeper)
