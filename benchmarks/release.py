"""Release latency and rate through the real processes, the durable record included: keeper's socket, broker's HTTPS.

Timed: one release (steps 4 to 6, with the sync to disk of step 5), from the caller's first byte to the signed delivery:
by `release` on the keeper's socket, and by POST to the broker over TLS 1.3 with client certificates. Each release is a
full one, with a challenge, a TPM quote and a recipient key of its own and two approvals; all are under one grant of
many uses. Challenges, keys and quotes are made beforehand: a software TPM takes longer for a quote than the keeper for
a release. The broker's limit of calls is lifted. Callers and all processes share this machine's cores.

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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import structlog

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.core.canonical import Json
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import UnavailableError
from strongroom.core.fields import Fields
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier, Testimony
from support.attested import Attested, Sealed
from support.brokers import Caller, RunningBroker
from support.deployment import Deployment

AT_ONCE = (1, 16)
WARM_UP = 20
_NO_KEY: Json = {"nonce": "", "ciphertext": ""}
GOAL_RATE, GOAL_P99_MS = 2000, 20
PARTS = {
    "parse": "frames and dossiers: JSON, base64",
    "verify": "steps 4.1-4.8: signatures, roster, standing, evidence",
    "invariants": "step 4.9: the plain-Python invariants",
    "cedar": "step 4.9: Cedar",
    "keep": "step 4.9: keep what was decided on",
    "record": "step 5: make, sign and fold the entry; check the checkpoint",
    "unwrap": "AES-GCM, twice: before the record and after it",
    "hpke": "step 6: ML-KEM-768 + X25519",
    "sign": "step 6: sign the delivery",
    "answer": "write the answer",
}


@dataclass
class ThroughBroker(Deployment):
    """A deployment whose people and platforms speak to the broker, so that it stores what a release needs."""

    broker: RunningBroker | None = None

    def begin(self) -> None:
        """Start the broker over the running keeper."""
        self.broker = RunningBroker(self.home, self.genesis, None)  # type: ignore[arg-type]  # the keeper is a real one
        self.broker.start()
        self._person = self.broker.caller("dana")

    def close(self) -> None:
        """Stop the broker, then the others."""
        if self.broker is not None:
            self.broker.stop()
        super().close()

    def call(self, operation: str, **members: Json) -> dict[str, Json]:  # noqa: PLR0911 - a line an operation
        """Say over HTTPS what the tests say to the keeper."""
        match operation, members:
            case "adopt", {"kind": kind, "envelope": envelope}:
                return self._post(f"documents/{kind}", envelope=envelope)
            case "state", {"kind": kind, "envelope": envelope}:
                return self._post(f"statements/{kind}", envelope=envelope)
            case "submit", {"request": request}:
                return self._post("requests", request=request)
            case "approve", {"envelope": dict() as envelope}:
                name = Envelope.read(Fields(envelope, "approval")).digest
                return self._post(f"requests/{name}/approvals", envelope=envelope)
            case "seal", {"dossier": dict() as dossier}:
                name = Envelope.read(Fields(dossier["request"], "request")).digest
                made = self._post(f"requests/{name}/seal", recipient_key=dossier["recipient_key"])
                # The broker keeps the wrapped key to itself.
                return {**made, "wrapped": {"data_key": "", "kek": "", "data": _NO_KEY}}
            case "register", _:
                return self._post("manifests", **members)
            case "enrol-begin", {"enrolment": enrolment}:
                return self._post("enrolments", enrolment=enrolment)
            case "enrol-finish", {"session": session, "answer": answer}:
                return self._post(f"enrolments/{session}", answer=answer)
        return super().call(operation, **members)

    def _post(self, path: str, **body: Json) -> dict[str, Json]:
        answer = self._person.post(f"/v1/{path}", body)
        if answer.status != HTTPStatus.OK:
            sys.exit(f"the broker answered {answer.status} to {path}: {answer.text}")
        return answer.json


@contextmanager
def deployed(
    folder: Path, tpm: SoftwareTPM, keeper_module: str, *, broker: bool = False
) -> Iterator[tuple[Attested, Sealed]]:
    """Run a deployment with a sealed model and an enrolled platform."""
    kind = ThroughBroker if broker else Deployment
    with kind.found(folder / "home") as deployment:
        deployment.keeper_module = keeper_module
        deployment.start("log")
        deployment.start("keeper")
        if isinstance(deployment, ThroughBroker):
            deployment.begin()
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


def row(by: str, enclaves: int, seconds: list[float], whole: float) -> dict[str, float | str]:
    """Return one line of the table."""
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "by": by,
        "enclaves": enclaves,
        "releases": len(seconds),
        "per_second": round(len(seconds) / whole),
        "p50_ms": round(1000 * cuts[49], 2),
        "p99_ms": round(1000 * cuts[98], 2),
    }


async def measure(attested: Attested, sealed: Sealed, count: int) -> list[dict[str, float | str]]:
    """Measure at each number of enclaves, by the keeper's socket."""
    client = UnixClient(attested.deployment.home / "run" / "keeper.sock")
    rows = []
    for enclaves in AT_ONCE:
        dossiers = await prepare(attested, sealed, client, count + WARM_UP)
        await release_all(client, dossiers[:WARM_UP], enclaves)
        rows.append(row("socket", enclaves, *await release_all(client, dossiers[WARM_UP:], enclaves)))
    await client.close()
    return rows


