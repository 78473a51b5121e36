"""The whole way: a sealed Llama, approved, attested and released into an enclave, answers until it is frozen."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.measure_files import measure_trees
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.egress.bits import Output
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.adapters.process_runner import ProcessRunning
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.gateway.adapters.engines import Engine, ProcessHost
from strongroom.enclave.gateway.wiring import Serving, engine_image, serve
from strongroom.enclave.image import measured
from strongroom.enclave.launch.relay import Opened
from strongroom.release.lease import LeaseEndedError
from strongroom.sealing.canary import Canary
from strongroom.sealing.errors import CanaryMismatchError
from support import tiny_llama
from support.attested import IMAGE, Attested
from support.brokers import broker_beside
from support.deployment import MODEL, Deployment
from support.enclave_lab import require_sandbox
from support.gateways import Live, serving, text_of
from support.leased import LeaseLab, Way
from support.memory_reader import below
from support.metered import policies, signed
from support.watched_memory import found, look, model_needles, remember_data_keys

pytestmark = [pytest.mark.integration, pytest.mark.heavy]
PROMPT = [5, 9, 200, 31]


@pytest.fixture
def tpm(tmp_path: Path) -> Iterator[SoftwareTPM]:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    (tmp_path / "tpm").mkdir()
    with SoftwareTPM(tmp_path / "tpm") as made:
        yield made


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path, tpm: SoftwareTPM) -> Iterator[LeaseLab]:
    """A model that was sealed with its canaries; with `exchanged`, anew with the old ones after one tensor changed."""
    require_sandbox()
    plain = tiny_llama.make(tmp_path / "plain")
    canary = Canary.of_tokens("greedy", PROMPT, tiny_llama.greedy(plain, PROMPT, 16))
    if getattr(request, "param", "") == "exchanged":
        tiny_llama.exchange_one_tensor(plain)
    with Deployment.found(tmp_path / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", "5"])
        deployment.adopt_first()
        deployment.adopt("egress", signed(policies(deployment.genesis, POLICY)))
        path, code = tmp_path / "llama.sealed", tmp_path / "code"
        path.mkdir()
        code.mkdir()
        # The whole installation takes seconds to read, and nothing here depends on it.
        image = replace(engine_image(IMAGE, path), trees={"command": str(code)})
        path.rmdir()
        measurements = measured(
            image,
            interpreter=Digest.of(b"interpreter"),
            files=measure_trees({"command": code}),
            genesis=deployment.genesis.digest,
        )
        attested = Attested(deployment, tpm, measurements)
        attested.adopt_reference_values()
        attested.enrol()
        sealed = attested.seal(plain, path, canaries=[canary])
        for one in (path, *path.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o644)
        broker = broker_beside(deployment.home, deployment.genesis)
        try:
            yield LeaseLab(attested, sealed, broker, image)
        finally:
            broker.kill()


TEMPLATE = EgressPolicy.template(MODEL, parameters=10**12, vocabulary=512)
POLICY = replace(TEMPLATE, principal_day_bits=TEMPLATE.model_day_bits)


def served(folder: Path) -> Serving:
    return serving(folder, POLICY, context=512)


@pytest.fixture
def data_keys(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Asked for before `lab`, it gets the key that this seals with."""
    return remember_data_keys(monkeypatch)


@pytest.mark.parametrize("lab", ["exchanged"], indirect=True)
def test_a_model_that_answers_otherwise_than_when_sealed_is_not_served(tmp_path: Path, lab: LeaseLab) -> None:
    release, told, listened = lab.approved(), list[Opened](), list[int]()
    with release.connected() as api, pytest.raises(CanaryMismatchError) as caught:
        serve(
            ProcessHost(release.launch),
            Way(release, api),
            api,
            served(tmp_path),
            opened=told.append,
            listening=listened.append,
            err=io.BytesIO(),
        )
    # One word, from the agent; not which canary, and nothing of its answer. And nobody was ever answered.
    assert caught.value.reason == "canary-mismatch"
    assert "greedy" not in caught.value.message
    assert [one.canaries for one in told] == [1]
    assert listened == []
    assert not (tmp_path / "governor" / f"{MODEL}.frozen.json").exists()


