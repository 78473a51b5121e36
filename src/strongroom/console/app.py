"""The console as an ASGI application: who is it, may this form be believed, which page, and what goes with it."""

from __future__ import annotations

import asyncio
import json
import re
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final, TypeVar, TypeVarTuple
from urllib.parse import quote, urlsplit

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.console.beside import Beside
from strongroom.console.door import PENDING_COOKIE, PENDING_SECONDS, SESSION_COOKIE, Client, Door, SignedIn
from strongroom.console.errors import FormError, NoPageError, TooManyVisitsError
from strongroom.console.forms import MAX_FORM, check_origin, check_token, need_fields, read_form
from strongroom.console.headers import HEADERS
from strongroom.console.log_reader import LogReader
from strongroom.console.rendering import Renderer, twin
from strongroom.console.routes import ACTS, FILES, PAGES
from strongroom.console.signing_in import Reception
from strongroom.console.visits import File, GoTo, Handler, Page, Visit
from strongroom.core.buckets import Buckets, Rate, share_of
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, StrongroomError, UnavailableError
from strongroom.core.ids import person_id

SIGN_IN: Final = "/sign-in"
HOME: Final = "/today"
MAX_AGENT: Final = 512
STATIC: Final = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8"}
_OURS: Final = frozenset(f"/static/{name}" for name in STATIC)
BODY_SECONDS: Final = 10.0
"""How long a form may take to arrive: nobody holds a place by dripping bytes."""
SIGN_INS: Final = 8
"""Sign-ins that the deployment or a provider is asked about at once: strangers take no thread from who is inside."""
_JSON: Final = ".json"
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class FaultError(UnavailableError):
    """A fault of the console's own; what was being shown is nowhere in it."""

    code = "console-fault"
    http_status = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the application is made of. ``origin`` is its only address: https, host and port."""

    origin: str
    reception: Reception
    door: Door
    monotonic: Callable[[], float]
    reader: LogReader
    beside: Beside = field(default_factory=Beside)
    note: Callable[[str, Mapping[str, Json]], None]
    """Writes what happens to the program's log: an event, and facts that are no secrets."""
    visits: Rate = field(default_factory=lambda: Rate(per_second=5.0, burst=60))
    """Of one person, however many sessions they have; and of one address that isn't signed in."""
    beginnings: Rate = field(default_factory=lambda: Rate(per_second=0.5, burst=60))
    """Of sign-ins, from one address. Each asks the broker twice, which counts all of them as this console's calls: few
    addresses must not use up what everybody else's sign-ins need."""


def make_app(console: Console) -> ASGIApp:
    """Return the application."""
    desk = _Desk(console)
    routes = [
        Route("/", desk.plain(_home)),
        Route(SIGN_IN, desk.plain(desk.ask_who), methods=["GET"]),
        Route(SIGN_IN, desk.plain(desk.begin), methods=["POST"]),
        Route(f"{SIGN_IN}/key", desk.plain(desk.ask_key), methods=["GET"]),
        Route(f"{SIGN_IN}/key", desk.plain(desk.enter), methods=["POST"]),
        Route(f"{SIGN_IN}/provider", desk.plain(desk.ask_provider), methods=["GET"]),
        Route(f"{SIGN_IN}/back", desk.plain(desk.come_back), methods=["GET"]),
        Route("/sign-out", desk.plain(desk.leave), methods=["POST"]),
        *(Route(f"/static/{name}", desk.plain(_static(name, kind))) for name, kind in STATIC.items()),
        # The twins first: else a page's own address would take `.json` for a part of a name.
        *(Route(path + end, desk.inside(handler), methods=["GET"]) for end in (_JSON, "") for path, handler in PAGES),
        *(Route(path, desk.inside(handler), methods=["GET"]) for path, handler in FILES),
        *(Route(path, desk.inside(handler), methods=["POST"]) for path, handler in ACTS),
    ]
    app = Starlette(routes=routes, exception_handlers={404: desk.nothing_there, 405: desk.nothing_there})
    app.router.redirect_slashes = False
    return _Guarded(app, urlsplit(console.origin).netloc)


class _Guarded:
    """Refuses other host names, and puts the headers on every answer, faults included."""

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._host = host.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                ours = [(name.encode(), value.encode()) for name, value in HEADERS]
                message["headers"] = [*message.get("headers", []), *ours]
            await send(message)

        # A page that another name resolves to would be of another origin, with our cookies' host (DNS rebinding).
        if [value for name, value in scope["headers"] if name == b"host"] != [self._host]:
            await Response("not served under that name", 421, media_type="text/plain")(scope, receive, dressed)
            return
        await self._app(scope, receive, dressed)


