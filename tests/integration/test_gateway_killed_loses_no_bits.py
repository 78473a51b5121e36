"""Kill -9 of the governor at any moment: what it let out, the next one knows. No old copy of its files helps."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from strongroom.core.errors import ConflictError
from strongroom.enclave.gateway.adapters.odometer_files import FileLog
from support.deployment import TESTS
from support.gateways import ATLAS, KEY, text_of

pytestmark = pytest.mark.integration
PROGRAM = """
import sys, threading
from dataclasses import replace
from pathlib import Path
from support.gateways import gateway, honest, roomy
policy = roomy(model_day_bits=40_000_000, fleet_day_bits=40_000_000, principal_day_bits=40_000_000)
with gateway(Path(sys.argv[1]), honest(0.0001), policy) as live:
    print(live.url or live.error, flush=True)
    threading.Event().wait()
"""
BITS = 9


@contextmanager
def governor(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        while line and not line.startswith("http"):
            line = process.stdout.readline().decode()
        try:
            yield process, line.strip()
        finally:
            process.kill()


def read_until_killed(url: str, number: int, seen: list[int]) -> None:
    tokens = 0
    body = {"model": ATLAS, "prompt": text_of([number]), "max_tokens": 4000, "stream": True}
    try:
        with (
            httpx2.Client(timeout=30, headers={"authorization": f"Bearer {KEY}"}) as client,
            client.stream("POST", url + "/v1/completions", json=body) as response,
        ):
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    tokens += len(json.loads(line[6:])["choices"][0]["text"].split())
    except httpx2.HTTPError:
        pass
    seen.append(tokens)


def totals(folder: Path) -> list[int]:
    return [json.loads(line)["total"] for line in (folder / "governor" / "atlas.odometer.log").read_text().splitlines()]


def test_killed_at_five_moments(tmp_path: Path) -> None:
    spent = 0
    for moment in (0.05, 0.1, 0.2, 0.35, 0.5):
        with governor(tmp_path) as (process, url):
            assert totals(tmp_path)[-1] >= spent * BITS
            seen: list[int] = []
            readers = [threading.Thread(target=read_until_killed, args=(url, n, seen)) for n in range(6)]
            for reader in readers:
                reader.start()
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            for reader in readers:
                reader.join(30)
            spent += sum(seen)
        found = totals(tmp_path)
        assert found == sorted(found)
        assert found[-1] >= spent * BITS
    assert spent > 0


def test_an_old_copy_of_either_file_refunds_nothing(tmp_path: Path) -> None:
    state = tmp_path / "governor"
    for lost in ("atlas.odometer.json", "atlas.odometer.log"):
        with governor(tmp_path) as (_process, url):
            read_until_killed(url, 1, [])
            before = totals(tmp_path)[-1]
        kept = tmp_path / f"old-{lost}"
        with governor(tmp_path) as (_process, url):
            shutil.copy(state / lost, kept)
            read_until_killed(url, 1, [])
            after = totals(tmp_path)[-1]
            assert after > before
        shutil.copy(kept, state / lost)
        with governor(tmp_path) as (_process, url):
            assert url
            assert totals(tmp_path)[-1] >= after


def test_a_torn_last_line_counts_for_nothing_that_left(tmp_path: Path) -> None:
    with governor(tmp_path) as (_process, url):
        read_until_killed(url, 1, [])
    log = tmp_path / "governor" / "atlas.odometer.log"
    before = totals(tmp_path)[-1]
    with log.open("ab") as file:
        file.write(b'{"at":"2026-01-01T00')
    with governor(tmp_path) as (_process, url):
        assert url
        assert totals(tmp_path)[-1] >= before


def test_a_second_governor_is_refused(tmp_path: Path) -> None:
    with governor(tmp_path), pytest.raises(ConflictError, match="another governor"):
        FileLog(tmp_path / "governor" / "atlas.odometer.log", ATLAS)
