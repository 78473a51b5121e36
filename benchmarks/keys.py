"""Rotating keys while releases go on, through the real keeper and log writer, durable records included.

Timed, by `release` on the keeper's socket: releases of one model one after the other, each a full one (challenge, TPM
quote, two approvals), first with nothing beside them, then while every other model's KEK is rotated and its data keys
are moved in two rounds, as the broker does it, and then while epochs are rotated one after the other. The time to wrap
all data keys anew is told apart, without a store. All processes share this machine's cores.

    python benchmarks/keys.py [--models N] [--data-keys N] [--releases N]
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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import structlog
from benchmarks.release import WARM_UP, prepare, release_all

from strongroom.access.policy import ModelTerms, Weights
from strongroom.access.request import REQUEST_TYPE, Action, LogHead, Purpose
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.canonical import Json
from strongroom.core.envelope import Envelope, sign
from strongroom.core.errors import UnavailableError
from strongroom.core.ids import ModelId
from strongroom.ipc.adapters.client import UnixClient
from strongroom.keys.recipient import RecipientKey
from strongroom.release.dossier import Dossier
from strongroom.release.key_orders import KEY_ORDER_TYPE, KeyAct, KeyOrder
from support.attested import Attested, Sealed
from support.deployment import DAY, LEVEL, MODEL, ROOTS, Deployment, bare_request, signer

BATCH = 128
KEYS_EACH = 250
"""Data keys of one model: of those without a registered version, one entry must hold all."""
AT_ONCE = 8
"""Data keys that are made at once, beforehand."""


@dataclass
class Fleet:
    """Many models' data keys, as a store would hold them, and a connection to their keeper."""

    deployment: Deployment
    client: UnixClient
    head: LogHead
    rows: dict[ModelId, dict[str, Json]] = field(default_factory=dict)

    async def submitted(self, action: Action, model: ModelId, **members: object) -> Envelope:
        """Have a request recorded."""
        made = self.deployment
        base = bare_request(made.genesis.digest, made.roster, made.policy, self.head, action, by="dana")
        asked = replace(base, model=model, **members)  # type: ignore[arg-type]
        envelope = sign(REQUEST_TYPE, asked.to_bytes(), signer("dana"))
        await self.client.call("submit", request=envelope.to_json())
        return envelope

    async def seal(self, model: ModelId) -> None:
        """Have a data key made."""
        key = RecipientKey()
        envelope = await self.submitted(Action.SEAL, model, version=1, recipient=key.digest, purpose=Purpose.PUBLISH)
        dossier = Dossier(request=envelope, recipient_key=key.public).to_json()
        answer = await self.client.call("seal", dossier=dossier)
        row = answer.value("wrapped")
        assert isinstance(row, dict)
        self.rows.setdefault(model, {})[str(row["data_key"])] = row

    async def rotate(self, model: ModelId) -> None:
        """Rotate a model's KEK and move its data keys."""
        envelope = await self.submitted(Action.ROTATE, model)
        await self.client.call("control", dossier=Dossier(request=envelope).to_json())
        await self.move(model)

    async def move(self, model: ModelId) -> None:
        """Hand every row in, keep what comes back, and show it."""
        rows = self.rows[model]
        for last in (False, True):
            names = sorted(rows)
            for start in range(0, len(names), BATCH):
                page: list[Json] = [rows[name] for name in names[start : start + BATCH]]
                complete = last and start + BATCH >= len(names)
                answer = await self.client.call("rewrap", model=model, rows=page, complete=complete)
                for (_where, row), name in zip(answer.items("rows", most=BATCH), names[start:], strict=False):
                    rows[name] = row
                if answer.boolean("retired"):
                    return
        sys.exit(f"data keys of {model} didn't move")

    async def rotate_epoch(self) -> None:
        """Rotate the deployment's epoch by an order of the root quorum."""
        now = int(time.time())
        order = KeyOrder(
            genesis=self.deployment.genesis.digest,
            act=KeyAct.ROTATE_EPOCH,
            subject=None,
            nonce=os.urandom(16),
            log=self.head,
            issued=now - 1,
            expires=now + DAY,
        )
        envelope = sign(KEY_ORDER_TYPE, order.to_bytes(), *ROOTS[:2])
        await self.client.call("key-order", envelope=envelope.to_json())


def told(name: str, seconds: list[float]) -> dict[str, Json]:
    """Return one line of the table."""
    cuts = statistics.quantiles(seconds, n=100)
    return {
        "beside": name,
        "releases": len(seconds),
        "p50_ms": f"{1000 * cuts[49]:.2f}",
        "p99_ms": f"{1000 * cuts[98]:.2f}",
        "max_ms": f"{1000 * max(seconds):.2f}",
    }


async def releases_beside(
    attested: Attested, sealed: Sealed, count: int, begin: Callable[[], Awaitable[None]] | None
) -> tuple[list[float], float]:
    """Release one after the other, until the work beside is done or, without any, `count` times.

    Returns the seconds of each release, and those of the work.
    """
    client = UnixClient(attested.deployment.home / "run" / "keeper.sock")
    try:
        dossiers = await prepare(attested, sealed, client, count + WARM_UP)
        await release_all(client, dossiers[:WARM_UP], 1)
        seconds: list[float] = []
        began = time.perf_counter()
        work = None if begin is None else asyncio.ensure_future(begin())
        for dossier in dossiers[WARM_UP:]:
            if work is not None and work.done():
                break
            seconds += (await release_all(client, [dossier], 1))[0]
        if work is not None:
            await work
        return seconds, time.perf_counter() - began
    finally:
        await client.close()