Plain = Callable[[Request], Awaitable[Response]]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _Desk:
    """The endpoints."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._door = console.door
        self._reception = console.reception
        self._render = Renderer()
        self._buckets, self._beginnings = Buckets(console.visits), Buckets(console.beginnings)
        self._nothing = self.plain(self._no_page)
        self._sign_ins = anyio.CapacityLimiter(SIGN_INS)

    # --- coming in --------------------------------------------------------------------------------------------------

    async def ask_who(self, request: Request) -> Response:
        """Show the first page: who are you?"""
        return self._html(Page("sign-in.html", "Sign in", {"next": _next(request.query_params.get("next", ""))}))

    async def begin(self, request: Request) -> Response:
        """Take a name, and go on to that person's key."""
        form = await self._form(request)
        need_fields(form, ("person", "next"))
        try:
            person = person_id(form["person"].strip().lower())
        except MalformedError:
            raise FormError(
                "that isn't a person's id", remedy="it is the name that the roster has, e.g. dana"
            ) from None
        if self._beginnings.wait(share_of(_client(request).address), self._console.monotonic()):
            raise TooManyVisitsError("too many sign-ins were begun from your network", remedy="wait a few seconds")
        pending = await self._at_desk(self._reception.begin, person, _client(request))
        step = "key" if pending.ready else "provider"
        answer = _to(f"{SIGN_IN}/{step}?next={quote(_next(form['next']))}")
        _set_cookie(answer, PENDING_COOKIE, self._door.begin(pending), PENDING_SECONDS)
        return answer

    async def ask_provider(self, request: Request) -> Response:
        """Show the way to the identity provider: a link, because a form's way may not lead out of here."""
        pending = self._door.pending(request.cookies.get(PENDING_COOKIE, ""), _client(request))
        if pending.errand is None:
            return _to(f"{SIGN_IN}/key")
        told = {"issuer": pending.errand.provider.issuer, "address": pending.errand.address, "person": pending.person}
        return self._html(Page("sign-in-provider.html", "Sign in at the provider", told))

    async def come_back(self, request: Request) -> Response:
        """Take the browser back from the provider.

        A visit that another site sends here brings no strict cookie: a page of ours sends it on, once; then it does.
        """
        token, query = request.cookies.get(PENDING_COOKIE), request.url.query
        if token is None and "again" not in request.query_params:
            again = f"{SIGN_IN}/back?{query}&again=1"
            return self._html(Page("sign-in-back.html", "Back from the provider", {"again": again}))
        pending = self._door.pending(token or "", _client(request))
        further = await self._at_desk(self._reception.came_back, pending, query.removesuffix("&again=1"))
        self._door.go_on(token or "", further)
        return _to(f"{SIGN_IN}/key")

    async def ask_key(self, request: Request) -> Response:
        """Show what is signed, and have it signed."""
        pending = self._door.pending(request.cookies.get(PENDING_COOKIE, ""), _client(request))
        if not pending.ready:
            return _to(f"{SIGN_IN}/provider")
        data: dict[str, Json] = {
            "person": pending.person,
            "next": _next(request.query_params.get("next", "")),
            "sign": self._reception.to_sign(pending),
        }
        return self._html(Page("sign-in-key.html", "Sign in with your security key", data))

    async def enter(self, request: Request) -> Response:
        """Take the signature, and let the person in."""
        form = await self._form(request)
        pending = self._door.take(request.cookies.get(PENDING_COOKIE, ""), _client(request))
        try:
            me = await self._at_desk(self._reception.enter, pending, form)
        except StrongroomError as error:
            facts: dict[str, Json] = {"person": pending.person, "address": pending.client.address, "why": error.code}
            self._console.note("sign-in refused", facts)
            raise
        before = request.cookies.get(SESSION_COOKIE)
        if before is not None:
            self._door.leave(before)
        answer = _to(_next(form.get("next", "")))
        answer.delete_cookie(PENDING_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        _set_cookie(answer, SESSION_COOKIE, self._door.enter(me), None)
        self._console.note("signed in", {"person": me.person})
        return answer

    async def leave(self, request: Request) -> Response:
        """End the session."""
        form = await self._form(request)
        me = self._me(request)
        if me is not None:
            check_token(me.form_secret, "/sign-out", form)
            self._door.leave(request.cookies[SESSION_COOKIE])
        answer = _to(SIGN_IN)
        answer.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="strict")
        # Not "cookies": that would be those of every host below the same domain.
        answer.headers["clear-site-data"] = '"cache", "storage"'
        return answer

    # --- inside -----------------------------------------------------------------------------------------------------

    def inside(self, handler: Handler) -> Plain:
        """Return the endpoint of a page or an act: for who is signed in."""

        async def serve(request: Request) -> Response:
            me = self._me(request)
            if me is None:
                wanted = request.url.path if request.method == "GET" else ""
                return _to(f"{SIGN_IN}?next={quote(_next(wanted))}")
            form: Mapping[str, str] = {}
            if request.method == "POST":
                form = await self._form(request)
                check_token(me.form_secret, request.url.path, form)
            if not request.url.path.endswith(_JSON):
                # Not the twins: a page that is left open asks for its own by itself.
                self._door.visited(me)
            visit = Visit(
                me=me,
                origin=self._console.origin,
                path=request.path_params,
                query=dict(request.query_params),
                form=form,
                now=self._reception.clock.now(),
                random_bytes=self._reception.random_bytes,
                beside=self._console.beside,
                reader=self._console.reader,
            )
            async with me.turn:
                return await run_in_threadpool(self._served, handler, visit, request.url.path)

        return self.plain(serve)

    def _served(self, handler: Handler, visit: Visit, path: str) -> Response:
        try:
            found = handler(visit)
        except StrongroomError as error:
            return self._refused(error, visit=visit, as_json=path.endswith(_JSON))
        if isinstance(found, GoTo):
            return _to(found.path)
        if isinstance(found, File):
            return _to_keep(found)
        if path.endswith(_JSON):
            return Response(twin(found, visit.chrome()), media_type="application/json")
        return self._html(found, visit=visit)

    def plain(self, endpoint: Plain) -> Plain:
        """Return an endpoint whose refusals are pages, and whose faults are too."""

        async def serve(request: Request) -> Response:
            as_json = request.url.path.endswith(_JSON)
            try:
                self._count(request)
                return await endpoint(request)
            except StrongroomError as error:
                return self._refused(error, as_json=as_json)
            except Exception as error:  # noqa: BLE001 - the message may hold what was sent: only its kind is noted
                self._console.note("fault", {"error": type(error).__name__, "places": [*_places(error)]})
                return self._refused(FaultError("the console failed"), as_json=as_json)

        return serve

    async def nothing_there(self, request: Request, _error: Exception) -> Response:
        """Answer for an address where nothing is."""
        return await self._nothing(request)

    async def _no_page(self, _request: Request) -> Response:
        raise NoPageError("nothing is at that address")

    # --- parts ------------------------------------------------------------------------------------------------------

    def _me(self, request: Request) -> SignedIn | None:
        token = request.cookies.get(SESSION_COOKIE)
        return None if token is None else self._door.find(token, _client(request))

    def _count(self, request: Request) -> None:
        """Count a visit. Not the two files of ours that each page brings, of who is signed in: their pages are."""
        me = self._me(request)
        if me is not None and request.url.path in _OURS:
            return
        name = f"address {share_of(_client(request).address)}" if me is None else f"person {me.person}"
        if self._buckets.wait(name, self._console.monotonic()):
            raise TooManyVisitsError("too many visits", remedy="wait a few seconds")

    async def _at_desk(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        try:
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._sign_ins)
        except UnavailableError as error:
            # Strangers read this, and the message may name an address inside.
            self._console.note("no answer", {"why": error.message})
            raise UnavailableError(
                "the deployment, or its identity provider, doesn't answer",
                remedy="try again; whoever runs the console finds the cause in its log",
            ) from None

    async def _form(self, request: Request) -> dict[str, str]:
        check_origin(request.headers, self._console.origin)
        data = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > MAX_FORM:
                        break
        except TimeoutError:
            raise FormError("the form took too long to arrive") from None
        return read_form(bytes(data), request.headers.get("content-type", ""))

    def _html(self, page: Page, *, visit: Visit | None = None, status: int = 200) -> Response:
        secret = None if visit is None else visit.me.form_secret
        chrome = None if visit is None else visit.chrome()
        return HTMLResponse(
            self._render.page(page, chrome=chrome, secret=secret, now=self._reception.clock.now()), status
        )

    def _refused(self, error: StrongroomError, *, as_json: bool, visit: Visit | None = None) -> Response:
        if as_json:
            return Response(json.dumps(error.problem()), error.http_status, media_type="application/problem+json")
        page = Page("refused.html", "Refused", {**error.problem(), "inside": visit is not None})
        # What stands around the page may be what failed.
        around = visit if visit is not None and visit.verified is not None else None
        return self._html(page, visit=around, status=error.http_status)


