"""A model served out of a measured machine, by the real keeper: the gateway, its odometer, and the engine's host."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import pytest

from strongroom.client.told import OdometerTold
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import ModelId
from strongroom.egress.odometer import Block
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.agent.messages import Order
from strongroom.enclave.gateway.adapters.engines import Engine, VmHost
from strongroom.enclave.gateway.keys import ApiKeys, digest_of
from strongroom.enclave.gateway.wiring import Serving, serve
from support.deployment import MODEL
from support.gateways import KEY, VOCABULARY, words
from support.metered import policies, signed
from support.vm_lab import VmLab, Way, vm_tpm

_TEMPLATE = EgressPolicy.template(MODEL, parameters=10**12, vocabulary=VOCABULARY)
POLICY = replace(_TEMPLATE, principal_day_bits=_TEMPLATE.model_day_bits)
"""Room for whatever a test does."""
OPEN_SECONDS = 400


@dataclass
class KeeperPort:
    """The deployment as the governor reaches it, without a broker between."""

    way: Way

    def odometer(self, model: ModelId) -> OdometerTold:
        """Ask how far it stands."""
        return OdometerTold.read(self.way.keeper("odometer", model=model))

    def entries(self, start: int, count: int) -> tuple[bytes, ...]:
        """Not asked for: nothing was frozen before."""
        raise AssertionError((start, count))

    def open_odometer(self, delivery: Envelope, seen: bytes | None) -> bytes:
        """Begin a run."""
        told = self.way.keeper("odometer-open", delivery=delivery.to_json(), seen=to_base64(seen) if seen else None)
        return told.binary("entry")

    def advance_odometer(self, delivery: Envelope, block: Block) -> bytes:
        """Have more mirrored."""
        return self.way.keeper("odometer-advance", delivery=delivery.to_json(), block=block.to_json()).binary("entry")

    def report_breach(self, delivery: Envelope, cause: str) -> None:
        """Have the model frozen."""
        self.way.keeper("egress-breach", delivery=delivery.to_json(), cause=cause)


@dataclass
class Watched:
    """A host of an engine that keeps what it started."""

    host: VmHost
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


def served(folder: Path) -> Serving:
    """Return how the tests serve a Llama."""
    return Serving(
        policy=POLICY,
        in_force=lambda: POLICY,
        tokenizer=words(),
        keys=ApiKeys({digest_of(KEY): "dana"}),
        state=folder / "governor",
        context=512,
    )


@dataclass
class Serves:
    """A gateway in front of a machine."""

    watched: Watched
    port: KeeperPort
    url: str = ""
    error: StrongroomError | None = None
    """Why it ended."""
    known: threading.Event = field(default_factory=threading.Event)
    """Set once it listens, or never will."""

    def listens(self, port: int) -> None:
        """Take the port."""
        self.url = f"http://127.0.0.1:{port}"
        self.known.set()

    def why(self) -> StrongroomError | None:
        """Return why it ended."""
        return self.error

    def client(self) -> Any:
        """Return the official client, as anybody would make it; skips where it isn't installed."""
        openai = pytest.importorskip("openai", reason="the official `openai` client isn't installed")
        return openai.OpenAI(base_url=self.url + "/v1", api_key=KEY, max_retries=0, timeout=300)


@contextmanager
def serving_machine(
    lab: VmLab, folder: Path, *, before: Callable[[Serves], None] = lambda _serves: None
) -> Iterator[Serves]:
    """Have the policy in force, ask, approve, start the machine, serve; the block begins once the model answers.

    ``before`` is called once before the start.
    """
    deployment = lab.attested.deployment
    deployment.adopt("egress", signed(policies(deployment.genesis, POLICY)))
    order, way = lab.approved()
    made = served(folder)
    with vm_tpm(lab.attested.tpm) as tpm:
        serves = Serves(Watched(VmHost(lab.launch(lab.image, lab.folder, tpm), order)), KeeperPort(way))

        def run() -> None:
            try:
                serve(
                    serves.watched,
                    way,
                    serves.port,
                    made,
                    opened=lambda _facts: None,
                    listening=serves.listens,
                    err=io.BytesIO(),
                )
            except StrongroomError as error:
                serves.error = error
            finally:
                serves.known.set()

        before(serves)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            assert serves.known.wait(OPEN_SECONDS)
            yield serves
        finally:
            if serves.watched.engine is not None:
                serves.watched.engine.running.kill()
            thread.join(60)
            assert not thread.is_alive()