def test_released_served_and_frozen(tmp_path: Path, lab: LeaseLab) -> None:
    expected = text_of(tiny_llama.greedy(tmp_path / "plain", PROMPT, 40))
    release, errors = lab.approved(), io.BytesIO()
    live = Live(tmp_path, lambda: pytest.fail("it is the deployment's"), model=MODEL)
    with release.connected() as api:
        way = Way(release, api)

        def run() -> None:
            try:
                serve(
                    ProcessHost(release.launch),
                    way,
                    api,
                    served(tmp_path),
                    opened=lambda _facts: None,
                    listening=live.listens,
                    err=errors,
                )
            except StrongroomError as error:
                live.error = error
            finally:
                live._listening.set()

        began = time.monotonic()
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        live.wait()
        assert live.url, (live.error, errors.getvalue()[-2000:])
        print(f"\nfrom launch to the first answer possible: {time.monotonic() - began:.1f} s")  # noqa: T201 - the number
        body = {"model": MODEL, "prompt": text_of(PROMPT), "max_tokens": 40, "temperature": 0}
        assert live.post("/v1/completions", body).json()["choices"][0]["text"] == expected
        # Renewed while it runs.
        time.sleep(6)
        assert live.post("/v1/completions", body).status_code == 200
        assert len(way.leases) >= 2
        # 80 tokens of 9 bits and two ends left, and the deployment's log had vouched for them.
        told = lab.deployment.call("odometer", model=MODEL)
        assert isinstance(told["total"], int)
        assert told["total"] >= 2 * POLICY.cost(Output.TOKENS, 40, most=40)
        request = lab.deployment.request(Action.FREEZE)
        began = time.monotonic()
        lab.deployment.control(request)
        thread.join(20)
        assert not thread.is_alive()
        print(f"from the freeze to the gateway's end: {time.monotonic() - began:.2f} s")  # noqa: T201 - the number
    assert isinstance(live.error, LeaseEndedError)
    assert live.error.reason == "model-frozen"
    # It ended as it should: the engine did nothing wrong, and the governor froze nothing.
    assert not (tmp_path / "governor" / f"{MODEL}.frozen.json").exists()


@dataclass
class KeptHost:
    """A host that keeps what it started."""

    host: ProcessHost
    engine: Engine | None = None

    @property
    def order(self) -> Order:
        """The host's."""
        return self.host.order

    @contextmanager
    def started(self, err: IO[bytes]) -> Iterator[Engine]:
        """Start it."""
        with self.host.started(err) as self.engine:
            yield self.engine


def test_root_reads_weights_and_prompts_from_outside_and_finds_no_key(
    tmp_path: Path, data_keys: list[bytes], lab: LeaseLab
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root reads another user's processes")
    prompt = [5 + 7 * n for n in range(24)]
    needles = model_needles(tmp_path / "plain", data_keys[0], prompt)
    release = lab.approved()
    live = Live(tmp_path, lambda: pytest.fail("it is the deployment's"), model=MODEL)
    kept = KeptHost(ProcessHost(release.launch))
    with release.connected() as api:

        def run() -> None:
            with suppress(StrongroomError):
                serve(
                    kept,
                    Way(release, api),
                    api,
                    served(tmp_path),
                    opened=lambda _facts: None,
                    listening=live.listens,
                    err=io.BytesIO(),
                )
            live._listening.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        live.wait()
        assert kept.engine is not None
        running = kept.engine.running
        assert isinstance(running, ProcessRunning)
        body = {"model": MODEL, "prompt": text_of(prompt), "max_tokens": 400, "temperature": 0}
        assert live.post("/v1/completions", body).status_code == 200
        report = look(below(running.pid), needles)
        running.kill()
        thread.join(20)
    told = {name: found(report, name) for name in needles}
    print(f"\nread from outside: {told}")  # noqa: T201 - a measurement
    # The agent wiped the key before the engine started; a prompt's copies stay until something takes their place.
    assert told["data key"] == {}
    assert {"proc_mem", "process_vm", "ptrace", "its_files"} <= set(told["weights"])
