"""The API over HTTP: five routes, each answering only to a known key, and nothing else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from strongroom.core.clock import Clock
from strongroom.core.errors import MalformedError, NotFoundError, StrongroomError
from strongroom.core.ids import ModelId
from strongroom.egress.bits import Output
from strongroom.egress.errors import OutputNotAllowedError
from strongroom.enclave.gateway import answers
from strongroom.enclave.gateway.adapters.live import Answer, LiveModel
from strongroom.enclave.gateway.adapters.screening import OutputScreen, Screening
from strongroom.enclave.gateway.adapters.tokenizer_files import PublicTokenizer
from strongroom.enclave.gateway.answers import Form
from strongroom.enclave.gateway.bodies import MAX_BODY, ChatBody, CompletionBody, EmbeddingBody, read
from strongroom.enclave.gateway.errors import EngineGoneError, FieldRefusedError
from strongroom.enclave.gateway.keys import ApiKeys
from strongroom.enclave.gateway.meter import Ask
from strongroom.enclave.gateway.telling import Tally
from strongroom.enclave.gateway.texts import TextStream
from strongroom.enclave.metered import MAX_PROMPT, Code, values_of

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """What the routes need."""

    live: LiveModel
    model: ModelId
    tokenizer: PublicTokenizer
    keys: ApiKeys
    clock: Clock
    screening: Screening
    tally: Tally
    """What the responder is told."""
    context: int
    """Tokens that prompt and answer may have together."""
    values: int
    """Numbers in a vector; 0 if no vectors leave the model."""


def application(gateway: Gateway) -> Starlette:
    """Return the application. Paths that aren't listed are 404, for everybody alike."""
    service = _Service(gateway)
    return Starlette(
        routes=[
            Route("/v1/models", _guarded(gateway, service.models), methods=["GET"]),
            Route("/v1/models/{name}", _guarded(gateway, service.one_model), methods=["GET"]),
            Route("/v1/completions", _guarded(gateway, service.completions), methods=["POST"]),
            Route("/v1/chat/completions", _guarded(gateway, service.chat), methods=["POST"]),
            Route("/v1/embeddings", _guarded(gateway, service.embeddings), methods=["POST"]),
        ]
    )