async def many(fleet: Fleet, models: list[ModelId]) -> None:
    """Rotate every model, one after the other, as a broker does."""
    for model in models:
        await fleet.rotate(model)


async def some_epochs(fleet: Fleet, count: int) -> list[float]:
    """Rotate the epoch so often; returns the seconds of each."""
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        await fleet.rotate_epoch()
        seconds.append(time.perf_counter() - began)
    return seconds


async def measure(attested: Attested, sealed: Sealed, models: list[ModelId], count: int, given: int) -> dict[str, Json]:
    """Measure everything; returns what is printed."""
    made = attested.deployment
    client = UnixClient(made.home / "run" / "keeper.sock")
    head = await asyncio.to_thread(made.head)
    fleet = Fleet(made, client, head)
    sealing = [model for model in models for _ in range(max(1, count // len(models)))]
    left = iter(sealing)

    async def seals() -> None:
        for model in left:
            await fleet.seal(model)

    await asyncio.gather(*(seals() for _ in range(AT_ONCE)))
    alone, _whole = await releases_beside(attested, sealed, given, None)
    beside, online = await releases_beside(attested, sealed, given, lambda: many(fleet, models))

    epochs: list[float] = []

    async def turn_epochs() -> None:
        epochs.extend(await some_epochs(fleet, 20))

    under, _whole = await releases_beside(attested, sealed, given, turn_epochs)

    # All data keys once more, in one KEK's rotation after the other and with nothing beside: what wrapping anew takes.
    began = time.perf_counter()
    await many(fleet, models)
    again = time.perf_counter() - began
    await client.close()
    rows: list[Json] = [
        told("nothing", alone),
        told(f"{len(models)} KEKs rotated", beside),
        told("20 epochs rotated", under),
    ]
    data_keys = sum(len(kept) for kept in fleet.rows.values())
    return {
        "rows": rows,
        "models": len(models),
        "data_keys": data_keys,
        "keks_online_s": f"{online:.2f}",
        "keks_alone_s": f"{again:.2f}",
        "epoch_p50_ms": f"{1000 * statistics.median(epochs):.1f}",
    }


def many_keyed(count: int) -> list[ModelId]:
    """Return the names of the models among which so many data keys are shared out."""
    return [ModelId(f"many-keys-{number}") for number in range(-(-count // KEYS_EACH))]


async def rewrapped(deployment: Deployment, count: int) -> dict[str, Json]:
    """Wrap `count` data keys of a few models anew; returns seconds of both rounds."""
    client = UnixClient(deployment.home / "run" / "keeper.sock")
    fleet = Fleet(deployment, client, await asyncio.to_thread(deployment.head))
    models = many_keyed(count)
    left = iter(range(count))

    async def seals() -> None:
        for number in left:
            await fleet.seal(models[number // KEYS_EACH])

    await asyncio.gather(*(seals() for _ in range(AT_ONCE)))
    for model in models:
        envelope = await fleet.submitted(Action.ROTATE, model)
        await client.call("control", dossier=Dossier(request=envelope).to_json())
    began = time.perf_counter()
    for model in models:
        await fleet.move(model)
    seconds = time.perf_counter() - began
    await client.close()
    return {"keys": count, "seconds": f"{seconds:.2f}", "per_second": round(count / seconds)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="rotation of keys while releases go on")
    parser.add_argument("--models", type=int, default=1000, help="models whose KEK is rotated")
    parser.add_argument(
        "--data-keys", type=int, default=10_000, help="data keys of further models that are wrapped anew"
    )
    parser.add_argument("--releases", type=int, default=400, help="releases timed in each row (at most 900)")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if not SoftwareTPM.available():
        sys.exit("no software TPM: install swtpm and swtpm-tools")
    models = [ModelId(f"model-{number}") for number in range(given.models)]
    terms = [
        ModelTerms(model=name, level=LEVEL, least_isolation="vm-simulated", weights=Weights.TEST)
        for name in (MODEL, *many_keyed(given.data_keys), *models)
    ]
    with (
        tempfile.TemporaryDirectory() as name,
        SoftwareTPM(Path(name) / "tpm") as tpm,
        Deployment.found(Path(name) / "home", models=terms) as deployment,
    ):
        # One person seals for all models here; a real one would be slowed down.
        deployment.keeper_module = "simulators.unhurried_keeper"
        deployment.start("log")
        deployment.start("keeper")
        deployment.adopt_first()
        attested = Attested(deployment, tpm)
        attested.adopt_reference_values()
        attested.enrol()
        attested.measure()
        plain = Path(name) / "plain"
        plain.mkdir()
        (plain / "model.bin").write_bytes(os.urandom(1 << 16))
        sealed = attested.seal(plain, Path(name) / "sealed")
        found = asyncio.run(measure(attested, sealed, models, len(models), min(given.releases, 900)))
        found["rewrap"] = asyncio.run(rewrapped(deployment, given.data_keys))
        found["keyring_bytes"] = (deployment.home / "keeper" / "keyring.json").stat().st_size
    for key, value in found.items():
        for line in value if isinstance(value, list) else (value,):
            print(f"{key:<16} {line}")
    found |= {"benchmark": "keys", "cores": os.cpu_count(), "load": f"{os.getloadavg()[0]:.1f}"}
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        main()
    except UnavailableError as error:
        sys.exit(error.diagnosis())
