"""Serving a model: the enclave is launched with a metered channel, and the gateway stands at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import secrets
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import uvicorn

from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.ids import ImageId
from strongroom.egress.bits import Output
from strongroom.egress.governor import Governor, Served
from strongroom.egress.odometer import Odometer
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.gateway.adapters.broker_odometer import BrokerOdometer
from strongroom.enclave.gateway.adapters.engines import EngineHost, ProcessHost
from strongroom.enclave.gateway.adapters.governor_folder import GovernorFolder
from strongroom.enclave.gateway.adapters.http import Gateway, application
from strongroom.enclave.gateway.adapters.live import LiveModel
from strongroom.enclave.gateway.adapters.relaying import relayed
from strongroom.enclave.gateway.adapters.replayer import Replayer
from strongroom.enclave.gateway.adapters.screening import Screening
from strongroom.enclave.gateway.adapters.suspension_file import SuspensionFolder
from strongroom.enclave.gateway.adapters.telling import telling
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.errors import EgressPolicyStaleError, EngineGoneError
from strongroom.enclave.gateway.keys import ApiKeys
from strongroom.enclave.gateway.meter import Meter
from strongroom.enclave.gateway.odometer import DeploymentPort, OdometerLog, last_resumption
from strongroom.enclave.gateway.replay import Replays, drawn
from strongroom.enclave.gateway.screen_settings import ScreenSettings
from strongroom.enclave.gateway.telling import Tally
from strongroom.enclave.image import Image
from strongroom.enclave.launch.relay import Opened, ReleasePort
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.sandbox import process_profile
from strongroom.ipc.adapters.http_server import HttpServer, http_config
from strongroom.ipc.adapters.signals import when_told_to_end
from strongroom.release.lease import Sampling
from strongroom.release.metering import LoggedReading, Metered

BLOCKS_A_DAY: Final = 24
MAX_CONNECTIONS: Final = 1024
STOP_SECONDS: Final = 5
_LOWEST_ROOM: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How one model is served."""

    policy: EgressPolicy
    """The model's, of the egress policies in force at the start."""
    in_force: Callable[[], EgressPolicy]
    """Fetches it anew, once the log's entries name another one. It may block."""
    tokenizer: PublicTokenizer
    keys: ApiKeys
    state: Path
    """The governor's own folder."""
    context: int
    """Tokens that prompt and answer may have together."""
    values: int = 0
    """Numbers in a vector of the model; 0 if it makes none."""
    screens: ScreenSettings | None = None
    tell: Path | None = None
    """The responder's socket; None tells nobody."""
    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    tick: float = 0.0
    """Seconds."""

    def check(self) -> None:
        """Refuse what can't be served.

        :raises UsageError: an address that others reach without TLS, or a tokenizer with more tokens than the policy
            counts.
        """
        if self.tokenizer.vocabulary > self.policy.vocabulary:
            raise UsageError(
                f"the tokenizer has {self.tokenizer.vocabulary} tokens, and the egress policy counts "
                f"{self.policy.vocabulary}: each token would be charged too little",
                remedy="hand over this model's tokenizer, or put its vocabulary into the policy",
            )
        if (Output.VALUES in self.policy.outputs) != (self.values > 0):
            raise UsageError(
                "vectors are served where the egress policy lists `values` and their length is known, and only there",
                remedy="give --values where the policy lists them",
            )
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS takes a certificate and its key")
        if self.certificate is None and not _loopback(self.host):
            raise UsageError(
                "API keys would cross the network in the clear",
                remedy="give a certificate and its key, or listen on 127.0.0.1",
            )


def engine_image(
    image: ImageId, sealed: Path, engine: BuiltIn = BuiltIn.TRANSFORMERS, *, room: int | None = None
) -> Image:
    """Return the image of an engine of our own beside a sealed model: its output is metered, and that is measured.

    :param room: bytes of memory for the opened weights; by default what the sealed directory takes, and a tenth more.
    :raises UsageError: no such sealed directory.
    """
    if not sealed.is_dir():
        raise UsageError("an enclave needs a sealed directory")
    size = sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file())
    code_roots, links = python_roots()
    profile = process_profile(
        code_roots=code_roots,
        sealed_roots=(str(sealed.resolve()),),
        links=links,
        model_bytes=room or size + size // 10 + _LOWEST_ROOM,
        environment=(OUTPUT,),
    )
    paths = sysconfig.get_paths()
    return Image(
        image=image,
        command=engine.command,
        profile=profile,
        interpreter=sys.executable,
        trees={
            "standard-library": paths["stdlib"],
            "packages": paths["platlib"],
            "strongroom": str(Path(__file__).resolve().parents[2]),
        },
    )


