"""Serving a model: the enclave is launched with a metered channel, and the gateway stands at its other end."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import uvicorn

from strongroom.attestation.adapters.tpm_attester import TpmAttester
from strongroom.attestation.adapters.tpm_device import TpmDevice
from strongroom.core.clock import Clock, SystemClock
from strongroom.core.errors import StrongroomError, UnavailableError, UsageError
from strongroom.core.ids import ImageId
from strongroom.egress.governor import Governor, Served
from strongroom.egress.odometer import Odometer
from strongroom.egress.policy import EgressPolicy
from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.gateway.adapters.http import Gateway, application
from strongroom.enclave.gateway.adapters.live import LiveModel
from strongroom.enclave.gateway.adapters.odometer_files import FileLog, GovernorFolder
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.errors import EngineGoneError
from strongroom.enclave.gateway.keys import ApiKeys
from strongroom.enclave.gateway.meter import Meter
from strongroom.enclave.image import Image
from strongroom.enclave.launch.relay import Opened, ReleasePort, relay
from strongroom.enclave.launch.wiring import AGENT, Launch, tpm_transport
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.runner import Running
from strongroom.enclave.sandbox import process_profile

ENGINE: Final = "strongroom.enclave.engine.wiring"
BLOCKS_A_DAY: Final = 24
MAX_CONNECTIONS: Final = 1024
STOP_SECONDS: Final = 5
FOREVER: Final = 10 * 365 * 86400.0
_LOWEST_ROOM: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How one model is served."""

    policy: EgressPolicy
    tokenizer: PublicTokenizer
    keys: ApiKeys
    state: Path
    """The governor's own folder."""
    log: Path
    """The file that stands for the log."""
    context: int
    """Tokens that prompt and answer may have together."""
    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    tick: float = 0.0
    """Seconds."""
    epoch: int = 1
    """Of the model's key."""

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
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS takes a certificate and its key")
        if self.certificate is None and not _loopback(self.host):
            raise UsageError(
                "API keys would cross the network in the clear",
                remedy="give a certificate and its key, or listen on 127.0.0.1",
            )


def engine_image(image: ImageId, sealed: Path, *, room: int | None = None) -> Image:
    """Return the image of our own engine beside a sealed model: its output is metered, and that is measured.

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
        command=("python", "-m", ENGINE),
        profile=profile,
        interpreter=sys.executable,
        trees={
            "standard-library": paths["stdlib"],
            "packages": paths["platlib"],
            "strongroom": str(Path(__file__).resolve().parents[2]),
        },
    )


def serve(
    launch: Launch,
    broker: ReleasePort,
    serving: Serving,
    *,
    opened: Callable[[Opened], None],
    listening: Callable[[int], None],
    err: IO[bytes],
) -> None:
    """Measure into the TPM, launch, and serve until the release ends, somebody stops it, or the model is frozen.

    ``listening`` is called with the port once the model is open.

    :raises ChannelBreachError: something left the enclave that nothing explains; everything was ended.
    :raises LeaseEndedError: the release doesn't hold any more.
    :raises StrongroomError: the keeper refused, the model was frozen before, or its policy breaks its bound.
    """
    serving.check()
    ours, theirs = socket.socketpair()
    transport = tpm_transport(launch.tpm)
    with ours, theirs, TpmDevice(transport) as device:
        TpmAttester(device).measure(launch.order.measurements)
        inherited = {"tpm": transport.descriptor, "meter": theirs.fileno()}
        with ProcessRunner().launch(launch.image.profile, module=AGENT, inherited=inherited) as running:
            theirs.close()
            for pipe, sink in ((running.stdout, None), (running.stderr, err)):
                threading.Thread(target=_drain, args=(pipe, sink), daemon=True).start()
            kill = _Kill(running)
            relaying = _Relaying(running, launch, broker, opened, kill)
            try:
                asyncio.run(serve_channel(ours, serving, stop=kill, listening=listening))
            except EngineGoneError:
                # Why it is gone, the relay knows: the keeper refused, or the lease ended.
                kill()
                relaying.join(10)
                if relaying.error is not None:
                    raise relaying.error from None
                raise
            finally:
                kill()
                relaying.join(10)


class _Kill:
    """Ends the enclave. The relay's thread and the gateway's may both want it, at the same moment."""

    def __init__(self, running: Running) -> None:
        self._running, self._lock = running, threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self._running.kill()


class _Relaying(threading.Thread):
    """The relay between agent and broker, beside the gateway's event loop."""

    def __init__(
        self,
        running: Running,
        launch: Launch,
        broker: ReleasePort,
        opened: Callable[[Opened], None],
        kill: _Kill,
    ) -> None:
        super().__init__(daemon=True)
        self._running, self._launch, self._broker, self._opened, self._kill = running, launch, broker, opened, kill
        self.error: StrongroomError | None = None
        self.start()

    def run(self) -> None:
        """Relay until the command ends; its end closes the channel, which is what the gateway waits for."""
        try:
            relay(self._running, self._launch.order, self._broker, opened=self._opened, seconds=FOREVER)
        except StrongroomError as error:
            self.error = error
        finally:
            # A refusal leaves an agent that waits, with the channel open.
            self._kill()