def _places(error: BaseException) -> list[str]:
    """Return where a fault arose: files and lines, nothing of what they held."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]


async def _home(_request: Request) -> Response:
    return _to(HOME)


def _static(name: str, kind: str) -> Plain:
    data = files("strongroom.console").joinpath("static", name).read_bytes()

    async def serve(_request: Request) -> Response:
        return Response(data, media_type=kind)

    return serve


def _client(request: Request) -> Client:
    address = request.client.host if request.client is not None else ""
    return Client(address=address, agent=request.headers.get("user-agent", "")[:MAX_AGENT])


def _next(wanted: str) -> str:
    """Return where to go after a sign-in: an address of ours, or the first page. Never somebody else's."""
    known = {path.split("/")[1] for path, _handler in PAGES}
    parts = wanted.split("/")
    plain = len(parts) > 1 and not parts[0] and parts[1] in known
    return wanted if plain and wanted.isascii() and wanted.replace("/", "").replace("-", "").isalnum() else HOME


def _to(path: str) -> RedirectResponse:
    return RedirectResponse(path, 303)


def _to_keep(file: File) -> Response:
    if not _FILE_NAME.fullmatch(file.name):
        raise FaultError("a file's name is made of letters, digits and separators")
    headers = {"content-disposition": f'attachment; filename="{file.name}"'}
    return Response(file.data, media_type=file.media_type, headers=headers)


def _set_cookie(answer: Response, name: str, value: str, seconds: int | None) -> None:
    answer.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="strict")
