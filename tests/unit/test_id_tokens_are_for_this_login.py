"""An ID token counts when the provider signed it for us, for this login, and it holds now; any other is refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from simulators.oidc_provider import CLIENT_ID, Mode, OidcProvider
from strongroom.broker.adapters.oidc import IdTokens, read_keys
from strongroom.broker.login import LoginError
from strongroom.broker.login_settings import Provider
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError
from support.logins import finish

NONCE = "bm9uY2U"
OF_THE_NAME = {Mode.OTHER_PERSON, Mode.NOBODY, Mode.NAME_IN_A_LIST}
"""The token is genuine; whom it names is judged by the desk."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> OidcProvider:
    return OidcProvider(tmp_path_factory.mktemp("provider"))


@pytest.fixture(scope="module")
def tokens(provider: OidcProvider) -> IdTokens:
    return IdTokens(Provider(issuer=provider.issuer, client_id=CLIENT_ID), provider.jwks(), None)


def public(key: ECKey | RSAKey, **members: Json) -> Json:
    """Return a key's public half as a provider publishes it."""
    return {**json.loads(json.dumps(key.as_dict(private=False))), **members}


def now() -> int:
    return int(time.time())


def test_a_good_token_gives_its_claims(provider: OidcProvider, tokens: IdTokens) -> None:
    claims = finish(tokens.verify(provider.mint(NONCE), NONCE, now()))
    assert claims["preferred_username"] == "dana"


@pytest.mark.parametrize("mode", sorted(OF_THE_NAME))
def test_whom_a_genuine_token_names_is_not_judged_here(provider: OidcProvider, tokens: IdTokens, mode: Mode) -> None:
    finish(tokens.verify(provider.mint(NONCE, mode=mode), NONCE, now()))


@pytest.mark.parametrize("mode", sorted(set(Mode) - OF_THE_NAME - {Mode.GOOD}))
def test_any_other_token_is_refused(provider: OidcProvider, tokens: IdTokens, mode: Mode) -> None:
    token = provider.mint(NONCE, mode=mode)
    with pytest.raises(LoginError) as caught:
        finish(tokens.verify(token, NONCE, now()))
    assert caught.value.reason == "login-token-refused"
    assert token not in caught.value.message


def test_a_token_for_another_login_is_refused(provider: OidcProvider, tokens: IdTokens) -> None:
    with pytest.raises(LoginError, match="nonce"):
        finish(tokens.verify(provider.mint("another"), NONCE, now()))


@pytest.mark.parametrize(("later", "good"), [(0, True), (300 + 59, True), (300 + 61, False)])
def test_a_token_ends(provider: OidcProvider, tokens: IdTokens, later: int, *, good: bool) -> None:
    token = provider.mint(NONCE)
    if good:
        finish(tokens.verify(token, NONCE, now() + later))
    else:
        with pytest.raises(LoginError, match="expired"):
            finish(tokens.verify(token, NONCE, now() + later))


def test_a_shared_secret_in_the_providers_keys_never_checks_anything(provider: OidcProvider) -> None:
    shared: Json = json.loads(json.dumps({**OctKey.generate_key(256).as_dict(), "kid": provider.key.kid}))
    with pytest.raises(MalformedError):
        read_keys({"keys": [shared]})
    # Nor beside a good key of the same name.
    keys = read_keys({"keys": [shared, public(provider.key)]})
    assert [key.key_type for _name, key in keys] == ["EC"]


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [{}],
        ["key"],
        [{"kty": "RSA"}],
        [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}],
        [ECKey.generate_key("P-256").as_dict(private=True)],
        [public(ECKey.generate_key("P-256"), use="enc")],
        [{}] * 33,
    ],
    ids=["none", "empty", "text", "no-numbers", "no-point", "private", "for-encryption", "too-many"],
)
def test_other_keys_are_no_keys(keys: object) -> None:
    with pytest.raises(MalformedError):
        read_keys({"keys": keys})  # type: ignore[dict-item]  # hostile on purpose


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # made short on purpose
def test_a_short_rsa_key_is_no_key() -> None:
    with pytest.raises(MalformedError):
        read_keys({"keys": [public(RSAKey.generate_key(1024))]})
    assert read_keys({"keys": [public(RSAKey.generate_key(2048))]})


@pytest.mark.parametrize("jwks", [None, [], {}, {"keys": None}, "keys"])
def test_what_is_no_key_set_is_refused(jwks: object) -> None:
    with pytest.raises(MalformedError):
        read_keys(jwks)  # type: ignore[arg-type]  # hostile on purpose


def test_of_several_keys_the_token_must_name_one(provider: OidcProvider) -> None:
    settings = Provider(issuer=provider.issuer, client_id=CLIENT_ID)
    other = ECKey.generate_key("P-256", {"kid": "second"})
    both: Json = {"keys": [public(provider.key), public(other)]}
    finish(IdTokens(settings, both, None).verify(provider.mint(NONCE), NONCE, now()))
    twice: Json = {"keys": [public(provider.key)] * 2}
    with pytest.raises(LoginError, match="key"):
        finish(IdTokens(settings, twice, None).verify(provider.mint(NONCE), NONCE, now()))


def test_an_algorithm_that_the_settings_leave_out_is_refused(provider: OidcProvider) -> None:
    settings = replace(Provider(issuer=provider.issuer, client_id=CLIENT_ID), algorithms=("RS256",))
    with pytest.raises(LoginError, match="isn't allowed"):
        finish(IdTokens(settings, provider.jwks(), None).verify(provider.mint(NONCE), NONCE, now()))
