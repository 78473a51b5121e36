"""Release latency and rate through the real keeper and log writer, the durable record included.

Timed: one `release` call on the keeper's socket (steps 4 to 6, with the sync to disk of step 5), from the caller's
first byte to the signed delivery. Each release is a full one, with a challenge, a TPM quote and a recipient key of its
own and two approvals; all are under one grant of many uses. Challenges, keys and quotes are made beforehand: a software
TPM takes longer for a quote than the keeper for a release. The broker's HTTPS isn't part of it. Callers, keeper and log
writer share this machine's cores.

    python benchmarks/release.py [--releases N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import structlog

from simulators.swtpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UnavailableError
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier, Testimony
from support.attested import Attested, Sealed
from support.deployment import Deployment

AT_ONCE = (1, 16)
WARM_UP = 20
GOAL_RATE, GOAL_P99_MS = 2000, 20
PARTS = {
    "parse": "frames and dossiers: JSON, base64",
    "verify": "steps 4.1-4.8: signatures, roster, standing, evidence",
    "invariants": "step 4.9: the plain-Python invariants",
    "cedar": "step 4.9: Cedar",
    "record": "step 5: make, sign and fold the entry; check the checkpoint",
    "unwrap": "AES-GCM, twice: before the record and after it",
    "hpke": "step 6: ML-KEM-768 + X25519",
    "sign": "step 6: sign the delivery",
    "answer": "write the answer",
}


@contextmanager
def deployed(folder: Path, tpm: SoftwareTPM, keeper_module: str) -> Iterator[tuple[Attested, Sealed]]:
    """Run a deployment with a sealed model and an enrolled platform."""
    with Deployment.found(folder / "home") as deployment:
        deployment.keeper_module = keeper_module
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        attested = Attested(deployment, tpm)
        attested.adopt_reference_values()
        attested.enrol()
        attested.measure()
        (folder / "plain").mkdir()
        (folder / "plain" / "model.bin").write_bytes(os.urandom(1 << 16))
        yield attested, attested.seal(folder / "plain", folder / "sealed")


async def prepare(attested: Attested, sealed: Sealed, client: UnixClient, count: int) -> list[Json]:
    """Make `count` dossiers, each with a challenge, a quote and a recipient key of its own."""
    request, approvals = await asyncio.to_thread(attested.approved, sealed, max_uses=1000)
    assert attested.record is not None
    made: list[Json] = []
    with attested.device() as device:
        attester = TpmAttester(device)
        for _ in range(count):
            key = RecipientKey()
            told = await client.call("challenge", request=str(request.digest), platform=attested.platform)
            challenge, nonce = told.text("challenge"), told.binary("nonce", max_length=64)
            binding = attested.binding(request, sealed, challenge, nonce, key)
            evidence = attester.attest(binding=binding, measurements=attested.measurements, recipient_key=key.public)
            testimony = Testimony(challenge=challenge, platform=attested.record, evidence=evidence)
            made.append(
                Dossier(request=request, approvals=approvals, testimony=testimony, wrapped=sealed.wrapped).to_json()
            )
    return made


async def release_all(client: UnixClient, dossiers: list[Json], enclaves: int) -> tuple[list[float], float]:
    """Release with so many enclaves at once, each one after the other; returns seconds of each, and of all."""
    waiting, seconds = iter(dossiers), []

    async def enclave() -> None:
        for dossier in waiting:
            began = time.perf_counter()
            answer = await client.call("release", dossier=dossier)
            seconds.append(time.perf_counter() - began)
            with answer.child("delivery") as delivery:
                Envelope.read(delivery)

    began = time.perf_counter()
    await asyncio.gather(*(enclave() for _ in range(enclaves)))
    return seconds, time.perf_counter() - began


async def measure(attested: Attested, sealed: Sealed, count: int) -> list[dict[str, float]]:
    """Measure at each number of enclaves."""
    client = UnixClient(attested.deployment.home / "run" / "keeper.sock")
    rows: list[dict[str, float]] = []
    for enclaves in AT_ONCE:
        dossiers = await prepare(attested, sealed, client, count + WARM_UP)
        await release_all(client, dossiers[:WARM_UP], enclaves)
        seconds, whole = await release_all(client, dossiers[WARM_UP:], enclaves)
        cuts = statistics.quantiles(seconds, n=100)
        rows.append(
            {
                "enclaves": enclaves,
                "releases": len(seconds),
                "per_second": round(len(seconds) / whole),
                "p50_ms": round(1000 * cuts[49], 2),
                "p99_ms": round(1000 * cuts[98], 2),
            }
        )
    await client.close()
    return rows


async def measure_sync(folder: Path, count: int = 200) -> float:
    """Return how long this disk takes to make 4 KiB durable, in milliseconds: no release can be faster."""

    def run() -> float:
        handle = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT, 0o600)
        began = time.perf_counter()
        for number in range(count):
            os.pwrite(handle, os.urandom(4096), 4096 * number)
            os.fsync(handle)
        os.close(handle)
        return 1000 * (time.perf_counter() - began) / count

    return await asyncio.to_thread(run)


async def split(attested: Attested, sealed: Sealed, count: int) -> None:
    """Release at 16 at once in a keeper with stopwatches."""
    client = UnixClient(attested.deployment.home / "run" / "keeper.sock")
    await release_all(client, await prepare(attested, sealed, client, count), max(AT_ONCE))
    await client.close()


def tell_split(home: Path) -> dict[str, float]:
    """Print where the keeper's time went; returns milliseconds for each release."""
    times = json.loads((home / "times.json").read_text())
    spent, calls = times["spent"], times["calls"]
    releases = calls["verify"]
    spent["verify"] -= spent["decide"]
    spent["invariants"] = spent["decide"] - spent["cedar"]
    each: dict[str, float] = {part: round(1000 * spent[part] / releases, 3) for part in PARTS}
    print(f"\nInside the keeper at {max(AT_ONCE)} at once, ms of its one thread for each release:")
    for part, what in PARTS.items():
        print(f"  {each[part]:>7}  {part:<11} {what}")
    entries = calls["entries"] / calls["log"]
    wait = 1000 * spent["log"] / calls["log"]
    print(f"  waited for the log: {wait:.1f} ms an append, {entries:.1f} entries in one (others run meanwhile)")
    each |= {"log_wait_ms": round(wait, 2), "entries_an_append": round(entries, 1)}
    return each


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="release latency and rate")
    parser.add_argument("--releases", type=int, default=400, help="releases timed in each row (at most 900)")
    count = min(parser.parse_args().releases, 900)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if not SoftwareTPM.available():
        sys.exit("no software TPM: install swtpm and swtpm-tools")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        with SoftwareTPM(place / "tpm") as tpm:
            sync = asyncio.run(measure_sync(place))
            with deployed(place / "a", tpm, "strongroom.keeper.wiring") as (attested, sealed):
                rows = asyncio.run(measure(attested, sealed, count))
        with SoftwareTPM(place / "tpm2") as tpm, deployed(place / "b", tpm, "simulators.timed_keeper") as (one, other):
            asyncio.run(split(one, other, min(count, 300)))
            one.deployment.stop("keeper")
            print(f"{'enclaves':>8} {'releases':>9} {'per s':>7} {'p50 ms':>8} {'p99 ms':>8}")
            for row in rows:
                print(
                    f"{row['enclaves']:>8} {row['releases']:>9} {row['per_second']:>7}"
                    f" {row['p50_ms']:>8} {row['p99_ms']:>8}"
                )
            inside = tell_split(one.deployment.home)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"\nOne sync of 4 KiB to this disk: {sync:.2f} ms. {cores} cores, load {load:.1f}.")
    print("Through the keeper's socket; the broker's HTTPS isn't included.")
    print(f"Goal: {GOAL_RATE} releases/s and a p99 of {GOAL_P99_MS} ms at {max(AT_ONCE)}.")
    print(
        json.dumps(
            {"benchmark": "release", "rows": rows, "keeper_ms": inside, "sync_ms": round(sync, 3), "cores": cores}
        )
    )


if __name__ == "__main__":
    try:
        main()
    except UnavailableError as error:
        sys.exit(error.diagnosis())
