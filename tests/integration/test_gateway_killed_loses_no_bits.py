"""Kill -9 of the gateway or of the keeper at any moment: what was let out stands in the deployment's log.

No older copy of the governor's folder, of the broker's database or of the whole deployment refunds a bit.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.audit.entries import Entry
from strongroom.core.events import EventName
from strongroom.core.ids import ModelId
from strongroom.egress.errors import MeterSupersededError
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.gateway.adapters.governor_folder import GovernorFolder
from support.deployment import MODEL, TESTS
from support.gateways import KEY, gateway, honest, roomy, text_of
from support.metered_lab import Access, MeteredLab, metered_lab, software_tpm

pytestmark = pytest.mark.integration
PROGRAM = """
import pickle, sys, threading
from pathlib import Path
from support.gateways import gateway, honest
access, policy = pickle.loads(Path(sys.argv[2]).read_bytes())
with access.odometer() as odometer, gateway(Path(sys.argv[1]), honest(0.0001), policy, odometer=odometer) as live:
    print(live.url or live.error, flush=True)
    threading.Event().wait()
"""
BITS = 9
DAY = 6_000_000
POLICY: EgressPolicy = replace(
    roomy(model_day_bits=DAY, fleet_day_bits=DAY, principal_day_bits=DAY), model=ModelId(MODEL)
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeteredLab]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    folder = tmp_path_factory.mktemp("lab")
    with software_tpm(folder) as tpm, metered_lab(folder, tpm, POLICY) as made:
        yield made


@contextmanager
def governor(folder: Path, access: Access) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    (folder / "access.pickle").write_bytes(pickle.dumps((access, POLICY)))
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(folder / "access.pickle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        while line and not line.startswith("http"):
            line = process.stdout.readline().decode()
        try:
            yield process, line.strip()
        finally:
            process.kill()


def read_until_killed(url: str, number: int, seen: list[int], began: threading.Event) -> None:
    tokens = 0
    body = {"model": MODEL, "prompt": text_of([number]), "max_tokens": 4000, "stream": True}
    try:
        with (
            httpx2.Client(timeout=30, headers={"authorization": f"Bearer {KEY}"}) as client,
            client.stream("POST", url + "/v1/completions", json=body) as response,
        ):
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    began.set()
                    tokens += len(json.loads(line[6:])["choices"][0]["text"].split())
    except httpx2.HTTPError:
        pass
    seen.append(tokens)


def stream_for(url: str, seconds: float, streams: int = 6) -> tuple[list[int], list[threading.Thread]]:
    """Begin streams, and let them run for a while from the first token on."""
    seen: list[int] = []
    began = threading.Event()
    readers = [threading.Thread(target=read_until_killed, args=(url, n, seen, began)) for n in range(streams)]
    for reader in readers:
        reader.start()
    assert began.wait(30)
    time.sleep(seconds)
    return seen, readers


def joined(readers: list[threading.Thread]) -> None:
    for reader in readers:
        reader.join(30)


def totals(entries: list[Entry]) -> list[int]:
    return [entry.integer("total") for entry in entries]


def test_the_gateway_killed_at_three_moments(tmp_path: Path, lab: MeteredLab) -> None:
    access, _key, _request = lab.released()
    spent = lab.spent() // BITS
    for moment in (0.0, 0.1, 0.3):
        with governor(tmp_path, access) as (process, url):
            assert lab.spent() >= spent * BITS
            seen, readers = stream_for(url, moment)
            process.send_signal(signal.SIGKILL)
            joined(readers)
            assert sum(seen) > 0
            spent += sum(seen)
        assert lab.spent() >= spent * BITS
    found = totals(lab.entries(EventName.ODOMETER_ADVANCED))
    assert found == sorted(found)
    assert found[-1] == lab.spent()


@pytest.mark.heavy
def test_the_keeper_killed_under_load_loses_no_bits(tmp_path: Path, lab: MeteredLab) -> None:
    access, key, request = lab.released()
    spent = lab.spent() // BITS
    with governor(tmp_path, access) as (_process, url):
        seen, readers = stream_for(url, 0.1)
        lab.deployment.kill("keeper")
        joined(readers)
        # What the log vouched for is served; an answer larger than that waits for a keeper, and gets none.
        whole = {"model": MODEL, "prompt": "w5", "max_tokens": 4000}
        spent += sum(seen)
        for _ in range(100):
            answer = httpx2.post(
                url + "/v1/completions", json=whole, headers={"authorization": f"Bearer {KEY}"}, timeout=60
            )
            if answer.status_code != 200:
                break
            spent += answer.json()["usage"]["completion_tokens"]
        assert answer.status_code == 503
        lab.deployment.start("keeper", more=["--lease-seconds", "600"])
        assert lab.spent() >= spent * BITS
        # The new keeper knows of the lease once its agent proved itself anew.
        lab.renew(access, key, request)
        answer = httpx2.post(
            url + "/v1/completions", json=whole, headers={"authorization": f"Bearer {KEY}"}, timeout=60
        )
        assert answer.status_code == 200
        spent += 4000
    assert lab.spent() >= spent * BITS


def test_a_second_governor_ends_the_first_and_freezes_nothing(tmp_path: Path, lab: MeteredLab) -> None:
    first, second = lab.released()[0], lab.released()[0]
    with first.odometer() as one, gateway(tmp_path / "first", honest(), POLICY, odometer=one) as live:
        assert live.complete(most=8).status_code == 200
        with second.odometer() as other, gateway(tmp_path / "second", honest(), POLICY, odometer=other) as newer:
            assert newer.complete(most=8).status_code == 200
            # Once its block is used up it asks, and hears that its run is over.
            with suppress(httpx2.HTTPError):
                while live.complete(most=4000).status_code == 200:
                    pass
            assert live.stopped.wait(60)
            assert newer.complete(most=8).status_code == 200
    assert isinstance(live.error, MeterSupersededError)
    # It did nothing wrong: it may be started again, and nobody else is stopped.
    GovernorFolder(live.state, ModelId(MODEL)).check_resumed(lambda: None)
    assert lab.deployment.call("odometer", model=MODEL)["frozen"] is False


@pytest.mark.heavy
def test_no_older_copy_refunds(tmp_path: Path, lab: MeteredLab) -> None:
    record, home = tmp_path / "governor" / f"{MODEL}.odometer.json", lab.deployment.home
    access, key, request = lab.released()

    def serve() -> int:
        with governor(tmp_path, access) as (_process, url):
            joined(stream_for(url, 0, streams=1)[1])
        return lab.spent()

    before = serve()
    shutil.copy(record, tmp_path / "old-record")
    shutil.copy(home / "broker" / "broker.db", tmp_path / "old-broker.db")
    after = serve()
    assert after > before
    # An older local record, an older database of the broker's, or none: the log knows better.
    shutil.copy(tmp_path / "old-record", record)
    assert serve() > after
    record.unlink()
    after = lab.spent()
    shutil.copy(tmp_path / "old-broker.db", home / "broker" / "broker.db")
    assert serve() > after
    # The whole deployment, log and pins too, comes back in an older state: the governor's folder knows better.
    for name in ("keeper", "log"):
        lab.deployment.kill(name)
    for folder in ("log", "keeper"):
        shutil.copytree(home / folder, tmp_path / f"old-{folder}")
    lab.deployment.start("log")
    lab.deployment.start("keeper", more=["--lease-seconds", "600"])
    lab.renew(access, key, request)
    before, after = lab.spent(), serve()
    assert after > before
    for name in ("keeper", "log"):
        lab.deployment.kill(name)
    for folder in ("log", "keeper"):
        shutil.rmtree(home / folder)
        shutil.copytree(tmp_path / f"old-{folder}", home / folder)
    lab.deployment.start("log")
    lab.deployment.start("keeper", more=["--lease-seconds", "600"])
    assert lab.spent() == before
    lab.renew(access, key, request)
    # The last block may have been logged and not been kept when it was killed: nothing had left on its account then.
    kept = json.loads(record.read_text())["facts"]["total"]
    assert before < kept <= after
    assert serve() > kept
    # And everybody who reads the log sees that its total jumped where a run began.
    found = totals(lab.entries(EventName.ODOMETER_ADVANCED))
    assert kept in found
