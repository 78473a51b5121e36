"""A witness over HTTP (c2sp.org/tlog-witness): add-checkpoint, and the checkpoint that it cosigned last of each log."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn

from strongroom.audit.adapters.witness_store import Followed, WitnessFolder, origin_hash
from strongroom.audit.errors import OldSizeError
from strongroom.audit.witness import MAX_SUBMISSION, SIZE_TYPE, Submission, judge, kept_signatures
from strongroom.core.clock import Clock
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError, UsageError
from strongroom.ipc.adapters.http_server import BoundedProtocol, HttpServer, http_config
from strongroom.ipc.adapters.process import harden, program_log, say_ready
from strongroom.ipc.adapters.signals import when_told_to_end

HEAD_SECONDS: Final = 5
"""How long a connection may stand without a request in work: there are only so many, and silence must not fill them."""
BODY_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 256
STOP_SECONDS: Final = 5
_TEXT: Final = "text/plain; charset=utf-8"

Message = MutableMapping[str, Any]
_log = structlog.get_logger("strongroom.witness")


class WitnessDesk:
    """Takes submissions, one at a time: between looking up what was cosigned last and replacing it nothing happens."""

    def __init__(self, folder: WitnessFolder, clock: Clock) -> None:
        folder.lock()
        self._folder = folder
        self._clock = clock
        self._logs: dict[str, Followed] = {log.origin: log for log in folder.logs()}
        self._failed = False

    def add_checkpoint(self, body: bytes) -> bytes:
        """Return the signature line for a submission, once what it cosigns is durable.

        :raises WitnessRefusedError: the submission isn't cosigned; ``http_status`` says how.
        :raises UnavailableError: the disk failed once, or the clock is behind the last cosignature.
        """
        if self._failed:
            raise UnavailableError("a write failed: nothing is cosigned until the witness is started again")
        submission = Submission.parse(body)
        log = self._logs.get(submission.origin)
        checkpoint = judge(submission, log.keys if log else (), log.latest if log else None)
        assert log is not None  # noqa: S101 - no keys, no checkpoint
        now = self._clock.now()
        if now < log.at:
            raise UnavailableError("the witness's clock is behind what it cosigned last", reason="clock-behind")
        line = self._folder.cosigner.cosign(checkpoint, now)
        note = kept_signatures(submission.note, log.keys, line).to_bytes()
        try:
            self._folder.keep(log.origin, note)
        except UnavailableError:
            # Which of the two checkpoints the disk holds is unknown; a second try that succeeds would prove nothing.
            self._failed = True
            raise
        self._logs[log.origin] = Followed(log.origin, log.keys, note, checkpoint, now)
        return line.line().encode()

    def checkpoint(self, named: str) -> bytes | None:
        """Return the note that was cosigned last for the log whose origin has this SHA-256, if there is one."""
        return next((log.note for log in self._logs.values() if log.note and origin_hash(log.origin) == named), None)


class WitnessApp:
    """The ASGI application."""

    def __init__(self, desk: WitnessDesk) -> None:
        self._desk = desk
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="witness")

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        status, kind, body = await self._answer(scope["method"], scope["path"], receive)
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(
        self, method: str, path: str, receive: Callable[[], Awaitable[Message]]
    ) -> tuple[int, str, bytes]:
        try:
            if path == "/add-checkpoint":
                if method != "POST":
                    return 405, _TEXT, b"add-checkpoint is a POST\n"
                body = await _body(receive)
                line = await asyncio.get_running_loop().run_in_executor(self._worker, self._desk.add_checkpoint, body)
                return 200, _TEXT, line
            note = self._desk.checkpoint(path.removeprefix("/").removesuffix("/checkpoint"))
            if method == "GET" and path.endswith("/checkpoint") and note is not None:
                return 200, _TEXT, note
        except OldSizeError as error:
            return error.http_status, SIZE_TYPE, f"{error.size}\n".encode()
        except StrongroomError as error:
            _log.info("refused", reason=error.reason, status=error.http_status)
            return error.http_status, _TEXT, f"{error.message}\n".encode()
        return 404, _TEXT, b"there is nothing here\n"


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise MalformedError("the connection ended before the request")
                data += message.get("body", b"")
                more = message.get("more_body", False)
                if len(data) > MAX_SUBMISSION:
                    raise MalformedError(f"a submission has at most {MAX_SUBMISSION} bytes")
    except TimeoutError:
        raise MalformedError("the submission took too long") from None
    return bytes(data)


class _Protocol(BoundedProtocol):
    """Ends connections on which nothing is asked, or only ever half of something."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look at the connection from time to time."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._look)

    def _look(self) -> None:
        # Before the first request there is no cycle.
        if getattr(self.cycle, "response_complete", True):
            self.transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._look)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a witness listens; with a certificate (PEM files) over TLS 1.3, without one in the clear."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None


def serve_witness(folder: Path, listening: Listening, clock: Clock) -> None:
    """Run the witness of ``folder`` until SIGTERM; writes one JSON line to stdout when it listens.

    :raises UsageError: not a witness's folder. :raises WitnessStoreError: what it keeps is damaged.
    :raises ConflictError: another process serves it. :raises UnavailableError: the address can't be listened on.
    """
    harden()
    program_log()
    app = WitnessApp(WitnessDesk(WitnessFolder.open(folder), clock))
    config = http_config(
        app,
        host=listening.host,
        port=listening.port,
        http=_Protocol,
        most=MAX_CONNECTIONS,
        timeout_keep_alive=HEAD_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    if listening.certificate is not None and listening.key is not None:
        context = _tls(listening.certificate, listening.key)
        config.ssl_context_factory = lambda _config, _default: context
    asyncio.run(_serve(config))


async def _serve(config: uvicorn.Config) -> None:
    server = HttpServer(config, lambda port: say_ready("witness", port=port))
    when_told_to_end(server.end)
    await server.serve()


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError):
        raise UsageError("the witness's certificate or key can't be loaded") from None
    return context
