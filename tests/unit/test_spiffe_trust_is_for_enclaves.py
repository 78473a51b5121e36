"""Another trust domain speaks for enclaves on the paths that were written down, and for nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from strongroom.broker.adapters.tls import server_context
from strongroom.broker.errors import NoIdentityError
from strongroom.broker.identity import Identity, Party, Peer, TrustDomain, identify, own_domain, spiffe_id
from strongroom.broker.spiffe import TrustSetting, make_trust, read_bundle, read_settings
from strongroom.core.canonical import Json
from strongroom.core.errors import MalformedError, StrongroomError, UsageError
from support.certificates import Authority, Shape, uri

AT = 1_795_471_717
OURS, PROD, TEST = (Authority.make(name, AT) for name in ("ours", "prod", "test"))
OWN = own_domain("vault.example", OURS.der)
PROD_SETTING = TrustSetting(
    domain="prod.example", bundle="prod.pem", paths=(("ns", "inference", "sa", "{name}"),), longest=86400
)
TRUST = make_trust(OWN, [(PROD_SETTING, frozenset({PROD.der}))])


def shown(text: str, by: Authority = PROD, *, seconds: int = 3600) -> Peer:
    """Return what TLS found of a certificate by an authority."""
    certificate, _key = by.leaf(Shape(names=(uri(text),), at=AT, seconds=seconds))
    return Peer(certificate.public_bytes(Encoding.DER), by.der)


def test_an_id_of_the_written_path_is_an_enclave() -> None:
    found = identify(shown("spiffe://prod.example/ns/inference/sa/gpu-1"), TRUST, AT)
    assert found == Identity(Party.ENCLAVE, "prod.example/ns/inference/sa/gpu-1")


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://prod.example/ns/training/sa/gpu-1",
        "spiffe://prod.example/ns/inference/sa/gpu-1/more",
        "spiffe://prod.example/ns/inference/sa",
        "spiffe://prod.example/person/dana",
        "spiffe://prod.example/enclave/gpu-1",
        "spiffe://other.example/ns/inference/sa/gpu-1",
        "spiffe://prod.example",
        "spiffe://prod.example/",
        "spiffe://prod.example/ns/inference/sa/",
        "spiffe://prod.example//ns/inference/sa/gpu-1",
        "spiffe://prod.example/ns/inference/sa/..",
        "spiffe://prod.example/ns/inference/sa/.",
        "spiffe://prod.example/ns/inference/sa/a%2fb",
        "spiffe://prod.example/ns/inference/sa/gpu-1?x",
        "spiffe://prod.example/ns/inference/sa/gpu-1#x",
        "spiffe://prod.example:443/ns/inference/sa/gpu-1",
        "spiffe://user@prod.example/ns/inference/sa/gpu-1",
        "spiffe://Prod.example/ns/inference/sa/gpu-1",
        "SPIFFE://prod.example/ns/inference/sa/gpu-1",
        "https://prod.example/ns/inference/sa/gpu-1",
        "spiffe://prod.example/ns/inference/sa/" + "x" * 2048,
    ],
)
def test_any_other_id_is_nobody(text: str) -> None:
    with pytest.raises(NoIdentityError):
        identify(shown(text), TRUST, AT)


@pytest.mark.parametrize("text", ["spiffe://vault.example/person/dana", "spiffe://vault.example/enclave/gpu-1"])
def test_an_outside_authority_names_nobody_of_ours(text: str) -> None:
    with pytest.raises(NoIdentityError) as caught:
        identify(shown(text, PROD), TRUST, AT)
    assert caught.value.reason == "authority-not-of-domain"


def test_our_authority_names_nobody_of_theirs() -> None:
    with pytest.raises(NoIdentityError) as caught:
        identify(shown("spiffe://prod.example/ns/inference/sa/gpu-1", OURS), TRUST, AT)
    assert caught.value.reason == "authority-not-of-domain"


def test_an_authority_that_left_the_bundle_is_believed_no_longer() -> None:
    peer = shown("spiffe://prod.example/ns/inference/sa/gpu-1")
    identify(peer, TRUST, AT)
    later = make_trust(OWN, [(PROD_SETTING, frozenset({TEST.der}))])
    with pytest.raises(NoIdentityError):
        identify(peer, later, AT)


def test_no_certificate_lives_longer_than_the_domain_allows() -> None:
    text = "spiffe://prod.example/ns/inference/sa/gpu-1"
    identify(shown(text, seconds=86400), TRUST, AT)
    for longest, seconds in ((86400, 2 * 86400), (3600, 86400)):
        trust = make_trust(OWN, [(replace(PROD_SETTING, longest=longest), frozenset({PROD.der}))])
        with pytest.raises(NoIdentityError) as caught:
            identify(shown(text, seconds=seconds), trust, AT)
        assert caught.value.reason == "certificate-life-too-long"


# --- what may be written down -----------------------------------------------------------------------------------------


def written(**members: Json) -> Json:
    return {"domain": "prod.example", "bundle": "prod.pem", "paths": ["/ns/inference/sa/{name}"], **members}


def test_settings_are_read() -> None:
    assert read_settings({"trust": [written()]}, own="vault.example") == (PROD_SETTING,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"domain": "Prod.example"},
        {"domain": ""},
        {"domain": "vault.example"},
        {"paths": []},
        {"paths": ["/ns/inference"]},
        {"paths": ["/{name}/{name}"]},
        {"paths": ["/ns/{name}.x"]},
        {"paths": ["ns/{name}"]},
        {"paths": ["/ns//{name}"]},
        {"paths": ["/../{name}"]},
        {"paths": ["/*/{name}"]},
        {"longest": 2 * 86400},
        {"longest": 0},
        {"people": True},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Json]) -> None:
    with pytest.raises(StrongroomError):
        read_settings({"trust": [written(**wrong)]}, own="vault.example")


def test_a_domain_is_named_once() -> None:
    with pytest.raises(UsageError):
        read_settings({"trust": [written(), written(bundle="other.pem")]}, own="vault.example")


def test_an_authority_stands_for_one_domain() -> None:
    other = replace(PROD_SETTING, domain="test.example")
    shared = frozenset({PROD.der})
    with pytest.raises(UsageError):
        make_trust(OWN, [(PROD_SETTING, shared), (other, shared)])
    with pytest.raises(UsageError):
        make_trust(OWN, [(PROD_SETTING, frozenset({OURS.der}))])


def test_a_bundle_holds_authorities() -> None:
    assert read_bundle(PROD.pem + TEST.pem) == {PROD.der, TEST.der}
    leaf, _key = PROD.leaf(Shape(names=(uri("spiffe://prod.example/x"),), at=AT))
    for wrong in (b"", b"junk", PROD.pem[:-60], PROD.pem + leaf.public_bytes(Encoding.PEM), PROD.pem * 20000):
        with pytest.raises(MalformedError):
            read_bundle(wrong)


@pytest.mark.parametrize("authorities", [(), (b"junk",), (b"",)])
def test_without_an_authority_the_server_does_not_start(authorities: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError):
        server_context(authorities)


# --- whatever comes ---------------------------------------------------------------------------------------------------

segments = st.text(st.characters(min_codepoint=0, max_codepoint=0x2FF), max_size=12)


@given(st.lists(segments, max_size=6), st.sampled_from(["spiffe://", "spiffe:/", "SPIFFE://", "https://", ""]))
def test_an_id_is_read_or_refused_and_never_holds_a_strange_segment(parts: list[str], scheme: str) -> None:
    text = scheme + "/".join(parts)
    try:
        domain, path = spiffe_id(text)
    except NoIdentityError:
        return
    assert text == f"spiffe://{domain}{path}"
    assert path.startswith("/")
    assert all(segment and segment not in {".", ".."} and segment.isascii() for segment in path[1:].split("/"))


@given(st.binary(max_size=300))
def test_no_bytes_of_a_certificate_break_the_gate(data: bytes) -> None:
    with pytest.raises(NoIdentityError):
        identify(Peer(data, PROD.der), TRUST, AT)


ENCLAVE = shown("spiffe://prod.example/ns/inference/sa/gpu-1")


@given(st.integers(0, 4095), st.integers(1, 255))
def test_a_changed_certificate_is_refused_or_still_of_its_domain(place: int, change: int) -> None:
    changed = bytearray(ENCLAVE.certificate)
    changed[place % len(changed)] ^= change
    try:
        found = identify(Peer(bytes(changed), ENCLAVE.authority), TRUST, AT)
    except NoIdentityError:
        return
    # TLS has checked the signature, so this can't come; even so nobody becomes a person.
    assert found.party is Party.ENCLAVE


def test_a_trust_domain_is_whole_by_itself() -> None:
    bare = TrustDomain(name="x", authorities=frozenset(), longest=1)
    with pytest.raises(NoIdentityError):
        identify(shown("spiffe://x/person/dana"), {"x": bare}, AT)