async def serve_channel(
    channel: socket.socket,
    serving: Serving,
    *,
    stop: Callable[[], None],
    listening: Callable[[int], None],
    clock: Clock | None = None,
) -> None:
    """Serve one model over a channel that leads to its engine, until it ends or a signal says so.

    :raises StrongroomError: it couldn't begin, or why it ended, unless somebody asked for that.
    """
    clock = clock or SystemClock()
    policy, folder = serving.policy, GovernorFolder(serving.state, serving.policy.model)
    serving.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = FileLog(serving.log, policy.model)
    with contextlib.closing(log):
        run = folder.open(log, epoch=serving.epoch, now=clock.now())
        odometer = Odometer(
            run.entry, limit=policy.lifetime_bits, block_bits=max(1, policy.model_day_bits // BLOCKS_A_DAY)
        )
        governor = Governor([Served(policy=policy, odometer=odometer, recent=run.recent)], clock.now())
        live = LiveModel(
            channel,
            Meter(governor, policy.model, policy.vocabulary),
            log=log,
            folder=folder,
            limit=policy.lifetime_bits,
            clock=clock,
            stop=stop,
            tick=serving.tick,
        )
        live.start()
        gateway = Gateway(
            live=live,
            model=policy.model,
            tokenizer=serving.tokenizer,
            keys=serving.keys,
            clock=clock,
            context=serving.context,
        )
        try:
            await _serve_http(gateway, serving, listening)
        finally:
            await live.close()


async def _serve_http(gateway: Gateway, serving: Serving, listening: Callable[[int], None]) -> None:
    loop, asked, live = asyncio.get_running_loop(), asyncio.Event(), gateway.live
    for number in (signal.SIGTERM, signal.SIGINT):
        # Elsewhere than in the main thread (a test) nobody sends any.
        with contextlib.suppress(ValueError, RuntimeError):
            loop.add_signal_handler(number, asked.set)
    over = asyncio.ensure_future(_first(live.over, asked))
    await _first(live.opened, asked)
    if live.error is not None:
        over.cancel()
        raise live.error
    server = _Server(_config(gateway, serving), listening)
    serving_http = asyncio.ensure_future(server.serve())
    await asyncio.wait({over, serving_http}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
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


class _Server(uvicorn.Server):
    """A server that leaves signals alone, and says when it listens."""

    def __init__(self, config: uvicorn.Config, listening: Callable[[int], None]) -> None:
        super().__init__(config)
        self._listening = listening

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then let it be known.

        :raises UnavailableError: the address can't be listened on.
        """
        try:
            await super().startup(sockets)
        except SystemExit:
            raise UnavailableError(f"can't listen on port {self.config.port}", remedy="choose another") from None
        self._listening(int(self.servers[0].sockets[0].getsockname()[1]))


def _config(gateway: Gateway, serving: Serving) -> uvicorn.Config:
    return uvicorn.Config(
        application(gateway),
        host=serving.host,
        port=serving.port,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        ssl_certfile=serving.certificate,
        ssl_keyfile=serving.key,
    )


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _drain(source: IO[bytes], sink: IO[bytes] | None) -> None:
    # The command has neither of the two; what the agent itself has to say comes before the weights are opened.
    with contextlib.suppress(OSError, ValueError):
        while part := os.read(source.fileno(), 65536):
            if sink is not None:
                sink.write(part)
                sink.flush()
