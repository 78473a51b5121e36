"""``strongroom login`` and ``logout``: a session for some hours, by the identity provider and one's own key."""

from __future__ import annotations

import secrets
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from strongroom.cli.output import show
from strongroom.cli.session import as_wallet, json_option, open_wallet, passphrase_option, read_file
from strongroom.client.adapters.http import HttpTransport, one_sided_tls
from strongroom.client.adapters.oidc import OidcClient
from strongroom.client.adapters.session_files import (
    LoginPlace,
    forget_session,
    login_place,
    new_session,
    remember_place,
)
from strongroom.client.adapters.wallet_folder import TLS_AUTHORITY, WalletFolder
from strongroom.client.login import LoginApi, LoginFailedError, ProviderTold, open_session
from strongroom.core.canonical import Json
from strongroom.core.clock import SystemClock, format_instant
from strongroom.core.errors import UsageError
from strongroom.core.printable import printable

MAX_SECRET: Final = 4096
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@dataclass(slots=True)
class _Asking:
    """How the person is asked to log in at the provider, and which issuer it must be."""

    issuer: str
    device: bool
    browser: bool
    port: int
    authority: Path | None
    secret: str | None

    def __call__(self, provider: ProviderTold, nonce: str) -> str:
        if self.issuer and provider.issuer != self.issuer:
            # A broker in other hands could name a provider that looks the same, to collect passwords.
            raise LoginFailedError(
                f"the deployment names the issuer `{printable(provider.issuer)}`, not `{self.issuer}`",
                remedy="ask, by another way, whether the provider changed; then give the new one with --issuer",
            )
        self.issuer = provider.issuer
        with OidcClient(provider, secret=self.secret, authority=self.authority) as client:
            if self.device:
                return client.by_device(nonce, show=_show_code)
            verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
            return client.by_browser(nonce, show=self._open, verifier=verifier, state=state, port=self.port)

    def _open(self, address: str) -> None:
        click.echo(f"Log in here, in a browser on this machine:\n{printable(address)}", err=True)
        if self.browser:
            webbrowser.open(address)


@click.command("login")
@click.option("--url", help="Address of the identity listener, https://...; remembered in the wallet.")
@click.option("--issuer", help="The identity provider that it must be; the first one seen is remembered.")
@click.option("--device", is_flag=True, help="Log in at the provider on another device, by a code.")
@click.option("--no-browser", is_flag=True, help="Show the address instead of opening a browser.")
@click.option("--port", type=int, default=0, help="Port for the browser to come back to; any free one by default.")
@click.option("--issuer-ca", type=_FILE, help="Certificate authorities (PEM) to believe the provider by.")
@click.option("--client-secret-file", type=_FILE, help="For providers that want a secret from installed programs.")
@passphrase_option
@as_wallet
@json_option
def login(
    url: str | None,
    issuer: str | None,
    port: int,
    issuer_ca: Path | None,
    client_secret_file: Path | None,
    passphrase_fd: int | None,
    wallet: Path,
    *,
    device: bool,
    no_browser: bool,
    as_json: bool,
) -> None:
    """Open a session: log in at the identity provider, then sign with your own key.

    The wallet must know the deployment: strongroom people pin. The session's key is made here and stays here; it ends
    by itself after some hours.
    """
    holder = open_wallet(wallet, passphrase_fd)
    holder.genesis()
    place = _place(holder, url, issuer)
    secret = read_file(client_secret_file, most=MAX_SECRET).decode().strip() if client_secret_file else None
    asking = _Asking(
        issuer=place.issuer,
        device=device,
        browser=not no_browser,
        port=port,
        authority=issuer_ca,
        secret=secret,
    )
    session = new_session(holder.identity.person)
    with HttpTransport(place.url, one_sided_tls(authority=holder.path / TLS_AUTHORITY)) as transport:
        opened = open_session(
            LoginApi(transport),
            holder,
            authority=holder.read(TLS_AUTHORITY),
            request=session.request,
            authenticate=asking,
            now=SystemClock().now(),
        )
    with holder.exclusive():
        holder.certify(key=session.key, certificate=opened.certificate)
        remember_place(holder, LoginPlace(url=place.url, issuer=asking.issuer))
    until = format_instant(opened.until)
    data: Json = {"person": holder.identity.person, "url": place.url, "issuer": asking.issuer, "until": until}
    show(data, f"`{holder.identity.person}` has a session until {until}", as_json=as_json)


@click.command("logout")
@as_wallet
@json_option
def logout(wallet: Path, *, as_json: bool) -> None:
    """Forget the session: its key and certificate are removed from the wallet."""
    holder = open_wallet(wallet)
    with holder.exclusive():
        found = forget_session(holder)
    show({"forgotten": found}, "the session is forgotten" if found else "there is no session", as_json=as_json)


def _place(holder: WalletFolder, url: str | None, issuer: str | None) -> LoginPlace:
    before = login_place(holder)
    chosen = url or (before.url if before else "")
    if not chosen.startswith("https://"):
        raise UsageError("where to log in isn't known", remedy="give --url https://..., the identity listener's")
    return LoginPlace(url=chosen, issuer=issuer or (before.issuer if before else ""))


def _show_code(address: str, code: str) -> None:
    click.echo(f"On another device, open {printable(address)} and enter {code}", err=True)
