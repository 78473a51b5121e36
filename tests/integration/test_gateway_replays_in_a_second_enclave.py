"""Two enclaves, two engines, two releases of one model: torch answers, numpy replays, and what agrees costs less."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import pytest

from strongroom.access.request import Action
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.measure_files import measure_trees
from strongroom.attestation.reference_values import ReferenceImage
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.events import EventName
from strongroom.core.ids import ImageId
from strongroom.egress.bits import Output
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.gateway.adapters.engines import Engine, ProcessHost
from strongroom.enclave.gateway.wiring import Second, engine_image, serve
from strongroom.enclave.image import Image, measured
from strongroom.release.precautions import PRECAUTION_TYPE, Cause, Precaution, PrecautionKind
from support import tiny_llama
from support.attested import IMAGE, Attested
from support.brokers import broker_beside
from support.deployment import MODEL, Deployment, signer
from support.egress import VERIFIED_BY
from support.enclave_lab import require_sandbox
from support.gateways import Live, serving
from support.leased import LeaseLab, Release, Way
from support.metered import policies, signed
from support.offline import verified_entries

pytestmark = [pytest.mark.integration, pytest.mark.heavy]
REPLAYS = ImageId("replays")
TOKENS = 100
TEMPLATE = EgressPolicy.template(MODEL, parameters=10**12, vocabulary=512)
POLICY = replace(
    TEMPLATE,
    # Three answers and a bit at their full price.
    principal_day_bits=3 * TEMPLATE.cost(Output.TOKENS, TOKENS, most=TOKENS) + 200,
    residual_millibits_per_token=75,
    verified_by=replace(VERIFIED_BY, image=REPLAYS),
)


def tpm(folder: Path) -> SoftwareTPM:
    folder.mkdir()
    return SoftwareTPM(folder)


def cut_down(image: Image, code: Path) -> Image:
    """Leave the installation out of what is measured: it takes seconds to read, and nothing here depends on it."""
    return replace(image, trees={"command": str(code)})


@pytest.fixture
def labs(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[LeaseLab, LeaseLab]]:
    """One deployment, seen from the machine that answers and from the one that replays; its policy may be another."""
    policy: EgressPolicy = getattr(request, "param", POLICY)
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    require_sandbox()
    plain = tiny_llama.make(tmp_path / "plain")
    path, code = tmp_path / "llama.sealed", tmp_path / "code"
    with (
        tpm(tmp_path / "tpm") as first,
        tpm(tmp_path / "tpm-2") as other,
        Deployment.found(tmp_path / "home") as deployment,
    ):
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", "30"])
        deployment.adopt_first()
        deployment.adopt("egress", signed(policies(deployment.genesis, policy)))
        path.mkdir()
        code.mkdir()
        images = (
            cut_down(engine_image(IMAGE, path), code),
            cut_down(engine_image(REPLAYS, path, BuiltIn.NUMPY), code),
        )
        path.rmdir()
        answers, replays = (
            Attested(
                deployment,
                device,
                measured(
                    image,
                    interpreter=Digest.of(b"interpreter"),
                    files=measure_trees({"command": code}),
                    genesis=deployment.genesis.digest,
                ),
            )
            for device, image in zip((first, other), images, strict=True)
        )
        answers.adopt_reference_values(
            ReferenceImage.launched(IMAGE, answers.measurements),
            ReferenceImage.launched(REPLAYS, replays.measurements),
            tpms=(other,),
        )
        answers.enrol()
        replays.enrol()
        sealed = answers.seal(plain, path)
        for one in (path, *path.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o644)
        broker = broker_beside(deployment.home, deployment.genesis)
        try:
            yield (LeaseLab(answers, sealed, broker, images[0]), LeaseLab(replays, sealed, broker, images[1]))
        finally:
            broker.kill()


@dataclass(frozen=True, slots=True)
class KeptHost(ProcessHost):
    """A host that keeps what it started."""

    kept: list[Engine]

    @contextmanager
    def started(self, err: IO[bytes]) -> Iterator[Engine]:
        """Start it."""
        with ProcessHost(self.launch).started(err) as engine:
            self.kept.append(engine)
            yield engine


def ask(live: Live, *, patience: float = 20) -> int:
    """Ask for an answer of chance; returns the status. A budget that waits for a replay is asked again for a while."""
    body = {"model": MODEL, "prompt": "w5 w9 w200", "max_tokens": TOKENS, "temperature": 1.0, "top_p": 0.9}
    end = time.monotonic() + patience
    while True:
        status = live.post("/v1/completions", body).status_code
        if status != 429 or time.monotonic() > end:
            return status
        time.sleep(0.2)


def check_that_others_verify_nothing(answering: Release, replaying: Release) -> None:
    """Neither a twin of the engine nor an image that the policy doesn't name, nor another version."""
    host, way = ProcessHost(answering.launch), cast("Way", None)
    Second(ProcessHost(replaying.launch), way).check(host, POLICY)
    for rules in (replace(POLICY, verified_by=None), replace(POLICY, verified_by=VERIFIED_BY)):
        with pytest.raises(UsageError, match="verify tokens"):
            Second(ProcessHost(replaying.launch), way).check(host, rules)
    twin = replace(answering.launch, image=replace(answering.launch.image, image=REPLAYS))
    with pytest.raises(UsageError, match="twin"):
        Second(ProcessHost(twin), way).check(host, POLICY)
    another = replace(replaying.launch, order=replace(replaying.launch.order, version=2))
    with pytest.raises(UsageError, match="another version"):
        Second(ProcessHost(another), way).check(host, POLICY)


