"""A real command in a real process enclave on a lease: keeper, log writer, broker, TPM, agent and relay as they are.

The release itself goes over the keeper's socket; the lease goes the whole way, through the broker. Every part of that
way can be cut, delayed or made to lie by the test.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.attestation.adapters.measure_files import measure_trees
from strongroom.client.adapters.http import HttpTransport, mutual_tls
from strongroom.client.api import BrokerApi
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError, UnavailableError
from strongroom.core.fields import Fields
from strongroom.core.ids import PlatformId
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.image import Image, measured
from strongroom.enclave.launch.relay import Challenged, Released
from strongroom.enclave.launch.wiring import Launch, run
from strongroom.enclave.runner import ExitStatus
from strongroom.enclave.sandbox import process_profile
from strongroom.ipc.adapters.client import UnixClient
from strongroom.release.dossier import Dossier, Testimony, WrappedDataKey
from strongroom.release.lease import LeaseAsk, LeaseProof
from support.attested import IMAGE, Attested, Sealed, envelope
from support.brokers import RunningBroker, broker_beside
from support.deployment import TESTS, Deployment

COUNTS = """
import itertools, os, sys, time
print("opened", open(os.environ["STRONGROOM_MODEL"] + "/config.json").read(), flush=True)
for number in itertools.count():
    print(number, flush=True)
    time.sleep(0.02)
    if len(sys.argv) > 1 and number == int(sys.argv[1]):
        break
"""


class Output(io.RawIOBase):
    """What a command writes, with the time of the last byte."""

    def __init__(self) -> None:
        self.data = b""
        self.last = 0.0
        self.began = threading.Event()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        """Keep."""
        part = bytes(data)  # type: ignore[call-overload]  # a buffer
        self.data += part
        self.last = time.monotonic()
        self.began.set()
        return len(part)


@dataclass
class Release:
    """Everything that one run takes; it can be handed to another process."""

    home: Path
    launch: Launch
    request: Envelope
    approvals: tuple[Envelope, ...]
    platform: Envelope
    wrapped: WrappedDataKey
    url: str
    authority: Path
    certificate: Path
    key: Path

    def keeper(self, operation: str, **members: Json) -> Fields:
        """Call the keeper, from any thread."""

        async def call() -> Fields:
            client = UnixClient(self.home / "run" / "keeper.sock")
            try:
                return await client.call(operation, **members)
            finally:
                await client.close()

        return asyncio.run(call())

    @contextmanager
    def connected(self) -> Iterator[BrokerApi]:
        """Connect to the broker as an enclave."""
        context = mutual_tls(authority=self.authority, certificate=self.certificate, key=self.key)
        with HttpTransport(self.url, context) as transport:
            yield BrokerApi(transport)


@dataclass
class Way:
    """The way from an agent's launcher to the keeper. What the fields say is done to what goes along."""

    release_of: Release
    api: BrokerApi
    cut: bool = False
    """Nothing gets through any more."""
    deaf: bool = False
    """No word of an end gets through; renewals do."""
    replay: bool = False
    """Every renewal is answered with the first lease."""
    twist: Callable[[LeaseProof], LeaseProof] = lambda proof: proof
    """What is done to new evidence on its way."""
    leases: list[Envelope] = field(default_factory=list)
    proofs: list[LeaseProof] = field(default_factory=list)
    """New evidence that the agent sent."""

    @property
    def request(self) -> Envelope:
        """The request."""
        return self.release_of.request

    def challenge(self, request: Digest, platform: PlatformId) -> Challenged:
        """Ask the keeper."""
        with self.release_of.keeper("challenge", request=str(request), platform=platform) as told:
            told.instant("expires")
            return Challenged(told.text("challenge"), told.binary("nonce"))

    def release(self, request: Digest, platform: PlatformId, challenge: str, evidence: bytes) -> Released:
        """Hand the keeper a dossier."""
        made = self.release_of
        assert request == made.request.digest
        assert platform
        testimony = Testimony(challenge=challenge, platform=made.platform, evidence=evidence)
        dossier = Dossier(request=made.request, approvals=made.approvals, testimony=testimony, wrapped=made.wrapped)
        with made.keeper("release", dossier=dossier.to_json()) as told:
            return Released(envelope(told.value("delivery")), told.text("result", max_length=1 << 18))

    def renew(self, request: Digest, ask: LeaseAsk, proof: LeaseProof | None) -> Envelope:
        """Ask the broker."""
        if self.cut:
            raise UnavailableError("the way is cut")
        if self.replay and self.leases:
            return self.leases[0]
        if proof is not None:
            proof = self.twist(proof)
            self.proofs.append(proof)
        self.leases.append(self.api.renew_lease(request, ask, proof))
        return self.leases[-1]

    def lease_end(self, request: Digest, use: int, *, wait: int) -> str:
        """Wait at the broker."""
        if self.silent():
            raise UnavailableError("the way is cut")
        reason = self.api.lease_end(request, use, wait=wait)
        return "" if self.silent() else reason

    def silent(self) -> bool:
        """Tell whether a word of an end is swallowed."""
        return self.cut or self.deaf


@dataclass
class Ended:
    """How a run ended, and when, by this process's clock."""

    status: ExitStatus | None
    error: StrongroomError | None
    output: Output
    at: float

    @property
    def reason(self) -> str:
        """The code and the finest reason of what it ended with."""
        return f"{self.error.code}:{self.error.reason}" if self.error else "finished"


