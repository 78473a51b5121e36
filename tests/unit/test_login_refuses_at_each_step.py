"""A session is opened for who holds a key of the roster, is in good standing, and is the provider's same person."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.access.request import APPROVAL_TYPE
from strongroom.broker.identity import Identity, Party, Peer, identify, own_domain
from strongroom.broker.login import CHALLENGE_SECONDS, Challenges, LoginError, requested_key
from strongroom.client.adapters.session_files import new_session
from strongroom.client.login import IssuedOtherwiseError, check_certificate
from strongroom.client.wallet import publishing_signer
from strongroom.core.digest import Digest
from strongroom.core.envelope import sign
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.ids import PersonId
from strongroom.personnel.login import LOGIN_TYPE, Login, nonce_of
from support.logins import AT, DANA, PROVIDER, SAM, Desk, claims_of
from support.logs import GENESIS

TOKEN = "header.claims.signature"


@pytest.fixture
def alone(tmp_path: Path) -> Desk:
    return Desk(tmp_path, GENESIS)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path, GENESIS, provider=PROVIDER, verify_token=claims_of("dana"))


def test_a_login_gives_a_certificate_for_the_key_the_person_and_some_hours(desk: Desk) -> None:
    session = new_session("dana")
    login = sign(LOGIN_TYPE, desk.statement(session.request, TOKEN).to_bytes(), DANA)
    pem = desk.admit(login, session.request, TOKEN)
    authority = desk.authority.certificate
    until = check_certificate(pem, request=session.request, authority=authority, person=PersonId("dana"), now=AT)
    assert until == AT + 3600
    peer = Peer(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER), desk.authority.der)
    trust = {"test": own_domain("test", desk.authority.der)}
    assert identify(peer, trust, AT) == Identity(Party.PERSON, "dana")


def test_without_a_provider_the_key_is_enough(alone: Desk) -> None:
    assert alone.open().startswith(b"-----BEGIN CERTIFICATE")


# --- 1 challenge ------------------------------------------------------------------------------------------------------


def test_a_challenge_opens_one_session(alone: Desk) -> None:
    request = new_session("dana").request
    login = sign(LOGIN_TYPE, alone.statement(request).to_bytes(), DANA)
    alone.admit(login, request)
    with pytest.raises(LoginError):
        alone.admit(login, request)


def test_a_challenge_that_waited_too_long_is_refused(alone: Desk) -> None:
    request = new_session("dana").request
    login = sign(LOGIN_TYPE, alone.statement(request).to_bytes(), DANA)
    alone.clock.at += CHALLENGE_SECONDS
    with pytest.raises(LoginError):
        alone.admit(login, request)


@pytest.mark.parametrize("change", [b"", b"short", bytes(40), bytes(64)])
def test_a_made_up_challenge_is_refused(alone: Desk, change: bytes) -> None:
    request = new_session("dana").request
    login = replace(alone.statement(request), challenge=change)
    with pytest.raises(LoginError):
        alone.admit(sign(LOGIN_TYPE, login.to_bytes(), DANA), request)


def test_a_challenge_with_a_later_end_is_refused() -> None:
    challenges = Challenges(b"k" * 32)
    challenge = challenges.issue(AT, bytes(16))
    later = (AT + 10**6).to_bytes(8, "big") + challenge[8:]
    challenges.check(challenge, AT)
    with pytest.raises(LoginError):
        challenges.check(later, AT)


def test_a_restart_ends_all_challenges() -> None:
    with pytest.raises(LoginError):
        Challenges(b"l" * 32).check(Challenges(b"k" * 32).issue(AT, bytes(16)), AT)


def test_used_challenges_are_remembered_until_they_end_and_no_longer() -> None:
    challenges = Challenges(b"k" * 32)
    for second in range(0, 3 * CHALLENGE_SECONDS, CHALLENGE_SECONDS):
        challenges.spend(challenges.issue(AT + second, second.to_bytes(16, "big")), AT + second)
    assert len(challenges._used) == 1


# --- 2 statement, 3 signature -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"genesis": Digest.of(b"elsewhere")},
        {"certificate_request": Digest.of(b"another key")},
        {"id_token": Digest.of(b"another token")},
        {"id_token": None},
    ],
    ids=["deployment", "key", "token", "no-token"],
)
def test_a_statement_about_something_else_is_refused(desk: Desk, change: dict[str, object]) -> None:
    request = new_session("dana").request
    login = replace(desk.statement(request, TOKEN), **change)  # type: ignore[arg-type]  # a case's members
    with pytest.raises(LoginError):
        desk.admit(sign(LOGIN_TYPE, login.to_bytes(), DANA), request, TOKEN)


def test_a_stolen_token_opens_nothing_without_the_persons_key(desk: Desk) -> None:
    with pytest.raises(LoginError):
        desk.open(TOKEN, signer=SAM)


def test_a_key_of_another_person_is_refused(alone: Desk) -> None:
    with pytest.raises(LoginError):
        alone.open(person="dana", signer=SAM)


def test_a_stranger_and_a_wrong_key_are_told_the_same(alone: Desk) -> None:
    told = set()
    for person, signer in (("dana", SAM), ("nobody", DANA), ("nobody", SAM)):
        with pytest.raises(LoginError) as caught:
            alone.open(person=person, signer=signer)
        told.add(tuple(caught.value.problem().items()))
    assert len(told) == 1


def test_a_signature_over_something_else_is_no_login(alone: Desk) -> None:
    request = new_session("dana").request
    with pytest.raises(LoginError):
        alone.admit(sign(APPROVAL_TYPE, alone.statement(request).to_bytes(), DANA), request)


def test_a_publishing_key_opens_no_session(alone: Desk) -> None:
    hybrid = publishing_signer(b"d" * 32)
    dana = alone.people["dana"]
    alone.people["dana"] = replace(dana, keys=(*dana.keys, hybrid.public_key))
    alone.open()
    with pytest.raises(LoginError):
        alone.open(signer=hybrid)


# --- 4 standing, 5 identity -------------------------------------------------------------------------------------------


def test_who_is_suspended_gets_no_session(desk: Desk) -> None:
    desk.suspended.add("dana")
    with pytest.raises(LoginError) as caught:
        desk.open(TOKEN)
    assert caught.value.reason == "login-not-in-standing"


def test_who_has_left_gets_no_session(desk: Desk) -> None:
    desk.people["dana"] = replace(desk.people["dana"], active=False)
    with pytest.raises(LoginError) as caught:
        desk.open(TOKEN)
    assert caught.value.reason == "login-not-in-standing"


def test_a_token_of_another_person_is_refused(desk: Desk) -> None:
    with pytest.raises(LoginError) as caught:
        desk.open(TOKEN, person="sam", signer=SAM)
    assert caught.value.reason == "login-other-person"


def test_where_a_provider_is_required_the_key_is_not_enough(desk: Desk) -> None:
    with pytest.raises(LoginError) as caught:
        desk.open()
    assert caught.value.reason == "login-token-missing"


def test_where_no_provider_is_named_no_token_is_taken(alone: Desk) -> None:
    with pytest.raises(LoginError) as caught:
        alone.open(TOKEN)
    assert caught.value.reason == "login-token-unwanted"


def test_a_claim_is_mapped_by_the_table_alone_where_there_is_one(tmp_path: Path) -> None:
    provider = replace(PROVIDER, people={"dana@example.org": PersonId("dana")})
    for claim, good in (("dana@example.org", True), ("dana", False), ("Dana@example.org", False)):
        desk = Desk(tmp_path / claim, GENESIS, provider=provider, verify_token=claims_of(claim))
        if good:
            desk.open(TOKEN)
        else:
            with pytest.raises(LoginError):
                desk.open(TOKEN)


def test_the_nonce_is_the_challenge(desk: Desk) -> None:
    seen = []

    async def verify(_token: str, nonce: str, _now: int) -> dict[str, str]:
        seen.append(nonce)
        return {"preferred_username": "dana"}

    desk.desk._verify_token = verify
    request = new_session("dana").request
    login = desk.statement(request, TOKEN)
    desk.admit(sign(LOGIN_TYPE, login.to_bytes(), DANA), request, TOKEN)
    assert seen == [nonce_of(login.challenge)]


# --- 6 certificate ----------------------------------------------------------------------------------------------------


def csr(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, name: str = "person/root") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    wanted = x509.UniformResourceIdentifier("spiffe://test/person/sam")
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName([wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def test_nothing_but_the_key_of_a_request_counts(alone: Desk) -> None:
    request = csr(ec.generate_private_key(ec.SECP256R1()))
    pem = alone.admit(sign(LOGIN_TYPE, alone.statement(request).to_bytes(), DANA), request)
    made = x509.load_pem_x509_certificate(pem)
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://test/person/dana"]
    assert len(list(names)) == 1
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"root" not in pem


@pytest.mark.parametrize("request_bytes", [b"", b"junk", csr(ed25519.Ed25519PrivateKey.generate())])
def test_other_requests_are_malformed(request_bytes: bytes) -> None:
    with pytest.raises(MalformedError):
        requested_key(request_bytes)


def test_a_request_for_a_key_that_its_sender_does_not_hold_is_refused() -> None:
    good = bytearray(csr(ec.generate_private_key(ec.SECP256R1())))
    good[-1] ^= 1
    with pytest.raises(MalformedError):
        requested_key(bytes(good))


def test_a_key_on_a_larger_curve_is_not_what_clients_make() -> None:
    with pytest.raises(MalformedError):
        requested_key(csr(ec.generate_private_key(ec.SECP384R1())))


def test_no_session_is_longer_than_half_a_day(tmp_path: Path) -> None:
    desk = Desk(tmp_path, GENESIS)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(UsageError):
        desk.authority.certify_person("dana", key, at=AT, life=timedelta(hours=12, seconds=1))


def test_a_client_keeps_no_certificate_that_is_not_its_own(tmp_path: Path) -> None:
    desk, elsewhere = Desk(tmp_path / "here", GENESIS), Desk(tmp_path / "there", GENESIS)
    session = new_session("dana")
    statement = desk.statement(session.request)
    pem = desk.admit(sign(LOGIN_TYPE, statement.to_bytes(), DANA), session.request)
    authority = desk.authority.certificate

    def check(*, request: bytes = session.request, by: bytes = authority, person: str = "dana", now: int = AT) -> int:
        return check_certificate(pem, request=request, authority=by, person=PersonId(person), now=now)

    assert check() == AT + 3600
    for wrong in (
        {"request": new_session("dana").request},
        {"by": elsewhere.authority.certificate},
        {"person": "sam"},
        {"person": "ana"},
        {"now": AT + 3600},
        {"now": AT - 12 * 3600},
    ):
        with pytest.raises(IssuedOtherwiseError):
            check(**wrong)


def test_a_login_is_one_sequence_of_bytes() -> None:
    login = Login(
        genesis=GENESIS.digest,
        person=PersonId("dana"),
        challenge=b"c" * 40,
        certificate_request=Digest.of(b"request"),
        id_token=None,
    )
    assert Login.parse(login.to_bytes()) == login
    assert Login.parse(replace(login, id_token=Digest.of(b"t")).to_bytes()).id_token == Digest.of(b"t")
    with pytest.raises(MalformedError):
        Login.parse(login.to_bytes().replace(b'"v":1', b'"v":1,"x":1'))