@dataclass(frozen=True, slots=True)
class Second:
    """A second engine of the same model version, which replays answers: an enclave and a release of its own."""

    host: ProcessHost
    broker: ReleasePort

    def check(self, first: EngineHost, policy: EgressPolicy) -> None:
        """Refuse a second engine that proves nothing.

        :raises UsageError: the policy names another image, or none; it is the same engine or another model; or the
            first one stands behind a meter of its own, which knows no discount.
        """
        image, order = self.host.launch.image, self.host.order
        if policy.verified_by is None or policy.verified_by.image != image.image:
            raise UsageError(
                f"the egress policy of `{policy.model}` doesn't let image `{image.image}` verify tokens",
                remedy="have the root quorum name it as `verified_by`, or serve without a second engine",
            )
        if not isinstance(first, ProcessHost):
            raise UsageError("a machine's own meter charges every token its full price: nothing is verified there")
        if first.launch.image.command == image.command:
            raise UsageError("the second engine is the first one's twin: whatever takes over one takes over both")
        if (order.model, order.version, order.manifest) != (
            first.order.model,
            first.order.version,
            first.order.manifest,
        ):
            raise UsageError("the second engine opens another model, or another version, than the one that answers")


@contextlib.contextmanager
def _replaying(second: Second | None, serving: Serving, clock: Clock, err: IO[bytes]) -> Iterator[Replayer | None]:
    """Start the second engine, where there is one; it is killed at the end."""
    rules = serving.policy.verified_by
    if second is None or rules is None:
        yield None
        return
    with second.host.started(err) as engine:
        replays = Replays(serving.policy.model, rules, draw=lambda: drawn(secrets.randbits(64)))
        with relayed(engine.running, second.host.order, second.broker) as relaying:
            yield Replayer(engine.channel, replays, clock, relaying.kill)


def serve(
    host: EngineHost,
    broker: ReleasePort,
    deployment: DeploymentPort,
    serving: Serving,
    *,
    second: Second | None = None,
    opened: Callable[[Opened], None],
    listening: Callable[[int], None],
    err: IO[bytes],
) -> None:
    """Start the engine where ``host`` has it, and serve until the release ends, somebody stops it, or a freeze.

    ``listening`` is called with the port once the model is open.

    :raises ChannelBreachError: something left the enclave that nothing explains; everything was ended.
    :raises LeaseEndedError: the release doesn't hold any more.
    :raises StrongroomError: the keeper refused, the model was frozen before, or its policy breaks its bound.
    """
    serving.check()
    if second is not None:
        second.check(host, serving.policy)
    order, clock = host.order, SystemClock()
    # Before a use of the grant is spent on a model that isn't served anyway.
    folder = GovernorFolder(serving.state, serving.policy.model)
    folder.check_resumed(lambda: last_resumption(deployment, order.genesis, order.model))
    with (
        host.started(err) as engine,
        _replaying(second, serving, clock, err) as replayer,
        relayed(engine.running, order, broker) as relaying,
    ):

        def odometer() -> OdometerLog:
            facts = relaying.released()
            engine.begin(serving.policy.vocabulary)
            opened(facts)
            metered = Metered(request=order.request, use=facts.use, model=order.model)
            return BrokerOdometer(deployment, order.genesis, metered, facts.delivery)

        try:
            asyncio.run(
                serve_channel(
                    engine.channel,
                    serving,
                    odometer=odometer,
                    vouch=engine.vouch,
                    why=relaying.why,
                    stop=relaying.kill,
                    listening=listening,
                    clock=clock,
                    replayer=replayer,
                    sampling=lambda: relaying.sampling,
                )
            )
        except EngineGoneError:
            # Why it is gone, the relay knows: the keeper refused, or the lease ended.
            relaying.end()
            if relaying.error is not None:
                raise relaying.error from None
            raise


