from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.attestation.chain import MAX_DEPTH, is_ca, signed_by, walk
from strongroom.attestation.errors import ChainRefusedError
from strongroom.attestation.isolation import IsolationClass
from strongroom.attestation.trust_anchors import (
    MAX_CERTIFICATE,
    TrustAnchor,
    Vendor,
    load_certificate,
    vendor_anchors,
)
from strongroom.core.errors import MalformedError
from support.certificates import usage

NOW = 1_795_000_000
DAY = 86400
CAS = usage(sign=False, certificates=True, lists=True)


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def anchor(self) -> TrustAnchor:
        return TrustAnchor(Vendor.TPM, self.der, IsolationClass.MEASURED_HOST)


def make(
    name: str,
    parent: Made | None = None,
    *,
    key: Any = None,
    signer: Any = None,
    issuer: str = "",
    authority: bool | None = True,
    room: int | None = None,
    key_usage: x509.KeyUsage | None = CAS,
    days: tuple[int, int] = (-100, 100),
    hashed: Any = None,
    pss: bool = False,
    extra: tuple[x509.ExtensionType, bool] | None = None,
) -> Made:
    """Make a certificate, right or wrong."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    named = issuer or (parent.certificate.subject.rfc4514_string()[3:] if parent else name)
    now = datetime.fromtimestamp(NOW, UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, named)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )
    if authority is not None:
        constraints = x509.BasicConstraints(ca=authority, path_length=room if authority else None)
        builder = builder.add_extension(constraints, critical=True)
    if key_usage is not None:
        builder = builder.add_extension(key_usage, critical=True)
    if extra is not None:
        builder = builder.add_extension(extra[0], critical=extra[1])
    own = signer or (parent.key if parent else key)
    algorithm = None if isinstance(own, ed25519.Ed25519PrivateKey) else hashed or SHA256()
    how = padding.PSS(padding.MGF1(SHA384()), padding.PSS.DIGEST_LENGTH) if pss else None
    return Made(builder.sign(own, algorithm, rsa_padding=how), key)


@cache
def root() -> Made:
    return make("root")


@cache
def middle() -> Made:
    return make("middle", root(), room=0)


def leaf(parent: Made, **wrong: Any) -> Made:
    shape: dict[str, Any] = {"authority": False, "key_usage": usage()}
    return make("leaf", parent, **(shape | wrong))


@cache
def weak_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point


@cache
def strong_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def test_a_chain_is_walked_with_or_without_its_root() -> None:
    below = leaf(middle())
    for ders in ([below.der, middle().der], [below.der, middle().der, root().der]):
        path = walk(ders, [make("other").anchor, root().anchor], NOW)
        assert path.anchor == root().anchor
        assert path.leaf == below.certificate
        assert [one.subject.rfc4514_string() for one in path.certificates] == ["CN=leaf", "CN=middle", "CN=root"]
        assert path.looked_up == (False, False)
    assert walk([leaf(root()).der], [root().anchor], NOW).anchor == root().anchor


def test_a_chain_ends_when_its_first_certificate_does() -> None:
    short = make("middle", root(), days=(-1, 7))
    for below, days in ((leaf(short), 7), (leaf(middle(), days=(-1, 3)), 3), (leaf(middle()), 100)):
        ders = [below.der, (short if days == 7 else middle()).der]
        assert walk(ders, [root().anchor], NOW).endorsed_until == NOW + days * DAY
    ending = replace(root(), certificate=make("root", key=root().key, days=(-1, 2)).certificate)
    assert walk([leaf(ending).der], [ending.anchor], NOW).endorsed_until == NOW + 2 * DAY


@pytest.mark.parametrize("pss", [True, False])
def test_rsa_is_walked_with_either_padding(pss: bool) -> None:  # noqa: FBT001 - a parameter of the test
    top = make("RSA root", key=strong_rsa(), hashed=SHA384(), pss=pss)
    below = leaf(top, hashed=SHA384(), pss=pss)
    assert walk([below.der], [top.anchor], NOW).leaf == below.certificate


def deep(levels: int) -> tuple[list[bytes], Made]:
    top = above = make("top")
    ders: list[bytes] = []
    for level in range(levels - 1):
        above = make(f"level {level}", above)
        ders.insert(0, above.der)
    return [leaf(above).der, *ders], top


def test_the_deepest_chain_is_walked_and_no_deeper() -> None:
    ders, top = deep(MAX_DEPTH - 1)
    assert len(walk(ders, [top.anchor], NOW).certificates) == MAX_DEPTH
    ders, top = deep(MAX_DEPTH)
    with pytest.raises(ChainRefusedError, match="below its root, not 6"):
        walk(ders, [top.anchor], NOW)


def faults() -> dict[str, tuple[list[bytes], str]]:
    stranger = ec.generate_private_key(ec.SECP256R1())
    above, good = middle(), leaf(middle())

    def under(**wrong: Any) -> list[bytes]:
        made = make("middle", root(), **wrong)
        return [leaf(made).der, made.der]

    forged_root = make("root", key=stranger)
    narrow = make("narrow", root(), room=0)
    below_narrow = make("below narrow", narrow)
    weak = make("middle", root(), key=weak_rsa())
    odd = make("middle", root(), key=ec.generate_private_key(ec.SECP256K1()))
    edwards = make("middle", root(), key=ed25519.Ed25519PrivateKey.generate())
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    constraints = x509.NameConstraints([x509.DNSName("example.invalid")], None)
    return {
        "empty": ([], "below its root, not 0"),
        "missing intermediate": ([good.der], "doesn't lead to a pinned root"),
        "wrong order": ([above.der, good.der], "isn't signed by the next one"),
        "one too many between": ([good.der, above.der, make("idle").der], "isn't signed by the next one"),
        "twice the same": ([good.der, good.der, above.der], "isn't signed by the next one"),
        "signed by a stranger": ([leaf(above, signer=stranger).der, above.der], "isn't signed by the next one"),
        "right key, other issuer": ([leaf(above, issuer="other").der, above.der], "isn't signed by the next one"),
        "a root of the same name": ([leaf(forged_root).der, forged_root.der], "doesn't lead to a pinned root"),
        "leaf expired": ([leaf(above, days=(-9, -1)).der, above.der], "isn't valid at this time"),
        "leaf not yet valid": ([leaf(above, days=(1, 9)).der, above.der], "isn't valid at this time"),
        "issuer expired": (under(days=(-9, -1)), "isn't valid at this time"),
        "issuer is no CA": (under(authority=False), "isn't a CA"),
        "issuer says nothing": (under(authority=None), "isn't a CA"),
        "issuer may not sign certificates": (under(key_usage=usage(lists=True)), "may not sign certificates"),
        "issuer without key usage": (under(key_usage=None), "has no key usage"),
        "path too long": ([leaf(below_narrow).der, below_narrow.der, narrow.der], "longer than one of its CAs"),
        "unknown critical extension": ([leaf(above, extra=(unknown, True)).der, above.der], "critical extension"),
        "names constrained": (under(extra=(constraints, True)), "critical extension"),
        "issuer has a weak key": ([leaf(weak).der, weak.der], "isn't signed by the next one"),
        "issuer has another curve": ([leaf(odd).der, odd.der], "isn't signed by the next one"),
        "issuer has an Edwards key": ([leaf(edwards).der, edwards.der], "isn't signed by the next one"),
    }


@pytest.mark.parametrize("fault", list(faults()))
def test_a_faulty_chain_is_refused_for_its_fault(fault: str) -> None:
    ders, why = faults()[fault]
    with pytest.raises(ChainRefusedError, match=why):
        walk(ders, [root().anchor], NOW)


def test_a_pinned_root_is_held_to_the_same_rules() -> None:
    wrongs: tuple[tuple[dict[str, Any], str], ...] = (
        ({"authority": False}, "isn't a CA"),
        ({"key_usage": usage()}, "may not sign certificates"),
        ({"room": 0}, "longer than one of its CAs"),
        ({"days": (-9, -1)}, "isn't valid at this time"),
    )
    for wrong, why in wrongs:
        top = make("wrong root", **wrong)
        between = make("between", top)
        with pytest.raises(ChainRefusedError, match=why):
            walk([leaf(between).der, between.der], [top.anchor], NOW)


@pytest.mark.parametrize(
    ("hashed", "counts"),
    [(SHA1(), False), (SHA256(), True), (SHA384(), True), (None, False)],  # noqa: S303 - that is the point
)
def test_a_weak_hash_signs_nothing(hashed: Any, counts: bool) -> None:  # noqa: FBT001 - a parameter of the test
    # The library makes no such signatures any more, and still verifies them.
    certificate: Any = SimpleNamespace(signature_hash_algorithm=hashed, verify_directly_issued_by=lambda _issuer: None)
    assert signed_by(certificate, root().certificate) is counts


def test_unknown_extensions_that_are_not_critical_do_no_harm() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
    below = leaf(middle(), extra=(unknown, False))
    assert walk([below.der, middle().der], [root().anchor], NOW).leaf == below.certificate


def test_a_chain_is_judged_at_the_given_time() -> None:
    ders = [leaf(middle()).der, middle().der]
    for at in (NOW - 100 * DAY, NOW, NOW + 100 * DAY):
        walk(ders, [root().anchor], at)
    for at in (NOW - 100 * DAY - 1, NOW + 100 * DAY + 1):
        with pytest.raises(ChainRefusedError, match="valid at this time"):
            walk(ders, [root().anchor], at)


def test_a_pinned_root_vouches_for_others_and_never_for_itself() -> None:
    with pytest.raises(ChainRefusedError, match="vouches for"):
        walk([root().der], [root().anchor], NOW)
    with pytest.raises(ChainRefusedError, match="vouches for"):
        walk([root().der, root().der], [root().anchor], NOW)


def test_without_a_pinned_root_nothing_is_believed() -> None:
    ders = [leaf(root()).der, root().der]
    for anchors in ((), (middle().anchor,), vendor_anchors().anchors):
        with pytest.raises(ChainRefusedError):
            walk(ders, anchors, NOW)


def test_every_flipped_bit_of_a_leaf_is_refused() -> None:
    made = leaf(root())
    der = made.der
    # How many of the signature's last bits are unused is said outside of what is signed, and changes nothing signed.
    unused = len(der) - len(made.certificate.signature) - 1
    for bit in (bit for bit in range(len(der) * 8) if bit // 8 != unused):
        changed = bytearray(der)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ChainRefusedError, MalformedError)):
            walk([bytes(changed)], [root().anchor], NOW)


def test_every_flipped_bit_of_an_issuer_is_refused() -> None:
    ders = [leaf(middle()).der, middle().der]
    for bit in range(len(ders[1]) * 8 - 8 * 80):  # up to its signature
        changed = bytearray(ders[1])
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((ChainRefusedError, MalformedError)):
            walk([ders[0], bytes(changed)], [root().anchor], NOW)


def test_a_name_that_can_not_be_read_is_malformed() -> None:
    der = leaf(middle()).der
    at = der.index(b"\x0c\x06middle")
    for tag in (0x0D, 0x03, 0x30, 0xFF):
        changed = der[:at] + bytes([tag]) + der[at + 1 :]
        with pytest.raises(MalformedError):
            walk([changed, middle().der], [root().anchor], NOW)


def test_bytes_that_are_not_certificates_are_malformed() -> None:
    for junk in (b"", b"\x30\x00", root().der[:-1], root().der + b"\0", bytes(MAX_CERTIFICATE + 1)):
        with pytest.raises(MalformedError):
            walk([junk], [root().anchor], NOW)
        with pytest.raises(MalformedError):
            walk([leaf(root()).der], [replace(root().anchor, certificate=junk)], NOW)


def test_what_is_a_ca_and_what_it_signed() -> None:
    assert is_ca(root().certificate)
    assert not is_ca(leaf(root()).certificate)
    assert not is_ca(make("nothing", authority=None).certificate)
    assert signed_by(root().certificate, root().certificate)
    assert not signed_by(middle().certificate, make("root").certificate)


def test_every_shipped_root_signs_itself_and_may_sign() -> None:
    for anchor in vendor_anchors().anchors:
        certificate = load_certificate(anchor.certificate)
        assert signed_by(certificate, certificate), anchor.vendor
        assert is_ca(certificate), anchor.vendor
    assert len({anchor.digest for anchor in vendor_anchors().anchors}) == len(vendor_anchors().anchors)