@contextmanager
def served(
    tmp_path: Path, answering: Release, replaying: Release, policy: EgressPolicy
) -> Iterator[tuple[Live, list[Engine]]]:
    """Serve with both engines; yields what listens, and the two as they were started."""
    live = Live(tmp_path, lambda: pytest.fail("it is the deployment's"), model=MODEL)
    kept: list[Engine] = []
    errors = io.BytesIO()
    with answering.connected() as api, replaying.connected() as its_api:
        second = Second(KeptHost(replaying.launch, kept), Way(replaying, its_api))

        def run() -> None:
            try:
                serve(
                    KeptHost(answering.launch, kept),
                    Way(answering, api),
                    api,
                    serving(tmp_path, policy, context=512),
                    second=second,
                    opened=lambda _facts: None,
                    listening=live.listens,
                    err=errors,
                )
            except StrongroomError as error:
                live.error = error
            finally:
                live._listening.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        began = time.monotonic()
        live.wait()
        print(f"\nfrom launch to the first answer possible: {time.monotonic() - began:.1f} s")  # noqa: T201 - the number
        assert live.url, (live.error, errors.getvalue()[-2000:])
        try:
            yield live, kept
        finally:
            kept[0].running.kill()
            thread.join(20)
            assert not thread.is_alive()


def test_what_the_other_engine_reproduces_costs_less(tmp_path: Path, labs: tuple[LeaseLab, LeaseLab]) -> None:
    first, other = labs
    answering, replaying = first.approved(), other.approved(image=REPLAYS)
    check_that_others_verify_nothing(answering, replaying)
    with served(tmp_path, answering, replaying, POLICY) as (live, kept):
        # A purse of three answers pays for twelve, all sampled by torch and replayed by numpy.
        assert [ask(live) for _ in range(12)] == [200] * 12
        # Both run under releases of their own, and the one odometer is the answering one's.
        assert {answering.request.digest, replaying.request.digest} == {
            entry.digest("request") for entry in verified_entries(first.deployment) if entry.event is EventName.RELEASED
        }
        kept[1].running.kill()
        # Without it the rest of the purse is spent at the full price, and nothing is frozen.
        until = time.monotonic() + 30
        while ask(live, patience=0) == 200:
            assert time.monotonic() < until
        assert live.error is None
        assert not (tmp_path / "governor" / f"{MODEL}.frozen.json").exists()


RARELY = replace(POLICY, verified_by=replace(VERIFIED_BY, image=REPLAYS, replay_permille=1))


@pytest.mark.parametrize("labs", [RARELY], indirect=True)
def test_a_precaution_has_every_answer_replayed_from_the_next_lease_on(
    tmp_path: Path, labs: tuple[LeaseLab, LeaseLab]
) -> None:
    first, other = labs
    deployment = first.deployment
    with served(tmp_path, first.approved(), other.approved(image=REPLAYS), RARELY) as (live, kept):
        now = int(time.time())
        precaution = Precaution(
            genesis=deployment.genesis.digest,
            kind=PrecautionKind.SAMPLING,
            subject=MODEL,
            cause=Cause.INQUIRY,
            incident=None,
            at=now,
            until=now + 3600,
        )
        envelope = sign(PRECAUTION_TYPE, precaution.to_bytes(), signer("dana"))
        deployment.call("state", kind="precaution", envelope=envelope.to_json())
        # Leases are of 30 seconds, and asked for three times as often.
        time.sleep(15)
        # Of a thousand answers one would be replayed; a purse of three pays for eight only if all of them are.
        assert [ask(live) for _ in range(8)] == [200] * 8
        # Whoever ends the second engine now ends the answers with it, until people lift the precaution.
        kept[1].running.kill()
        until = time.monotonic() + 20
        while ask(live, patience=0) == 200:
            assert time.monotonic() < until
        assert ask(live, patience=0) == 503
        request = deployment.request(Action.LIFT, target=envelope.digest)
        deployment.control(request, *[deployment.approve(request, by) for by in ("sam", "rina")])
        until = time.monotonic() + 20
        while ask(live, patience=0) == 503:
            assert time.monotonic() < until
            time.sleep(0.5)
        assert live.error is None
