"""The whole way: a sealed Llama, approved, attested and released into an enclave, answers until it is frozen."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from simulators.swtpm import SoftwareTPM
from strongroom.access.request import Action
from strongroom.attestation.adapters.measure_files import measure_trees
from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.gateway.wiring import Serving, engine_image, serve
from strongroom.enclave.image import measured
from strongroom.release.lease import LeaseEndedError
from support import tiny_llama
from support.attested import IMAGE, Attested
from support.brokers import RunningBroker
from support.deployment import MODEL, Deployment
from support.enclave_lab import require_sandbox
from support.gateways import Live, serving, text_of
from support.leased import LeaseLab, Way

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
def lab(tmp_path: Path, tpm: SoftwareTPM) -> Iterator[LeaseLab]:
    require_sandbox()
    plain = tiny_llama.make(tmp_path / "plain")
    with Deployment.found(tmp_path / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", "5"])
        deployment.adopt_first()
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
        sealed = attested.seal(plain, path)
        for one in (path, *path.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o644)
        command = [sys.executable, "-m", "strongroom.broker.wiring", "--home", str(deployment.home), "--port", "0"]
        with (deployment.home / "broker.err").open("ab") as errors:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        broker = RunningBroker(deployment.home, deployment.genesis, None, process, told["port"], 0)  # type: ignore[arg-type]
        try:
            yield LeaseLab(attested, sealed, broker, image)
        finally:
            broker.stop()


def served(folder: Path) -> Serving:
    policy = EgressPolicy.template(MODEL, parameters=10**12, vocabulary=512)
    return serving(folder, replace(policy, principal_day_bits=policy.model_day_bits), context=512)


def test_released_served_and_frozen(tmp_path: Path, lab: LeaseLab) -> None:
    expected = text_of(tiny_llama.greedy(tmp_path / "plain", PROMPT, 40))
    release, errors = lab.approved(), io.BytesIO()
    live = Live(tmp_path)
    with release.connected() as api:
        way = Way(release, api)

        def run() -> None:
            try:
                serve(
                    release.launch,
                    way,
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
