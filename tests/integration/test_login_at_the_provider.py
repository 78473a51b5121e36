"""A person logs in at a real provider, by browser and by device, with the real client and the real broker."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from simulators.oidc_provider import Mode, OidcProvider
from strongroom.broker.login import MAX_TOKEN
from strongroom.client.adapters.oidc import Endpoints, OidcClient
from strongroom.client.adapters.wallet_folder import WalletFolder
from strongroom.client.login import LoginFailedError, ProviderTold
from strongroom.core.errors import DeniedError, StrongroomError, UnavailableError
from support.brokers import RunningBroker, broker
from support.forked import completed
from support.identity import adopt, log_in, session_caller, wallet
from support.logins import SAM, listed

pytestmark = pytest.mark.integration
STATE, VERIFIER = "s" * 64, "v" * 64


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with OidcProvider(tmp_path_factory.mktemp("provider")) as started:
        yield started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[RunningBroker]:
    home = tmp_path_factory.mktemp("home")
    (home / "broker").mkdir(mode=0o700)
    settings = [
        f'issuer = "{provider.issuer}"',
        'client_id = "strongroom"',
        f'authority_file = "{provider.authority_file}"',
    ]
    (home / "broker" / "oidc.toml").write_text("\n".join(settings))
    with broker(home, identity=True) as started:
        yield started


@pytest.fixture(scope="module")
def dana(running: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> WalletFolder:
    holder = wallet(running, tmp_path_factory.mktemp("wallets") / "dana")
    dana, sam = listed("dana", SAM), listed("sam", SAM)
    adopt(running, [replace(dana, keys=(holder.identity.key,)), sam])
    return holder


@pytest.fixture(autouse=True)
def good(provider: OidcProvider) -> Iterator[None]:
    yield
    provider.mode, provider.approved, provider.person = Mode.GOOD, True, "dana"
    provider.names_itself, provider.secret, provider.polls = True, "", 0


def visiting(provider: OidcProvider) -> Callable[[str], None]:
    """Return what opens an address as the person's browser does, beside the client that waits for it."""

    def visit(address: str) -> None:
        threading.Thread(target=provider.visit, args=(address,), daemon=True).start()

    return visit


def told(provider: OidcProvider) -> ProviderTold:
    return ProviderTold(issuer=provider.issuer, client_id="strongroom", scopes=("openid", "profile"))


def client(provider: OidcProvider, *, secret: str | None = None) -> OidcClient:
    return OidcClient(told(provider), secret=secret, authority=provider.authority_file)


def by_browser(provider: OidcProvider) -> Callable[[ProviderTold, str], str]:
    def authenticate(_told: ProviderTold, nonce: str) -> str:
        with client(provider) as one:
            return one.by_browser(nonce, show=visiting(provider), verifier=VERIFIER, state=STATE)

    return authenticate


def test_a_login_by_browser_opens_a_session(running: RunningBroker, provider: OidcProvider, dana: WalletFolder) -> None:
    log_in(running, dana, by_browser(provider))
    assert session_caller(running, dana).get("/v1/state").status == 200
    assert {"/authorize", "/token"} <= set(provider.calls)


def test_a_login_by_device_opens_a_session(running: RunningBroker, provider: OidcProvider, dana: WalletFolder) -> None:
    shown: list[tuple[str, str]] = []

    def authenticate(_told: ProviderTold, nonce: str) -> str:
        with client(provider) as one:
            return one.by_device(nonce, show=lambda address, code: shown.append((address, code)))

    log_in(running, dana, authenticate)
    assert shown == [(f"{provider.issuer}/activate", "WDJB-MJHT")]
    # Once too early, once more.
    assert provider.polls == 2


@pytest.mark.parametrize("mode", sorted(set(Mode) - {Mode.GOOD}))
def test_a_hostile_token_opens_nothing(
    running: RunningBroker, provider: OidcProvider, dana: WalletFolder, mode: Mode
) -> None:
    provider.mode = mode
    with pytest.raises(DeniedError) as caught:
        log_in(running, dana, by_browser(provider))
    assert caught.value.reason in {"login-token-refused", "login-other-person"}


def test_a_token_of_another_login_opens_nothing(
    running: RunningBroker, provider: OidcProvider, dana: WalletFolder
) -> None:
    kept: list[str] = []

    def first(provider_told: ProviderTold, nonce: str) -> str:
        kept.append(by_browser(provider)(provider_told, nonce))
        return kept[-1]

    log_in(running, dana, first)
    with pytest.raises(DeniedError) as caught:
        log_in(running, dana, lambda _told, _nonce: kept[0])
    assert caught.value.reason == "login-token-refused"


