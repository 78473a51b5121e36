"""A caller is whom the URI in its certificate names, of this deployment, now; nothing else in it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.broker.adapters.dev_ca import LOOPBACK, DevCa
from strongroom.broker.errors import NoIdentityError, RemoteAddressError
from strongroom.broker.identity import Identity, Party, Peer, TrustDomain, identify, own_domain, trust_domain
from strongroom.broker.wiring import require_loopback
from strongroom.core.errors import ConflictError, MalformedError, UsageError
from support.certificates import SERVER, Authority, Shape, uri, usage

AT = 1_795_471_717
DOMAIN = "vault.example"
OURS = Authority.make("ours", AT)
DANA = Shape(names=(uri("spiffe://vault.example/person/dana"),), at=AT)
TRUST = {DOMAIN: own_domain(DOMAIN, OURS.der)}


def shown(shape: Shape, *, authority: bytes = OURS.der) -> Peer:
    """Return what TLS found of a certificate of ours."""
    certificate, _key = OURS.leaf(shape)
    return Peer(certificate.public_bytes(Encoding.DER), authority)


def named(*names: x509.GeneralName) -> Peer:
    return shown(replace(DANA, names=names))


def test_the_uri_names_the_caller() -> None:
    assert identify(shown(DANA), TRUST, AT) == Identity(Party.PERSON, "dana")
    enclave = identify(named(uri("spiffe://vault.example/enclave/gpu-1")), TRUST, AT)
    assert enclave == Identity(Party.ENCLAVE, "gpu-1")


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("dana"),),
        (x509.RFC822Name("dana@vault.example"),),
        (uri("spiffe://vault.example/person/dana"), uri("spiffe://vault.example/person/sam")),
        (uri("spiffe://elsewhere/person/dana"),),
        (uri("spiffe://vault.example.evil/person/dana"),),
        (uri("spiffe://vault.example/robot/dana"),),
        (uri("spiffe://vault.example/person/"),),
        (uri("spiffe://vault.example/person/dana/x"),),
        (uri("spiffe://vault.example/person/Dana"),),
        (uri("spiffe://vault.example/person/dana\x00"),),
        (uri("https://vault.example/person/dana"),),
    ],
    ids=[
        "no-names", "dns", "mail", "two", "other-deployment", "longer-domain", "other-party", "empty", "deeper", "case",
        "nul", "other-scheme",
    ],
)  # fmt: skip
def test_any_other_certificate_names_nobody(names: Sequence[x509.GeneralName]) -> None:
    with pytest.raises(NoIdentityError):
        identify(named(*names), TRUST, AT)


def test_no_certificate_is_nobody() -> None:
    with pytest.raises(NoIdentityError, match="no client certificate"):
        identify(None, TRUST, AT)


@pytest.mark.parametrize("junk", [b"", b"junk", bytes(400)])
def test_junk_is_nobody(junk: bytes) -> None:
    with pytest.raises(NoIdentityError):
        identify(Peer(junk, OURS.der), TRUST, AT)


@pytest.mark.parametrize(
    "wrong",
    [
        {"authority": True},
        {"usage": None},
        {"critical": False},
        {"usage": usage(sign=False)},
        {"usage": usage(certificates=True)},
        {"usage": usage(lists=True)},
        {"purposes": None},
        {"purposes": SERVER},
        {"purposes": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
    ],
    ids=[
        "authority", "no-usage", "usage-not-critical", "not-for-signing", "signs-certificates", "signs-lists",
        "no-purpose", "server", "any-purpose",
    ],
)  # fmt: skip
def test_only_a_leaf_for_client_authentication_is_somebody(wrong: dict[str, object]) -> None:
    with pytest.raises(NoIdentityError):
        identify(shown(replace(DANA, **wrong)), TRUST, AT)  # type: ignore[arg-type]  # a case's members


def test_a_leaf_need_not_say_that_it_is_one() -> None:
    assert identify(shown(replace(DANA, authority=None)), TRUST, AT).name == "dana"


def test_the_common_name_counts_for_nothing() -> None:
    assert identify(shown(replace(DANA, common_name="person/sam")), TRUST, AT).name == "dana"


def test_a_certificate_of_another_authority_that_tls_trusts_is_nobody() -> None:
    other = Authority.make("other", AT)
    trust = TRUST | {
        "prod.example": TrustDomain(
            name="prod.example", authorities=frozenset({other.der}), longest=86400, paths=(("{name}",),)
        )
    }
    with pytest.raises(NoIdentityError) as caught:
        identify(shown(DANA, authority=other.der), trust, AT)
    assert caught.value.reason == "authority-not-of-domain"


def test_a_certificate_that_lives_too_long_is_refused() -> None:
    week = replace(DANA, seconds=7 * 86400)
    assert identify(shown(week), TRUST, AT).name == "dana"
    with pytest.raises(NoIdentityError) as caught:
        identify(shown(replace(DANA, seconds=30 * 86400)), TRUST, AT)
    assert caught.value.reason == "certificate-life-too-long"


@pytest.mark.parametrize(("at", "good"), [(AT - 1, False), (AT, True), (AT + 3599, True), (AT + 3600, False)])
def test_the_time_is_looked_at_every_time(at: int, *, good: bool) -> None:
    peer = shown(DANA)
    identify(peer, TRUST, AT)
    if good:
        identify(peer, TRUST, at)
    else:
        with pytest.raises(NoIdentityError) as caught:
            identify(peer, TRUST, at)
        assert caught.value.reason == "certificate-expired"


def test_a_deployment_of_any_name_has_a_trust_domain() -> None:
    assert [trust_domain(name) for name in ("vault.example", "Acme Lab/7", "")] == [
        "vault.example",
        "acme-lab-7",
        "strongroom",
    ]


def test_what_the_authority_issues_names_its_person(tmp_path: Path) -> None:
    authority = DevCa.create(tmp_path, "Acme Lab", at=AT)
    for issued, party in (
        (authority.issue_person("dana", at=AT), Party.PERSON),
        (authority.issue_enclave("dana", at=AT), Party.ENCLAVE),
    ):
        der = x509.load_pem_x509_certificate(issued.certificate).public_bytes(Encoding.DER)
        trust = {"acme-lab": own_domain("Acme Lab", authority.der)}
        assert identify(Peer(der, authority.der), trust, AT) == Identity(party, "dana")
        assert b"PRIVATE" not in repr(issued).encode()


def test_the_authority_is_made_once_and_opened_again(tmp_path: Path) -> None:
    made = DevCa.open_or_create(tmp_path, "test", at=AT)
    assert DevCa.open_or_create(tmp_path, "test", at=AT).certificate == made.certificate
    with pytest.raises(ConflictError):
        DevCa.create(tmp_path, "test", at=AT)


def test_the_authority_is_refused_when_its_key_is_another_or_open_to_others_or_old(tmp_path: Path) -> None:
    DevCa.create(tmp_path, "test", at=AT)
    with pytest.raises(UsageError, match="isn't valid now"):
        DevCa.open(tmp_path, "test", at=AT + 366 * 86400)
    key = tmp_path / "ca.key"
    key.chmod(0o644)
    with pytest.raises(UsageError, match="alone"):
        DevCa.open(tmp_path, "test", at=AT)
    key.chmod(0o600)
    DevCa.create(tmp_path / "other", "test", at=AT)
    key.write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(MalformedError, match="isn't that of its certificate"):
        DevCa.open(tmp_path, "test", at=AT)
    key.write_bytes(b"junk")
    with pytest.raises(MalformedError):
        DevCa.open(tmp_path, "test", at=AT)
    key.unlink()
    with pytest.raises(UsageError, match="no certificate authority"):
        DevCa.open(tmp_path, "test", at=AT)


@pytest.mark.parametrize("host", [*LOOPBACK, "127.8.8.8"])
def test_loopback_is_served(host: str) -> None:
    require_loopback(host, remote=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "vault.example", "", "127.0.0.1.evil"])
def test_other_addresses_need_the_explicit_setting(host: str) -> None:
    with pytest.raises(RemoteAddressError):
        require_loopback(host, remote=False)
    require_loopback(host, remote=True)
