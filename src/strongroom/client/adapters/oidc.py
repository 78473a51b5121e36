"""The identity provider, from a person's machine: in a browser (RFC 8252), or by a code typed elsewhere (RFC 8628).

The flows are Authlib's, on its client over httpx2. This program is a public client: a secret that every copy of it
carried would protect nothing (RFC 8252 section 8.5), so PKCE does. The deployment names the issuer and nothing more;
where its endpoints are, this machine asks the issuer itself, so a broker in other hands can't send people elsewhere.
"""

from __future__ import annotations

import http.server
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

import httpx2

from strongroom.client.login import LoginFailedError, ProviderTold
from strongroom.core.canonical import Json, parse
from strongroom.core.errors import MalformedError, UnavailableError, UsageError
from strongroom.core.extras import need
from strongroom.core.printable import printable
from strongroom.ipc.adapters.outside import believing

CALLBACK: Final = "/callback"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
MAX_ANSWER: Final = 1 << 18
CALL_SECONDS: Final = 15.0
MAX_FIELDS: Final = 16
PERSON_SECONDS: Final = 300.0
"""How long the person may take."""
SLOWER: Final = 5
"""Seconds that `slow_down` adds to the interval (RFC 8628 section 3.5)."""
_DONE: Final = b"<!doctype html><title>Strongroom</title><p>Logged in at the provider. You may close this window."
_Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a provider's endpoints are. ``device`` is empty where it has none."""

    issuer: str
    authorization: str
    token: str
    device: str
    names_itself: bool
    """Whether it promises to name itself in its answer (RFC 9207)."""
    secret_in_body: bool


