"""Whatever comes to the identity listener, from a provider, or from a settings file: it is read, or refused by name."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from simulators.oidc_provider import CLIENT_ID, OidcProvider
from strongroom.broker.adapters.oidc import IdTokens, read_keys
from strongroom.broker.login import Attempt, requested_key
from strongroom.broker.login_settings import Provider
from strongroom.broker.login_settings import read_settings as read_login
from strongroom.broker.spiffe import read_bundle
from strongroom.broker.spiffe import read_settings as read_spiffe
from strongroom.client.adapters.session_files import new_session
from strongroom.client.login import LoginApi, check_certificate, session_end
from strongroom.core.canonical import Json, parse
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import sign
from strongroom.core.errors import StrongroomError
from strongroom.core.fields import reading
from strongroom.core.ids import PersonId
from strongroom.personnel.login import LOGIN_TYPE, Login
from support.certificates import Authority
from support.logins import DANA, Desk, finish
from support.logs import GENESIS

NAMES = (
    "login", "payloadType", "payload", "signatures", "keyid", "sig", "certificate_request", "id_token", "issuer",
    "client_id", "required", "session", "claim", "people", "scopes", "algorithms", "jwks_file", "trust", "domain",
    "bundle", "paths", "longest", "keys", "kty", "crv", "x", "y", "n", "e", "kid", "use", "v", "genesis", "person",
    "challenge", "expires", "until", "certificate", "provider",
)  # fmt: skip
TEXTS = ("", "https://login.example", "EC", "P-256", "RSA", "oct", "AQAB", "/ns/{name}", "prod.example", "dana", "e30=")
values: st.SearchStrategy[Json] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(TEXTS), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=6)
    ),
    max_leaves=20,
)
AT = int(time.time())
PROVIDER = OidcProvider(Path("unused"))
TOKENS = IdTokens(Provider(issuer=PROVIDER.issuer, client_id=CLIENT_ID), json.loads(json.dumps(PROVIDER.jwks())), None)
GOOD = PROVIDER.mint("nonce")
PROVIDER_OF_DESK = Provider(issuer=PROVIDER.issuer, client_id=CLIENT_ID)
REQUEST = new_session("dana").request
AUTHORITY = Authority.make("ca", AT)


def total(read: Callable[[], object]) -> None:
    """Read, or refuse as this project does."""
    with contextlib.suppress(StrongroomError):
        read()


def attempt(value: Json) -> Attempt:
    with reading(value, "body") as fields:
        return Attempt.read(fields)


@given(values)
@example([{"kty": []}])
def test_bodies_and_settings(value: Json) -> None:
    total(lambda: attempt(value))
    total(lambda: read_login(value))
    total(lambda: read_spiffe(value, own="vault.example"))
    total(lambda: read_keys(value))
    total(lambda: read_keys({"keys": value}))


@given(st.binary(max_size=400))
@example(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
def test_bytes(data: bytes) -> None:
    total(lambda: Login.parse(data))
    total(lambda: requested_key(data))
    total(lambda: read_bundle(data))
    total(lambda: session_end(data))
    for certificate, request in ((data, REQUEST), (AUTHORITY.pem, data), (AUTHORITY.pem, REQUEST)):
        total(
            lambda certificate=certificate, request=request: check_certificate(  # type: ignore[misc]  # bound now
                certificate, request=request, authority=AUTHORITY.pem, person=PersonId("dana"), now=AT
            )
        )


@given(st.integers(0, 4095), st.integers(1, 255))
def test_a_changed_request_is_no_request(place: int, change: int) -> None:
    changed = bytearray(REQUEST)
    changed[place % len(changed)] ^= change
    with pytest.raises(StrongroomError):
        requested_key(bytes(changed))


@given(values)
def test_answers_of_a_server(value: Json) -> None:
    class Transport:
        def call(self, *_given: object, **_named: object) -> Json:
            return value

    api = LoginApi(Transport())
    total(api.terms)
    total(api.challenge)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


tokens = st.one_of(
    st.text(max_size=60),
    st.text("abcXYZ019-_.=", max_size=60),
    st.builds(lambda a, b, c: f"{a}.{b}.{c}", st.text(max_size=9), st.text(max_size=9), st.text(max_size=9)),
    st.builds(lambda header, claims: f"{part(header)}.{part(claims)}.AAAA", values, values),
    st.builds(lambda claims: f"{GOOD.split('.')[0]}.{part(claims)}.{GOOD.split('.')[2]}", values),
    st.builds(lambda depth: f"{GOOD.split('.')[0]}.{part([])}{'W1td' * depth}.AAAA", st.integers(0, 3000)),
)


@given(tokens)
@example("." * 3)
@example("..")
@example(GOOD + "=")
@example(GOOD.replace(".", "..", 1))
@example("\ud800.\ud800.\ud800")
def test_tokens_are_refused(token: str) -> None:
    with pytest.raises(StrongroomError):
        finish(TOKENS.verify(token, "nonce", AT))


@given(values)
def test_claims_that_the_provider_signed_are_read_or_refused(value: Json) -> None:
    """Its own key signs whatever it likes: a provider that is confused breaks nothing either."""
    claims = value if isinstance(value, dict) else {"iss": value, "aud": value, "exp": value, "nonce": value}
    base: dict[str, object] = json.loads(base64.urlsafe_b64decode(GOOD.split(".")[1] + "=="))
    token = PROVIDER._raw({"alg": "ES256", "kid": PROVIDER.key.kid}, {**base, **claims}, PROVIDER.key)
    total(lambda: finish(TOKENS.verify(token, "nonce", AT)))


@given(st.integers(0, 4095), st.sampled_from("abAB01-_."))
def test_a_changed_token_is_refused(place: int, letter: str) -> None:
    place %= len(GOOD)
    if GOOD[place] != letter:
        with pytest.raises(StrongroomError):
            finish(TOKENS.verify(GOOD[:place] + letter + GOOD[place + 1 :], "nonce", AT))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), GENESIS, provider=PROVIDER_OF_DESK, verify_token=TOKENS.verify)


@given(st.binary(max_size=200) | st.just(REQUEST), values | st.text(max_size=30) | st.just(GOOD), values)
def test_the_desk_refuses_what_is_no_login(desk: Desk, request_bytes: bytes, token: Json, signatures: Json) -> None:
    statement = replace(desk.statement(REQUEST), certificate_request=Digest.of(request_bytes))
    with contextlib.suppress(UnicodeEncodeError):
        statement = replace(statement, id_token=None if token is None else Digest.of(str(token).encode()))
    envelope: Json = {
        "payloadType": LOGIN_TYPE,
        "payload": to_base64(statement.to_bytes()),
        "signatures": signatures if isinstance(signatures, list) else [],
    }
    body: dict[str, Json] = {"login": envelope, "certificate_request": to_base64(request_bytes), "id_token": token}
    with pytest.raises(StrongroomError):
        finish(desk.desk.admit(attempt(body)))
    # And signed by who may: only the token can be wrong then, and is.
    signed = sign(LOGIN_TYPE, statement.to_bytes(), DANA).to_json()
    with pytest.raises(StrongroomError):
        finish(desk.desk.admit(attempt({**body, "login": signed})))


@given(st.text(max_size=200))
def test_settings_as_text(text: str) -> None:
    total(lambda: read_login(parse(text.encode("utf-8", "surrogatepass"))))