def test_the_provider_alone_opens_nothing(
    running: RunningBroker, provider: OidcProvider, dana: WalletFolder, tmp_path: Path
) -> None:
    assert dana.identity.person == "dana"
    with pytest.raises(DeniedError) as caught:
        log_in(running, wallet(running, tmp_path / "stolen", "dana"), by_browser(provider))
    assert caught.value.reason == "login-denied"


def test_a_token_that_is_too_long_is_refused(running: RunningBroker, dana: WalletFolder) -> None:
    with pytest.raises(StrongroomError):
        log_in(running, dana, lambda _told, _nonce: "x" * (MAX_TOKEN + 1))


def test_a_key_that_the_provider_changed_is_fetched_once_and_pinned(
    running: RunningBroker, provider: OidcProvider, dana: WalletFolder
) -> None:
    pin = running.home / "broker" / "oidc-pinned.json"
    before = json.loads(pin.read_bytes())
    assert pin.stat().st_mode & 0o077 == 0
    assert provider.calls.count("/.well-known/openid-configuration") >= 1
    old, fetched = provider.key, provider.calls.count("/jwks")
    provider.key = type(old).generate_key("P-256", {"kid": "second"})
    try:
        # Tokens with an unknown key came before this: whether the provider may be asked again depends on them.
        running.stop()
        running.start(identity=True)
        log_in(running, dana, by_browser(provider))
        assert provider.calls.count("/jwks") == fetched + 1
        assert json.loads(pin.read_bytes())["jwks"] != before["jwks"]
        provider.mode = Mode.UNKNOWN_KEY
        for _again in range(3):
            with pytest.raises(DeniedError):
                log_in(running, dana, by_browser(provider))
        assert provider.calls.count("/jwks") == fetched + 1
    finally:
        provider.key, provider.mode = old, Mode.GOOD
        pin.write_bytes(json.dumps(before).encode())
        running.stop()
        running.start(identity=True)


# --- the client's side ------------------------------------------------------------------------------------------------


def test_who_says_no_ends_the_login(provider: OidcProvider) -> None:
    provider.approved = False
    with client(provider) as one, pytest.raises(LoginFailedError, match="access_denied"):
        one.by_browser("n", show=visiting(provider), verifier=VERIFIER, state=STATE)
    with client(provider) as one, pytest.raises(LoginFailedError, match="access_denied"):
        one.by_device("n", show=lambda _address, _code: None)


def test_an_answer_with_another_state_is_not_ours(provider: OidcProvider) -> None:
    """A page elsewhere calls the waiting port: it is told no, and the login goes on."""
    stray: list[int] = []

    def show(address: str) -> None:
        port = re.search(r"127\.0\.0\.1%3A(\d+)%2Fcallback", address)
        assert port is not None

        def both() -> None:
            for path in ("/callback?code=evil&state=other", "/callback?code=evil", "/", "/callback?state=s&state=s"):
                connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=60)
                connection.request("GET", path)
                stray.append(connection.getresponse().status)
                connection.close()
            provider.visit(address)

        threading.Thread(target=both, daemon=True).start()

    with client(provider) as one:
        token = one.by_browser("n", show=show, verifier=VERIFIER, state=STATE)
    assert token.count(".") == 2
    assert stray == [404] * 4


def test_a_code_without_the_verifier_is_worth_nothing(provider: OidcProvider) -> None:
    with client(provider) as thief:
        found = thief.discover()
        address, _state = thief._client.create_authorization_url(
            found.authorization,
            state=STATE,
            code_verifier=VERIFIER,
            nonce="n",
            redirect_uri="http://127.0.0.1:1/callback",
        )
        with pytest.raises(Exception, match="refused"):
            # The browser finds nobody at the port, and the code stays in the address.
            provider.visit(str(address))
        code = next(iter(provider.codes))
        with pytest.raises(LoginFailedError, match="invalid_grant"):
            thief._token(
                found,
                grant_type="authorization_code",
                code=code,
                code_verifier="w" * 64,
                redirect_uri="http://127.0.0.1:1/callback",
            )


def pretending(one: OidcClient, found: Endpoints) -> OidcClient:
    """Return a client that discovered something else before."""
    one.discover = lambda: found  # type: ignore[method-assign]  # on purpose
    return one


