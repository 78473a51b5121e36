"""One model's odometer in a file: signed entries, a line each. It plays the deployment where only a gateway is tested.

Every entry is checked as a governor's process checks it; nothing but the keeper, the log and the broker is missing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from strongroom.audit.entries import make_entry, read_entry
from strongroom.audit.facts import Producer
from strongroom.core.digest import Digest
from strongroom.core.events import EventName
from strongroom.egress.mirror import Mirror
from strongroom.egress.odometer import Block, OdometerEntry
from strongroom.egress.policy import EgressPolicy
from strongroom.release.metering import LoggedReading, Metered, odometer_facts, odometer_of, read_reading, read_seen
from support.logs import KEEPER


class FileOdometer:
    """The odometer of one model. What was told of breaches is kept in `breaches`."""

    def __init__(self, path: Path, policy: EgressPolicy) -> None:
        self.policy = policy
        self.metered = Metered(request=Digest.of(b"request"), use=1, model=policy.model)
        self.breaches: list[str] = []
        self._path = path
        self._entries = path.read_bytes().splitlines() if path.exists() else []
        self.mirror = Mirror(policy.model)
        for data in self._entries:
            self.mirror = self.mirror.after(odometer_of(read_entry(data)))

    def open(self, seen: bytes | None) -> LoggedReading:
        """Begin a run."""
        limit, day = self.policy.lifetime_bits, self.policy.model_day_bits
        known = None if seen is None else read_seen(seen, KEEPER.public_key, self.policy.model)
        return self._append(self.mirror.open(epoch=1, limit=limit, day=day, seen=known, now=int(time.time())))

    def advance(self, block: Block) -> LoggedReading:
        """Answer a block."""
        limit, day = self.policy.lifetime_bits, self.policy.model_day_bits
        return self._append(self.mirror.advance(block, epoch=1, limit=limit, day=day, now=int(time.time())))

    def breach(self, cause: str) -> None:
        """Remember it."""
        self.breaches.append(cause)

    def _append(self, entry: OdometerEntry) -> LoggedReading:
        facts = odometer_facts(self.metered, entry, self.policy.digest)
        data = make_entry(
            EventName.ODOMETER_ADVANCED,
            at=entry.at,
            by=Producer.KEEPER,
            seq=len(self._entries),
            facts=facts,
            signer=KEEPER,
        )
        self.mirror = self.mirror.after(entry)
        with self._path.open("ab") as file:
            file.write(data + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._entries.append(data)
        return read_reading(data, KEEPER.public_key, metered=self.metered)
