"""A real broker process over a real log writer and a simulated keeper, and clients of it."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from simulators.keeper import SimulatedKeeper
from strongroom.access.request import APPROVAL_TYPE, REQUEST_TYPE, Action, LogHead, Purpose, Request
from strongroom.broker.adapters.dev_ca import DevCa, IssuedCertificate
from strongroom.client.wallet import publishing_signer
from strongroom.core.canonical import Json
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, sign
from strongroom.core.genesis import Genesis
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer
from strongroom.sealing.manifest import Manifest, ManifestObject, manifest_envelope
from support.forked import Forked, Process, first_said, reap
from support.logs import found_home, log_writer

DANA = Ed25519Signer.from_seed(b"d" * 32)
SAM = Ed25519Signer.from_seed(b"s" * 32)
MODEL = ModelId("atlas")
IDLE_SECONDS = 20
"""The broker hangs up on a connection that says nothing for 30 seconds, and where much runs a test is that slow."""


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> dict[str, Json]:
        value = json.loads(self.text)
        assert isinstance(value, dict)
        return value


class Caller:
    """One connection with one certificate; connects anew only when told to, or after a long rest."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=60)
        self._answered = time.monotonic()

    def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        told = {"content-type": "application/json"} if data is not None else {}
        if time.monotonic() - self._answered > IDLE_SECONDS:
            self.connection.close()
        self.connection.request(method, path, body=data, headers=told | (headers or {}))
        got = self.connection.getresponse()
        answer = Answer(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read().decode())
        self._answered = time.monotonic()
        return answer

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def post(self, path: str, body: Json = None) -> Answer:
        return self.call("POST", path, body)


@dataclass
class RunningBroker:
    """The home, its keeper, and the broker's process."""

    home: Path
    genesis: Genesis
    keeper: SimulatedKeeper
    process: Process | None = None
    port: int = 0
    identity_port: int = 0
    callers: list[Caller] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.home / "broker" / "broker.db"

    def authority(self) -> DevCa:
        return DevCa.open_or_create(self.home / "broker" / "ca", self.genesis.deployment, at=int(time.time()))

    def start(self, *, dies_in: str = "", identity: bool = False) -> None:
        """Start the process; ``dies_in`` names the store's method in which it kills itself."""
        arguments = [dies_in, str(self.home), *(["identity"] if identity else [])]
        with (self.home / "broker.err").open("ab") as errors:
            self.process = Forked("support.broker_program", arguments, stderr=errors.fileno())
        self.ready()

    def ready(self) -> None:
        """Wait until the process serves, and note where."""
        assert self.process is not None
        told = first_said(self.process, self.home / "broker.err")
        self.port, self.identity_port = told["port"], told.get("identity_port", 0)

    def stop(self) -> int:
        """Stop it by SIGTERM, or reap it; returns the exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        self.hang_up()
        process.terminate()
        return reap(process)

    def kill(self) -> None:
        """End it at once: whoever waits at it, say for the end of a lease, would be waited for."""
        assert self.process is not None
        self.process.kill()
        self.stop()

    def context(self, issued: IssuedCertificate | None, *, name: str = "client") -> ssl.SSLContext:
        """Return a client's context."""
        context = ssl.create_default_context(cadata=self.authority().certificate.decode())
        if issued is not None:
            certificate, key = self.home / f"{name}.pem", self.home / f"{name}.key"
            issued.save(certificate, key)
            context.load_cert_chain(certificate, key)
        return context

    def caller(self, name: str = "dana", *, enclave: bool = False, life: timedelta = timedelta(hours=1)) -> Caller:
        """Return a caller with a certificate of its own."""
        at = int(time.time())
        authority = self.authority()
        issue = authority.issue_enclave if enclave else authority.issue_person
        return self.connect(self.context(issue(name, at=at, life=life), name=name))

    def connect(self, context: ssl.SSLContext) -> Caller:
        """Return a caller; its connection is closed when the broker stops."""
        self.callers.append(Caller(self.port, context))
        return self.callers[-1]

    def hang_up(self) -> None:
        """Close every caller's connection."""
        while self.callers:
            self.callers.pop().connection.close()


@contextmanager
def broker(home: Path, *, dies_in: str = "", identity: bool = False) -> Iterator[RunningBroker]:
    """Run log writer, simulated keeper and broker at ``home``."""
    (home / "run").mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        _home, _key, genesis = found_home(home)
        stack.enter_context(log_writer(home))
        keeper = stack.enter_context(SimulatedKeeper(home, genesis.digest))
        running = RunningBroker(home, genesis, keeper)
        running.start(dies_in=dies_in, identity=identity)
        try:
            yield running
        finally:
            if running.process is not None:
                running.stop()


def broker_beside(home: Path, genesis: Genesis, *options: str) -> RunningBroker:
    """Start the broker, as it is, beside the keeper that runs at ``home``; the caller stops it."""
    arguments = ["--home", str(home), "--port", "0", *options]
    with (home / "broker.err").open("ab") as errors:
        process = Forked("strongroom.broker.wiring", arguments, stderr=errors.fileno())
    running = RunningBroker(home, genesis, None, process)  # type: ignore[arg-type]  # no simulated one
    running.ready()
    return running


def request(
    genesis: Genesis, action: Action = Action.FREEZE, *, model: ModelId = MODEL, version: int = 0, seconds: int = 3600
) -> Envelope:
    """Return a signed request of dana's, different every time."""
    now = int(time.time())
    asked = Request(
        genesis=genesis.digest,
        action=action,
        requester=PersonId("dana"),
        model=model,
        version=version,
        manifest=Digest.of(b"manifest") if action in {Action.OPEN_IN_ENCLAVE, Action.EXPORT_PLAINTEXT} else None,
        purpose=Purpose.EVALUATE,
        ticket="T-1",
        justification=None,
        image=None,
        measurement=None,
        platforms=(),
        recipient=Digest.of(b"recipient") if action in {Action.SEAL, Action.EXPORT_PLAINTEXT} else None,
        target=None,
        not_before=now - 1,
        expires=now + seconds,
        max_uses=1,
        nonce=os.urandom(16),
        roster=Digest.of(b"roster"),
        policy=Digest.of(b"policy"),
        log=LogHead(size=1, root=Digest.of(b"")),
    )
    return sign(REQUEST_TYPE, asked.to_bytes(), DANA)


def approval(asked: Envelope, signer: Ed25519Signer = SAM) -> Envelope:
    """Return an approval."""
    return sign(APPROVAL_TYPE, asked.payload, signer)


def manifest(genesis: Genesis, data_key: str, *, model: ModelId = MODEL) -> Envelope:
    """Return a signed manifest of one object: version 1 of a model."""

    def one(number: int) -> ManifestObject:
        digest = Digest.of(bytes([number]))
        return ManifestObject(object_id=bytes([number]) * 16, size=1 << 20, header=digest, root=digest)

    made = Manifest(
        genesis=genesis.digest,
        model=model,
        version=1,
        predecessor=None,
        data_key_id=data_key,
        commitment=bytes(32),
        publisher=PersonId("dana"),
        index=one(0),
        objects=(one(1),),
    )
    return manifest_envelope(made, publishing_signer(b"d" * 32))