class OidcClient:
    """One login at one provider. A context manager.

    ``secret`` is for providers that insist on one for installed programs; ``authority`` is a file of certificate
    authorities to believe instead of the system's.
    """

    def __init__(self, provider: ProviderTold, *, secret: str | None, authority: Path | None) -> None:
        self._provider = provider
        self._endpoints: Endpoints | None = None
        context = _tls(authority)
        client = need("authlib.integrations.httpx_client", extra="oidc")
        self._refused = client.OAuthError
        self._client = client.OAuth2Client(
            client_id=provider.client_id,
            client_secret=secret,
            scope=" ".join(provider.scopes),
            code_challenge_method="S256",
            transport=_Careful(verify=context, trust_env=False),
            trust_env=False,
            follow_redirects=False,
            timeout=CALL_SECONDS,
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.close()

    def discover(self) -> Endpoints:
        """Ask the issuer where its endpoints are (OpenID Connect Discovery 1.0 section 4).

        :raises UnavailableError: no answer. :raises LoginFailedError: it is another issuer's.
        """
        url = self._provider.issuer.rstrip("/") + "/.well-known/openid-configuration"
        told = self._object(lambda: self._client.request("GET", url, withhold_token=True))
        if told.get("issuer") != self._provider.issuer:
            raise LoginFailedError("the provider's configuration is another issuer's")
        methods = told.get("token_endpoint_auth_methods_supported")
        return Endpoints(
            issuer=self._provider.issuer,
            authorization=_https(told, "authorization_endpoint"),
            token=_https(told, "token_endpoint"),
            device=_https(told, "device_authorization_endpoint") if "device_authorization_endpoint" in told else "",
            names_itself=told.get("authorization_response_iss_parameter_supported") is True,
            secret_in_body=isinstance(methods, list) and "client_secret_basic" not in methods,
        )

    def by_browser(self, nonce: str, *, show: _Show, verifier: str, state: str, port: int = 0) -> str:
        """Let the person log in in a browser on this machine; returns the ID token.

        ``show`` is given the address to open. ``verifier`` and ``state`` are random, 43 to 128 characters each (RFC
        7636 section 4.1). ``port`` 0 takes a free one, as providers must allow (RFC 8252 section 7.3).

        :raises LoginFailedError: the person or the provider refused, or nobody came back in time.
        """
        with _Receiver(port, state) as receiver:
            redirect = f"http://127.0.0.1:{receiver.server_port}{CALLBACK}"
            show(self.address(nonce, verifier=verifier, state=state, redirect=redirect))
            query = receiver.wait(PERSON_SECONDS)
        return self.redeem(query, verifier=verifier, state=state, redirect=redirect)

    def address(self, nonce: str, *, verifier: str, state: str, redirect: str) -> str:
        """Return where the person logs in; the provider sends their browser to ``redirect`` afterwards.

        :raises UnavailableError: no answer. :raises LoginFailedError: its configuration is another issuer's.
        """
        address, _state = self._client.create_authorization_url(
            self._found().authorization, state=state, code_verifier=verifier, nonce=nonce, redirect_uri=redirect
        )
        return str(address)

    def redeem(self, query: str, *, verifier: str, state: str, redirect: str) -> str:
        """Return the ID token for what the browser came back with: the query of its address.

        :raises LoginFailedError: the person or the provider refused, or it is the answer to another login.
        """
        # What was made up asks nobody anything.
        values = _answer(query, state)
        found = self._found()
        _check_issuer(values, found)
        back = f"{redirect}?{query}"
        return self._token(
            found, authorization_response=back, state=state, code_verifier=verifier, redirect_uri=redirect
        )

    def by_device(self, nonce: str, *, show: Callable[[str, str], None]) -> str:
        """Let the person log in on another device; returns the ID token.

        ``show`` is given the address and the code to type there. The provider must put the ``nonce`` of the request
        into the ID token; where it doesn't, the deployment refuses it.

        :raises LoginFailedError: the person or the provider refused, or the code expired.
        """
        found = self._found()
        if not found.device:
            raise LoginFailedError(
                "the provider has no device authorization grant", remedy="log in with --no-browser instead"
            )
        asked = {"client_id": self._provider.client_id, "scope": " ".join(self._provider.scopes), "nonce": nonce}
        told = self._object(lambda: self._client.request("POST", found.device, data=asked, withhold_token=True))
        code, interval = _text(told, "device_code"), _seconds(told, "interval", 5)
        show(_https(told, "verification_uri"), printable(_text(told, "user_code")))
        ends = time.monotonic() + min(_seconds(told, "expires_in", 0), PERSON_SECONDS)
        while time.monotonic() < ends:
            time.sleep(interval)
            try:
                return self._token(found, grant_type=DEVICE_GRANT, device_code=code)
            except _StillWaitingError as waiting:
                interval += waiting.slower
        raise LoginFailedError("nobody logged in in time", remedy="try again")

    def _found(self) -> Endpoints:
        # Asked once: the answer is redeemed where the person was sent from, whatever the issuer says by then.
        if self._endpoints is None:
            self._endpoints = self.discover()
        return self._endpoints

    def _token(self, found: Endpoints, **asked: str) -> str:
        if found.secret_in_body and self._client.client_secret:
            self._client.token_endpoint_auth_method = "client_secret_post"  # noqa: S105 - a method's name
        try:
            token = self._call(lambda: self._client.fetch_token(found.token, **asked))
        except self._refused as error:
            if error.error in {"authorization_pending", "slow_down"}:
                raise _StillWaitingError(SLOWER if error.error == "slow_down" else 0) from None
            raise _refusal(error.error) from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # Authlib reads answers into dictionaries; whatever a strange one breaks ends here.
            raise LoginFailedError(f"the provider's answer can't be read ({type(error).__name__})") from None
        return _text(token, "id_token")

    def _object(self, call: Callable[[], Any]) -> dict[str, Json]:
        answer = self._call(call)
        told = parse(answer.content, max_bytes=MAX_ANSWER)
        if answer.status_code != 200 or not isinstance(told, dict):
            raise LoginFailedError(f"the provider answered with status {answer.status_code}")
        return told

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise UnavailableError(
                f"the identity provider `{printable(self._provider.issuer)}` doesn't answer ({type(error).__name__})"
            ) from None


class _StillWaitingError(LoginFailedError):
    """The person hasn't logged in yet."""

    code = "login-pending"

    def __init__(self, slower: int) -> None:
        super().__init__("the person hasn't logged in yet")
        self.slower = slower


class _Receiver(http.server.HTTPServer):
    """Waits on loopback for the browser to come back. Only the callback with our ``state`` counts; others are told no.

    A page elsewhere may make the browser call any port here: without the state it can neither log anybody in nor end
    the wait.
    """

    def __init__(self, port: int, state: str) -> None:
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError:
            raise UsageError(f"port {port} can't be listened on", remedy="leave out --port, or give another") from None
        self.state = state
        self.answer = ""

    def wait(self, seconds: float) -> str:
        """Return the query of the address that the browser came back to.

        :raises LoginFailedError: none in time.
        """
        ends = time.monotonic() + seconds
        while not self.answer:
            self.timeout = ends - time.monotonic()
            if self.timeout <= 0:
                raise LoginFailedError("nobody logged in in time", remedy="try again")
            self.handle_request()
        return self.answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over what broke in one connection: the browser tries again, and others don't matter."""


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 5.0
    server: _Receiver

    def do_GET(self) -> None:
        """Take the answer."""
        parts = urlsplit(self.path)
        values = parse_qs(parts.query, max_num_fields=MAX_FIELDS)
        ours = parts.path == CALLBACK and values.get("state") == [self.server.state]
        if ours:
            self.server.answer = parts.query
        self.send_response(200 if ours else 404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(_DONE if ours else b"")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log nothing: the address holds the code."""


class _Careful(httpx2.HTTPTransport):
    """Calls HTTPS alone, and reads no more of an answer than there should be."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make one call."""
        if request.url.scheme != "https":
            raise httpx2.UnsupportedProtocol("only https")
        answer = super().handle_request(request)
        if answer.headers.get("content-encoding", "identity") != "identity":
            # Unpacking could turn a small answer into a huge one.
            raise httpx2.RemoteProtocolError("an encoded answer")
        return httpx2.Response(
            status_code=answer.status_code,
            headers=answer.headers,
            stream=_Bounded(answer),
            extensions=answer.extensions,
        )


class _Bounded(httpx2.SyncByteStream):
    def __init__(self, answer: httpx2.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._answer.iter_raw():
            size += len(chunk)
            if size > MAX_ANSWER:
                raise httpx2.RemoteProtocolError("an answer that is too long")
            yield chunk

    def close(self) -> None:
        self._answer.close()


def _answer(query: str, state: str) -> Mapping[str, list[str]]:
    try:
        values = parse_qs(query, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise LoginFailedError(f"the answer has more than {MAX_FIELDS} fields") from None
    if values.get("state") != [state]:
        raise LoginFailedError("the answer is one to another login")
    if "error" in values:
        raise _refusal(values["error"][0])
    return values


def _check_issuer(values: Mapping[str, list[str]], found: Endpoints) -> None:
    named = values.get("iss")
    if named != [found.issuer] and (named is not None or found.names_itself):
        # Mixed-up providers (RFC 9207): a code of one would be handed to the other.
        raise LoginFailedError("the answer comes from another provider")


def _refusal(code: str) -> LoginFailedError:
    # OAuth's error codes are short words; anything else isn't shown.
    shown = code if code.isascii() and code.replace("_", "").isalnum() and len(code) <= 64 else "unknown"
    return LoginFailedError(f"the provider refused: `{shown}`", remedy="try again, or ask who runs the provider")


def _text(told: Mapping[str, Any], name: str) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise LoginFailedError(f"the provider's answer has no `{name}`")
    return value


def _https(told: Mapping[str, Json], name: str) -> str:
    value = _text(told, name)
    if not value.startswith("https://") or not value.isascii() or not value.isprintable() or " " in value:
        raise LoginFailedError(f"the provider's `{name}` isn't an address that begins with `https://`")
    return value


def _seconds(told: Mapping[str, Json], name: str, default: int) -> int:
    value = told.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 3600:
        raise MalformedError(f"the provider's `{name}` isn't a number of seconds")
    return value


def _tls(authority: Path | None) -> ssl.SSLContext:
    try:
        return believing(file=authority)
    except OSError:
        raise UsageError("the file of the provider's certificate authority can't be read") from None
