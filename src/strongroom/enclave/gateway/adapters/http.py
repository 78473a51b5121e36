"""The API over HTTP: four routes, each answering only to a known key, and nothing else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strongroom.core.clock import Clock
from strongroom.core.errors import MalformedError, NotFoundError, StrongroomError
from strongroom.core.ids import ModelId
from strongroom.enclave.gateway import answers
from strongroom.enclave.gateway.adapters.live import Answer, LiveModel
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.answers import Form
from strongroom.enclave.gateway.bodies import MAX_BODY, ChatBody, CompletionBody, read
from strongroom.enclave.gateway.errors import FieldRefusedError
from strongroom.enclave.gateway.keys import ApiKeys
from strongroom.enclave.gateway.meter import Ask
from strongroom.enclave.gateway.texts import TextStream
from strongroom.enclave.metered import MAX_PROMPT, Code

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What the routes need."""

    live: LiveModel
    model: ModelId
    tokenizer: PublicTokenizer
    keys: ApiKeys
    clock: Clock
    context: int
    """Tokens that prompt and answer may have together."""


def application(gateway: Gateway) -> Starlette:
    """Return the application. Paths that aren't listed are 404, for everybody alike."""
    service = _Service(gateway)
    return Starlette(
        routes=[
            Route("/v1/models", _guarded(gateway, service.models), methods=["GET"]),
            Route("/v1/models/{name}", _guarded(gateway, service.one_model), methods=["GET"]),
            Route("/v1/completions", _guarded(gateway, service.completions), methods=["POST"]),
            Route("/v1/chat/completions", _guarded(gateway, service.chat), methods=["POST"]),
        ]
    )


def _guarded(gateway: Gateway, handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            request.state.principal = gateway.keys.principal(request.headers.get("authorization", ""))
            return await handler(request)
        except StrongroomError as error:
            headers = answers.retry_headers(error, gateway.clock.now())
            return JSONResponse(answers.problem(error), error.http_status, headers)
        except ClientDisconnect:
            return Response(status_code=400)

    return answer


class _Service:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def models(self, _request: Request) -> Response:
        return JSONResponse(answers.models(self._gateway.model))

    async def one_model(self, request: Request) -> Response:
        self._same(request.path_params["name"])
        return JSONResponse(answers.model(self._gateway.model))

    async def completions(self, request: Request) -> Response:
        body = read(CompletionBody, await _body(request))
        self._same(body.model)
        return await self._answer(request, body, self._gateway.tokenizer.encode(body.prompt))

    async def chat(self, request: Request) -> Response:
        body = read(ChatBody, await _body(request))
        self._same(body.model)
        messages = [{"role": one.role, "content": one.text} for one in body.messages]
        return await self._answer(request, body, self._gateway.tokenizer.conversation(messages))

    def _same(self, name: str) -> None:
        if name != self._gateway.model:
            raise NotFoundError("that model isn't served here", reason="model_not_found")

    async def _answer(self, request: Request, body: CompletionBody | ChatBody, prompt: tuple[int, ...]) -> Response:
        gateway = self._gateway
        if not prompt or len(prompt) > MAX_PROMPT or len(prompt) + body.most > gateway.context:
            raise FieldRefusedError(
                "messages" if isinstance(body, ChatBody) else "prompt",
                f"prompt and answer may have {gateway.context} tokens together, the prompt at least one",
            )
        temperature, top_p = body.sampling
        ask = Ask(prompt=prompt, most=body.most, temperature=temperature, top_p=top_p)
        answer = await gateway.live.answer(request.state.principal, ask)
        chat = isinstance(body, ChatBody)
        form = Form(
            name=("chatcmpl-" if chat else "cmpl-") + secrets.token_hex(12),
            model=gateway.model,
            created=gateway.clock.now(),
            chat=chat,
        )
        text = TextStream(gateway.tokenizer.decode, body.stops)
        if body.stream:
            events = self._events(answer, form, text, len(prompt), usage=body.stream_options.include_usage)
            return _Stream(events, lambda: gateway.live.let_go(answer))
        return await self._whole(request, answer, form, text, len(prompt))

    async def _pieces(self, answer: Answer, text: TextStream) -> AsyncIterator[str]:
        """Return the answer's text as it becomes certain."""
        async for tokens in answer:
            if piece := text.push(tokens):
                yield piece
            if text.stopped:
                return
        if answer.end is Code.FAILED:
            raise FieldRefusedError("prompt", "the model can't take this prompt")
        if rest := text.finish():
            yield rest

    async def _whole(self, request: Request, answer: Answer, form: Form, text: TextStream, prompt: int) -> Response:
        async def collect() -> str:
            return "".join([piece async for piece in self._pieces(answer, text)])

        collecting, leaving = asyncio.ensure_future(collect()), asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                raise ClientDisconnect
            said = await collecting
        finally:
            self._gateway.live.let_go(answer)
            for task in (collecting, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, StrongroomError):
                    await task
        reason = answers.finish_reason(answer.end, stopped=text.stopped)
        return JSONResponse(form.whole(said, reason, prompt=prompt, tokens=text.tokens))

    async def _events(
        self, answer: Answer, form: Form, text: TextStream, prompt: int, *, usage: bool
    ) -> AsyncIterator[bytes]:
        try:
            if first := form.opening():
                yield first
            async for piece in self._pieces(answer, text):
                yield form.piece(piece)
        except StrongroomError as error:
            # The status was sent long ago: the official client raises what such an event says.
            yield answers.event(answers.problem(error))
            return
        yield form.closing(answers.finish_reason(answer.end, stopped=text.stopped))
        if usage:
            yield form.usage(prompt=prompt, tokens=text.tokens)
        yield answers.DONE


class _Stream(StreamingResponse):
    """Events, and what is to be done when they end, in whichever way: also where nobody read the first one."""

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"cache-control": "no-store"})
        self._ended = ended

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        try:
            await super().__call__(scope, receive, send)  # type: ignore[arg-type]  # ASGI's own types
        finally:
            self._ended()


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise MalformedError(f"a request's body has at most {MAX_BODY} bytes")
    return bytes(data)


async def _left(request: Request) -> None:
    """Return when the client has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