def post_all(broker: RunningBroker, dossiers: list[Json], platform: str, enclaves: int) -> tuple[list[float], float]:
    """Release over HTTPS with so many enclaves at once, each on a connection of its own."""
    waiting, seconds = iter(dossiers), list[float]()
    callers = [broker.caller(f"enclave-{n}", enclave=True) for n in range(enclaves)]
    for caller in callers:
        caller.get("/v1/state")

    def enclave(caller: Caller) -> None:
        for dossier in waiting:
            with Fields(dossier, "dossier") as fields:
                read = Dossier.read(fields)
            assert read.testimony is not None
            evidence = to_base64(read.testimony.evidence)
            body: Json = {"challenge": read.testimony.challenge, "platform": platform, "evidence": evidence}
            began = time.perf_counter()
            answer = caller.post(f"/v1/requests/{read.request.digest}/release", body)
            seconds.append(time.perf_counter() - began)
            assert answer.status == HTTPStatus.OK, answer.text

    began = time.perf_counter()
    with ThreadPoolExecutor(enclaves) as threads:
        for done in [threads.submit(enclave, caller) for caller in callers]:
            done.result()
    return seconds, time.perf_counter() - began


def measure_https(attested: Attested, sealed: Sealed, count: int) -> list[dict[str, float | str]]:
    """Measure at each number of enclaves, through the broker."""
    deployment = attested.deployment
    assert isinstance(deployment, ThroughBroker)
    assert deployment.broker is not None

    async def prepared() -> list[Json]:
        client = UnixClient(deployment.home / "run" / "keeper.sock")
        try:
            return await prepare(attested, sealed, client, count + WARM_UP)
        finally:
            await client.close()

    rows = []
    for enclaves in AT_ONCE:
        dossiers = asyncio.run(prepared())
        post_all(deployment.broker, dossiers[:WARM_UP], attested.platform, enclaves)
        rows.append(
            row("https", enclaves, *post_all(deployment.broker, dossiers[WARM_UP:], attested.platform, enclaves))
        )
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
    times = json.loads((home / "keeper" / "times.json").read_text())
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
        with (
            SoftwareTPM(place / "tpm2") as tpm,
            deployed(place / "b", tpm, "strongroom.keeper.wiring", broker=True) as (attested, sealed),
        ):
            rows += measure_https(attested, sealed, count)
        with SoftwareTPM(place / "tpm3") as tpm, deployed(place / "c", tpm, "simulators.timed_keeper") as (one, other):
            asyncio.run(split(one, other, min(count, 300)))
            one.deployment.stop("keeper")
            columns = ("by", "enclaves", "releases", "per_second", "p50_ms", "p99_ms")
            print("".join(f"{name:>12}" for name in columns))
            for line in rows:
                print("".join(f"{line[name]!s:>12}" for name in columns))
            inside = tell_split(one.deployment.home)
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"\nOne sync of 4 KiB to this disk: {sync:.2f} ms. {cores} cores, load {load:.1f}.")
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