async def serve_channel(
    channel: socket.socket,
    serving: Serving,
    *,
    odometer: Callable[[], OdometerLog],
    stop: Callable[[], None],
    listening: Callable[[int], None],
    vouch: Callable[[bytes], None] = lambda _entry: None,
    why: Callable[[], StrongroomError | None] = lambda: None,
    clock: Clock | None = None,
    replayer: Replayer | None = None,
    sampling: Callable[[], Sampling] = lambda: Sampling.POLICY,
) -> None:
    """Serve one model over a channel that leads to its engine, until it ends or a signal says so.

    No frame is read before the log has the governor's first entry. ``odometer`` is called in a thread and may wait for
    the release.

    :raises EgressPolicyStaleError: the keeper has another egress policy in force than the one that was shown here.
    :raises StrongroomError: it couldn't begin, or why it ended, unless somebody asked for that.
    """
    clock = clock or SystemClock()
    # First: a screen that can't be set up ends it before a run of the odometer is begun.
    screening = Screening.of(serving.screens, SuspensionFolder(serving.state, serving.policy.model), clock)
    asked, folder = _signalled(), GovernorFolder(serving.state, serving.policy.model)
    begun = await _begun(odometer, folder, vouch, asked, stop)
    if begun is None:
        return
    log, opened = begun
    live = LiveModel(
        channel,
        _meter(serving.policy, opened, clock, replayer),
        log=log,
        folder=folder,
        opened=opened,
        vouch=vouch,
        clock=clock,
        stop=stop,
        why=why,
        tick=serving.tick,
        in_force=serving.in_force,
        replayer=replayer,
        sampling=sampling,
    )
    live.start()
    gateway = _gateway(live, serving, screening, clock)
    async with telling(serving.tell, gateway.tally, clock):
        try:
            await _serve_http(gateway, serving, listening, asked)
        finally:
            await live.close()
            await screening.close()


def _gateway(live: LiveModel, serving: Serving, screening: Screening, clock: Clock) -> Gateway:
    return Gateway(
        live=live,
        model=serving.policy.model,
        tokenizer=serving.tokenizer,
        keys=serving.keys,
        clock=clock,
        screening=screening,
        tally=Tally(serving.policy.model, os.uname().nodename),
        context=serving.context,
        values=serving.values,
    )


async def _begun(
    odometer: Callable[[], OdometerLog],
    folder: GovernorFolder,
    vouch: Callable[[bytes], None],
    asked: asyncio.Event,
    stop: Callable[[], None],
) -> tuple[OdometerLog, LoggedReading] | None:
    """Return what the governor begins with; None when somebody asked for the end before."""

    def begin() -> tuple[OdometerLog, LoggedReading]:
        log = odometer()
        opened = folder.open(log)
        vouch(opened.data)
        return log, opened

    beginning = asyncio.ensure_future(asyncio.to_thread(begin))
    stopping = asyncio.ensure_future(asked.wait())
    await asyncio.wait({beginning, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if beginning.done():
        return beginning.result()
    # The engine's end is what the thread waits for.
    stop()
    with contextlib.suppress(StrongroomError):
        await beginning
    return None


def _meter(policy: EgressPolicy, opened: LoggedReading, clock: Clock, replayer: Replayer | None) -> Meter:
    if opened.policy != policy.digest:
        raise EgressPolicyStaleError(
            f"the keeper has another egress policy of `{policy.model}` in force than the one that was shown here",
            remedy="start again; if it stays so, the server shows an old document: treat this as an incident",
        )
    odometer = Odometer(opened.entry, block_bits=max(1, policy.model_day_bits // BLOCKS_A_DAY))
    governor = Governor([Served(policy=policy, odometer=odometer, recent=opened.entry.recent)], clock.now())
    return Meter(governor, policy.model, policy.vocabulary, replayer.replays if replayer else None)


def _signalled() -> asyncio.Event:
    asked = asyncio.Event()
    # Elsewhere than in the main thread (a test) nobody sends any.
    with contextlib.suppress(ValueError, RuntimeError):
        when_told_to_end(asked.set)
    return asked


async def _serve_http(
    gateway: Gateway, serving: Serving, listening: Callable[[int], None], asked: asyncio.Event
) -> None:
    live = gateway.live
    over = asyncio.ensure_future(_first(live.over, asked))
    await _first(live.opened, asked)
    if live.error is not None:
        over.cancel()
        raise live.error
    server = HttpServer(_config(gateway, serving), listening)
    serving_http = asyncio.ensure_future(server.serve())
    await asyncio.wait({over, serving_http}, return_when=asyncio.FIRST_COMPLETED)
    server.end()
    over.cancel()
    await serving_http
    if live.error is not None:
        raise live.error


async def _first(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


def _config(gateway: Gateway, serving: Serving) -> uvicorn.Config:
    return http_config(
        application(gateway),
        host=serving.host,
        port=serving.port,
        most=MAX_CONNECTIONS,
        date_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=serving.certificate,
        ssl_keyfile=serving.key,
    )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