def test_a_provider_that_promises_to_name_itself_must(provider: OidcProvider) -> None:
    with client(provider) as one:
        found = one.discover()
    assert found.names_itself
    provider.names_itself = False
    with client(provider) as again, pytest.raises(LoginFailedError, match="another provider"):
        pretending(again, found).by_browser("n", show=visiting(provider), verifier=VERIFIER, state=STATE)


def test_a_secret_is_sent_where_one_is_wanted(provider: OidcProvider) -> None:
    provider.secret = "not really one"
    with client(provider) as one, pytest.raises(LoginFailedError, match="invalid_client"):
        one.by_browser("n", show=visiting(provider), verifier=VERIFIER, state=STATE)
    with client(provider, secret=provider.secret) as one:
        assert one.by_browser("n", show=visiting(provider), verifier=VERIFIER, state=STATE)


def test_an_unknown_server_is_not_the_provider(provider: OidcProvider) -> None:
    with OidcClient(told(provider), secret=None, authority=None) as one, pytest.raises(UnavailableError):
        one.discover()
    other = ProviderTold(issuer=provider.issuer + "/", client_id="strongroom", scopes=("openid",))
    with (
        OidcClient(other, secret=None, authority=provider.authority_file) as one,
        pytest.raises(LoginFailedError, match="another issuer"),
    ):
        one.discover()


# --- the command ------------------------------------------------------------------------------------------------------


def type_login(holder: WalletFolder, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "strongroom.cli.main", "login", "--as", str(holder.path), *options]
    environment = {**os.environ, "BROWSER": "true"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def strongroom(*arguments: str) -> subprocess.CompletedProcess[str]:
    return completed("strongroom.cli.main", *arguments)


def follow(process: subprocess.Popen[str], provider: OidcProvider) -> tuple[int, str, str]:
    """Do as the command says, and return how it ended."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("https://"):
            provider.visit(line.strip())
            break
    out, rest = process.communicate(timeout=60)
    return process.returncode, out, "".join(lines) + rest


def test_the_command_logs_in_says_until_when_and_logs_out(
    running: RunningBroker, provider: OidcProvider, dana: WalletFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--url", f"https://127.0.0.1:{running.identity_port}", "--issuer-ca", str(provider.authority_file)]
    strongroom("logout", "--as", str(dana.path))
    assert not (dana.path / "tls.key").exists()
    began = time.monotonic()
    code, out, said = follow(type_login(dana, *place, "--no-browser", "--json"), provider)
    took = time.monotonic() - began
    assert code == 0, said
    until = json.loads(out)["until"]
    for name in ("tls.key", "tls.crt", "login.json"):
        assert (dana.path / name).stat().st_mode & 0o077 == 0
    certificate = x509.load_pem_x509_certificate((dana.path / "tls.crt").read_bytes())
    assert certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ") == until
    with capsys.disabled():
        sys.stdout.write(f"\n  strongroom login, whole: {took:.2f} s\n")
    # The address and the issuer were remembered.
    code, _out, said = follow(type_login(dana, "--issuer-ca", str(provider.authority_file), "--no-browser"), provider)
    assert code == 0, said
    # Another issuer than the one that was seen isn't gone to.
    place_file = dana.path / "login.json"
    place_file.write_bytes(place_file.read_bytes().replace(provider.issuer.encode(), b"https://login.example"))
    code, _out, said = follow(type_login(dana, "--no-browser"), provider)
    assert code == 3
    assert "not `https://login.example`" in said
    ended = json.loads(strongroom("logout", "--as", str(dana.path), "--json").stdout)
    assert ended == {"forgotten": True}
    assert not {"tls.key", "tls.crt"} & {path.name for path in dana.path.iterdir()}
    assert strongroom("status", "--as", str(dana.path)).returncode == 2


def test_the_command_logs_in_by_device(running: RunningBroker, provider: OidcProvider, dana: WalletFolder) -> None:
    url = f"https://127.0.0.1:{running.identity_port}"
    options = ["--url", url, "--issuer", provider.issuer, "--issuer-ca", str(provider.authority_file), "--device"]
    code, _out, said = follow(type_login(dana, *options), provider)
    assert code == 0, said
    assert "WDJB-MJHT" in said
    assert session_caller(running, dana).get("/v1/state").status == 200


def test_the_command_needs_an_address(tmp_path: Path, running: RunningBroker) -> None:
    ended = strongroom("login", "--as", str(wallet(running, tmp_path / "wallet").path))
    assert ended.returncode == 2
    assert "--url" in ended.stderr