class Run(threading.Thread):
    """A run of the command, in a thread of its own."""

    def __init__(self, launch: Launch, way: Way) -> None:
        super().__init__(daemon=True)
        self._launch = launch
        self.way = way
        self.output = Output()
        self.errors = Output()
        self._ended: Ended | None = None
        self.start()

    def run(self) -> None:
        """Carry it out."""
        status, error = None, None
        try:
            status = run(self._launch, self.way, opened=lambda _facts: None, out=self.output, err=self.errors)  # type: ignore[arg-type]  # raw files do
        except StrongroomError as caught:
            error = caught
        self._ended = Ended(status, error, self.output, time.monotonic())

    def up(self) -> None:
        """Wait until the command runs."""
        while not self.output.began.wait(0.1):
            assert self.is_alive(), f"the command didn't start: {self._ended} {self.errors.data[-2000:]!r}"

    def ended(self, *, within: float) -> Ended:
        """Wait until it ended."""
        self.join(within)
        assert self._ended is not None, "it still runs"
        return self._ended


class LeaseLab:
    """A deployment with a broker, and an image whose command counts until it is ended."""

    def __init__(self, attested: Attested, sealed: Sealed, broker: RunningBroker, image: Image) -> None:
        self.attested = attested
        self.sealed = sealed
        self.broker = broker
        self.image = image

    @property
    def deployment(self) -> Deployment:
        """The deployment."""
        return self.attested.deployment

    def approved(self, **members: object) -> Release:
        """Ask, approve, and prepare a launch on a TPM that was just powered on."""
        self.attested.tpm.power_cycle()
        with self.attested.device() as device:
            device.startup()
        request, approvals = self.attested.approved(self.sealed, **members)
        self.broker.caller().post("/v1/requests", {"request": request.to_json()})
        manifest = self.sealed.sealed.manifest
        order = Order(
            genesis=self.deployment.genesis,
            request=request.digest,
            model=manifest.model,
            version=manifest.version,
            manifest=self.sealed.sealed.envelope,
            sealed=str(self.sealed.path),
            command=self.image.command,
            measurements=self.attested.measurements,
        )
        home = self.deployment.home
        certificate, key = home / "host.pem", home / "host.key"
        issued = self.broker.authority().issue_enclave("host", at=int(time.time()), life=timedelta(hours=1))
        issued.save(certificate, key)
        assert self.attested.record is not None
        return Release(
            home=home,
            launch=Launch(image=self.image, order=order, tpm=f"unix:{self.attested.tpm.socket_path}"),
            request=request,
            approvals=approvals,
            platform=self.attested.record,
            wrapped=self.sealed.wrapped,
            url=f"https://127.0.0.1:{self.broker.port}",
            authority=home / "broker" / "ca" / "ca.pem",
            certificate=certificate,
            key=key,
        )

    @contextmanager
    def running(self, **members: object) -> Iterator[Run]:
        """Release and run; the block begins once the command runs."""
        release = self.approved(**members)
        with release.connected() as api:
            made = Run(release.launch, Way(release, api))
            try:
                made.up()
                yield made
            finally:
                made.way.cut = True
                made.join(30)

    @contextmanager
    def apart(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run with a launcher that is a process of its own; the block begins once the command runs."""
        file = self.deployment.home / "release.pickle"
        file.write_bytes(pickle.dumps(self.approved()))
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        with subprocess.Popen(
            [sys.executable, "-m", "support.leased", str(file)], stdout=subprocess.PIPE, env=environment
        ) as launcher:
            try:
                assert launcher.stdout is not None
                assert launcher.stdout.readline().startswith(b"opened")
                yield launcher
            finally:
                launcher.kill()


@contextmanager
def lease_lab(folder: Path, tpm: SoftwareTPM, *, seconds: int, more: Sequence[str] = ()) -> Iterator[LeaseLab]:
    """Found, start, seal, enrol and measure; leases last ``seconds``. ``more`` are further options of the broker."""
    with Deployment.found(folder / "home") as deployment:
        deployment.start("log")
        deployment.start("keeper", more=["--lease-seconds", str(seconds)])
        deployment.adopt_first()
        code, links = python_roots()
        inside = folder / "inside"
        inside.mkdir(mode=0o755)
        script = inside / "counts.py"
        script.write_text(COUNTS)
        path = folder / "model.sealed"
        profile = process_profile(
            code_roots=code,
            data_roots=(str(inside),),
            sealed_roots=(str(path),),
            links=links,
            model_bytes=64 << 20,
        )
        image = Image(
            image=IMAGE,
            command=(str(script),),
            profile=profile,
            interpreter=sys.executable,
            # The whole installation takes seconds to read, and nothing here depends on it.
            trees={"command": str(inside)},
        )
        measurements = measured(
            image,
            interpreter=Digest.of(b"interpreter"),
            files=measure_trees({name: Path(tree) for name, tree in image.trees.items()}),
            genesis=deployment.genesis.digest,
        )
        attested = Attested(deployment, tpm, measurements)
        attested.adopt_reference_values()
        attested.enrol()
        plain = folder / "plain"
        plain.mkdir()
        (plain / "config.json").write_text("{}")
        (plain / "model.bin").write_bytes(bytes(1 << 20))
        sealed = attested.seal(plain, path)
        for one in (path, *path.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o644)
        broker = broker_beside(deployment.home, deployment.genesis, *more)
        try:
            yield LeaseLab(attested, sealed, broker, image)
        finally:
            broker.kill()


def main(file: Path) -> None:
    """Carry out one run as a launcher of its own."""
    release: Release = pickle.loads(file.read_bytes())  # noqa: S301 - written by this test
    with release.connected() as api:
        run(release.launch, Way(release, api), opened=lambda _facts: None, out=sys.stdout.buffer, err=sys.stderr.buffer)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
