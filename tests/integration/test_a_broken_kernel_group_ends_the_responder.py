"""Where the kernel gives no audit records any more the responder ends, loudly, and doesn't go on without them."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import SimpleNamespace

import pytest

from strongroom.detection.adapters.audit_netlink import AuditUnavailableError
from strongroom.responder.sensing import wiring

pytestmark = pytest.mark.integration


class Broken:
    """The kernel's group, whose socket broke: always readable, and never with a record."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.send(b"x")
        self.reads = 0
        self.lost = 0

    def fileno(self) -> int:
        return self.ours.fileno()

    def read(self, _most: int) -> tuple[bytes, ...]:
        self.reads += 1
        raise OSError(errno.ENETDOWN, "the network is down")

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_records_that_cannot_be_read_any_more_end_what_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(wiring, "AuditRecords", Broken)
        monkeypatch.setattr(wiring, "LOOK_SECONDS", 0.01)
        settings = SimpleNamespace(sensors=(), webhooks=(), kernel_audit=True)
        senses = SimpleNamespace(settings=settings, own=lambda *_args, **_members: None)
        senses.health = SimpleNamespace(news=lambda _now: {})
        async with wiring.listening(senses) as (counting,):  # type: ignore[arg-type]  # as much as is asked here
            with pytest.raises(AuditUnavailableError):
                await asyncio.wait_for(counting, 60)

    asyncio.run(run())
