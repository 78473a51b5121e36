"""What several threads want closed is closed once, and nobody writes to a number that is another file's by then."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.core.adapters.durable import append_durably
from strongroom.enclave.adapters.channel import Channel
from strongroom.enclave.adapters.process_runner import ProcessRunning
from strongroom.responder.adapters.record_file import RecordFile, RecordUnwritableError, read_record

pytestmark = pytest.mark.integration


@pytest.fixture
def restless() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_an_enclave_that_several_threads_kill_is_let_go_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pairs = [socket.socketpair() for _ in range(2)]
    reading, lifeline = os.pipe()
    closed, close = list[int](), os.close

    def counted(descriptor: int) -> None:
        closed.append(descriptor)
        close(descriptor)

    monkeypatch.setattr(os, "close", counted)
    channel, report = (Channel(ours) for ours, _theirs in pairs)
    with ProcessRunning(process, channel=channel, report=report, lifeline=lifeline) as running:
        process.kill()
        began = threading.Barrier(8)

        def kill() -> None:
            began.wait(30)
            running.kill()

        threads = [threading.Thread(target=kill) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert closed.count(lifeline) == 1
    close(reading)
    for _ours, theirs in pairs:
        theirs.close()


def test_a_record_is_closed_behind_the_line_that_is_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(descriptor: int, data: bytes) -> None:
        writing.set()
        assert go_on.wait(60)
        append_durably(descriptor, data)

    async def story() -> None:
        record = RecordFile(tmp_path)
        monkeypatch.setattr("strongroom.responder.adapters.record_file.append_durably", slow)
        # Whoever waited is gone; the thread that writes isn't.
        waited = asyncio.create_task(record.append({"number": 0}))
        await asyncio.to_thread(writing.wait, 60)
        waited.cancel()
        closing = threading.Thread(target=record.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        go_on.set()
        closing.join(60)
        with pytest.raises(RecordUnwritableError):
            await record.append({"number": 1})
        with pytest.raises(RecordUnwritableError):
            await record.check()
        record.close()
        await asyncio.gather(waited, return_exceptions=True)

    asyncio.run(story())
    assert len(read_record(tmp_path)) == 1