def _guarded(gateway: Gateway, handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        principal = ""
        try:
            principal = gateway.keys.principal(request.headers.get("authorization", ""))
            request.state.principal = principal
            return await handler(request)
        except StrongroomError as error:
            if principal:
                gateway.tally.refused(principal, error)
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
        return await self._answer(request, body, self._gateway.tokenizer.encode(body.prompt), body.prompt)

    async def chat(self, request: Request) -> Response:
        body = read(ChatBody, await _body(request))
        self._same(body.model)
        messages = [{"role": one.role, "content": one.text} for one in body.messages]
        text = "\n".join(f"{one.role}: {one.text}" for one in body.messages)
        return await self._answer(request, body, self._gateway.tokenizer.conversation(messages), text)

    async def embeddings(self, request: Request) -> Response:
        gateway, principal = self._gateway, request.state.principal
        body = read(EmbeddingBody, await _body(request))
        self._same(body.model)
        if not gateway.values:
            raise OutputNotAllowedError(f"the policy of `{gateway.model}` lets no vectors leave")
        prompts = [gateway.tokenizer.encode(text) for text in body.inputs]
        if any(not 1 <= len(prompt) <= gateway.context for prompt in prompts):
            raise FieldRefusedError("input", f"each text may have 1 to {gateway.context} tokens")
        await gateway.screening.admit(principal, "\n".join(body.inputs))
        asks = [Ask(prompt=prompt, most=gateway.values, output=Output.VALUES) for prompt in prompts]
        vectors = await _while_there(request, self._vectors(principal, asks))
        read_tokens = sum(map(len, prompts))
        return JSONResponse(answers.embeddings(gateway.model, vectors, body.encoding_format, prompt=read_tokens))

    async def _vectors(self, principal: str, asks: list[Ask]) -> list[tuple[float, ...]]:
        live, begun = self._gateway.live, []
        try:
            # Where a limit has no room for the last, the request is refused. What was begun by then may have crossed.
            for ask in asks:
                begun.append(await live.answer(principal, ask))  # noqa: PERF401 - what was begun must be let go
            return [await _vector(answer) for answer in begun]
        finally:
            for answer in begun:
                live.let_go(answer)

    def _same(self, name: str) -> None:
        if name != self._gateway.model:
            raise NotFoundError("that model isn't served here", reason="model_not_found")

    async def _answer(
        self, request: Request, body: CompletionBody | ChatBody, prompt: tuple[int, ...], said: str
    ) -> Response:
        gateway = self._gateway
        if not prompt or len(prompt) > MAX_PROMPT or len(prompt) + body.most > gateway.context:
            raise FieldRefusedError(
                "messages" if isinstance(body, ChatBody) else "prompt",
                f"prompt and answer may have {gateway.context} tokens together, the prompt at least one",
            )
        await gateway.screening.admit(request.state.principal, said)
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
        principal = request.state.principal
        counted = partial(gateway.tally.used, principal)
        pieces = _screened(_pieces(answer, text, counted), gateway.screening.output(principal))
        if body.stream:
            events = self._events(pieces, answer, form, text, len(prompt), usage=body.stream_options.include_usage)
            return _Stream(events, lambda: gateway.live.let_go(answer))
        try:
            whole = await _while_there(request, _joined(pieces))
        finally:
            gateway.live.let_go(answer)
        reason = answers.finish_reason(answer.end, stopped=text.stopped)
        return JSONResponse(form.whole(whole, reason, prompt=len(prompt), tokens=text.tokens))

    async def _events(
        self, pieces: AsyncIterator[str], answer: Answer, form: Form, text: TextStream, prompt: int, *, usage: bool
    ) -> AsyncIterator[bytes]:
        try:
            if first := form.opening():
                yield first
            async for piece in pieces:
                yield form.piece(piece)
        except StrongroomError as error:
            # The status was sent long ago: the official client raises what such an event says.
            yield answers.event(answers.problem(error))
            return
        yield form.closing(answers.finish_reason(answer.end, stopped=text.stopped))
        if usage:
            yield form.usage(prompt=prompt, tokens=text.tokens)
        yield answers.DONE


async def _pieces(answer: Answer, text: TextStream, counted: Callable[[int], None]) -> AsyncIterator[str]:
    """Return an answer's text as it becomes certain; ``counted`` is told how many tokens came."""
    async for tokens in answer:
        counted(len(tokens))
        if piece := text.push(tokens):
            yield piece
        if text.stopped:
            return
    if answer.end is Code.FAILED:
        raise FieldRefusedError("prompt", "the model can't take this prompt")
    if rest := text.finish():
        yield rest


async def _screened(pieces: AsyncIterator[str], screen: OutputScreen) -> AsyncIterator[str]:
    """Return text once it is allowed: nothing of it is sent, whole or in events, before that."""
    async for piece in pieces:
        if allowed := await screen.push(piece):
            yield allowed
    if rest := await screen.finish():
        yield rest


async def _joined(pieces: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in pieces])


async def _vector(answer: Answer) -> tuple[float, ...]:
    halves = [half async for some in answer for half in some]
    if answer.end is Code.FAILED:
        raise FieldRefusedError("input", "the model can't take this text")
    if answer.end is not Code.LENGTH:
        raise EngineGoneError("the engine took too long")
    return values_of(halves)


async def _while_there(request: Request, work: Coroutine[object, object, T]) -> T:
    """Return what comes of the work, or end it when the client goes away."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return await working
    finally:
        for task in (working, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, StrongroomError):
                await task


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
