"""OpenSSF Model Signing v1.0: upstream's vectors, and our own, made when they are needed and wrong in one way each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from strongroom.core.digest import Digest
from strongroom.intake.rules import IntakeRefusedError, Rule
from strongroom.intake.signatures import SignedBy, check_files, verify_by_certificate, verify_by_key
from strongroom.intake.statements import SignatureMode, read_bundle, read_manifest
from support.certificates import Authority, Shape, usage
from support.model_signing import Signing
from support.vectors import vectors_folder

AT = 1_800_000_000
UPSTREAM_AT = 1_764_150_000
FILES = {"a.safetensors": b"abc", "config.json": b"{}"}
DIGESTS = {name: Digest.of(data) for name, data in FILES.items()}
CURVES: list[ec.EllipticCurve] = [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]
_KEY = ec.generate_private_key(ec.SECP256R1())
_SIGNER = "CN=model signer"


def _upstream(name: str) -> bytes:
    return (vectors_folder("oms") / "v1.0" / name).read_bytes()


def _refused(data: bytes, *keys: ec.EllipticCurvePublicKey) -> Rule:
    with pytest.raises(IntakeRefusedError) as found:
        verify_by_key(read_bundle(data), keys or (_KEY.public_key(),))
    return found.value.rule


@pytest.mark.parametrize("name", ["empty", "missing-envelope", "missing-tlog-entries", "missing-verification-material"])
def test_upstreams_invalid_bundles_are_refused(name: str) -> None:
    with pytest.raises(IntakeRefusedError) as found:
        read_bundle(_upstream(f"invalid/{name}.bundle.json"))
    assert found.value.rule is Rule.SIGNATURE_FORM


def test_upstreams_wrong_predicate_is_refused() -> None:
    bundle = read_bundle(_upstream("invalid-payload/wrong-predicate.bundle.json"))
    with pytest.raises(IntakeRefusedError, match="predicateType"):
        read_manifest(bundle.payload)


def _upstream_chain() -> list[x509.Certificate]:
    bundle = read_bundle(_upstream("valid/certificate.bundle.json"))
    return [x509.load_der_x509_certificate(der) for der in bundle.certificates]


def test_upstreams_valid_bundles_hold() -> None:
    """The same key signed two of them; its certificate's issuer stands for an anchor, since no root comes along."""
    leaf, above = _upstream_chain()
    key = leaf.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    by_key = verify_by_key(read_bundle(_upstream("valid/key.bundle.json")), [key])
    by_certificate = verify_by_certificate(
        read_bundle(_upstream("valid/certificate.bundle.json")),
        [above],
        UPSTREAM_AT,
        subjects=frozenset({leaf.subject.rfc4514_string()}),
    )
    assert by_key.manifest.files == by_certificate.manifest.files
    assert set(by_key.manifest.files) == {"signme-1", "signme-2"}


def test_upstreams_keyless_bundle_is_read_and_left_to_its_library() -> None:
    bundle = read_bundle(_upstream("valid/sigstore.bundle.json"))
    assert bundle.mode is SignatureMode.SIGSTORE
    assert set(read_manifest(bundle.payload).files) == {"signme-1", "signme-2"}
    with pytest.raises(IntakeRefusedError):
        verify_by_key(bundle, [_KEY.public_key()])


def test_upstreams_ignored_path_isnt_let_in() -> None:
    """The signer left `ignore-me` out of the signature: delivered with the rest, it is an extra file."""
    manifest = read_manifest(read_bundle(_upstream("valid/key.bundle.json")).payload)
    assert "ignore-me" in manifest.ignored
    check_files(manifest, manifest.files)
    with pytest.raises(IntakeRefusedError) as found:
        check_files(manifest, {**manifest.files, "ignore-me": Digest.of(b"")})
    assert found.value.rule is Rule.EXTRA_FILE


@pytest.mark.parametrize("curve", CURVES, ids=lambda one: one.name)
def test_each_curve_signs(curve: ec.EllipticCurve) -> None:
    key = ec.generate_private_key(curve)
    found = verify_by_key(read_bundle(Signing(key=key, files=FILES).bundle()), [_KEY.public_key(), key.public_key()])
    check_files(found.manifest, DIGESTS)
    assert _refused(Signing(key=key, files=FILES).bundle()) is Rule.SIGNATURE_BAD


def test_another_payload_isnt_signed() -> None:
    good, other = Signing(key=_KEY, files=FILES).bundle(), Signing(key=_KEY, files={"b": b""}).bundle()
    payload = b'"payload"'
    mixed = good.replace(good.split(payload)[1].split(b",")[0], other.split(payload)[1].split(b",")[0])
    assert _refused(mixed) is Rule.SIGNATURE_BAD


@pytest.mark.parametrize(
    ("statement", "predicate"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, {}),
        ({"predicateType": "https://model_signing/signature/v2.0"}, {}),
        ({"subject": []}, {}),
        ({"subject": [{"name": "model", "digest": {"sha256": "0" * 64}}]}, {}),
        ({"subject": [{"name": "a", "digest": {"sha256": "0" * 64}}] * 2}, {}),
        ({"more": 1}, {}),
        ({}, {"resources": []}),
        ({}, {"resources": [{"name": "../x", "algorithm": "sha256", "digest": "0" * 64}]}),
        ({}, {"resources": [{"name": "x", "algorithm": "blake2b", "digest": "0" * 64}]}),
        ({}, {"resources": [{"name": "x", "algorithm": "sha256", "digest": "0" * 63}]}),
        ({}, {"serialization": {"method": "shards", "hash_type": "sha256"}}),
        ({}, {"serialization": {"method": "files", "hash_type": "blake2b"}}),
        ({}, {"more": 1}),
    ],
)
def test_a_signed_statement_of_another_form_is_refused(statement: dict[str, Any], predicate: dict[str, Any]) -> None:
    made = Signing(key=_KEY, files=FILES, statement=statement, predicate=predicate)
    assert _refused(made.bundle()) is Rule.SIGNATURE_FORM


def test_every_file_is_there_and_none_besides() -> None:
    manifest = verify_by_key(read_bundle(Signing(key=_KEY, files=FILES).bundle()), [_KEY.public_key()]).manifest
    for files, rule in (
        ({"a.safetensors": DIGESTS["a.safetensors"]}, Rule.MISSING_FILE),
        ({**DIGESTS, "more": Digest.of(b"")}, Rule.EXTRA_FILE),
        ({**DIGESTS, "config.json": Digest.of(b"")}, Rule.DIGEST_MISMATCH),
    ):
        with pytest.raises(IntakeRefusedError) as found:
            check_files(manifest, files)
        assert found.value.rule is rule


_CODE_SIGNER = Shape(at=AT - 60, common_name="model signer", purposes=(ExtendedKeyUsageOID.CODE_SIGNING,))
_ROOT = Authority.make("root", AT)
_BETWEEN = Authority.make("between", AT, parent=_ROOT)


def _by_certificate(
    shape: Shape = _CODE_SIGNER,
    *,
    issuer: Authority = _BETWEEN,
    along: tuple[Authority, ...] = (_BETWEEN,),
    anchors: tuple[Authority, ...] = (_ROOT,),
    at: int = AT,
) -> SignedBy:
    leaf, pem = issuer.leaf(shape)
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = Signing(key=key, files=FILES, chain=[leaf, *(one.certificate for one in along)])
    trusted = [one.certificate for one in anchors]
    return verify_by_certificate(read_bundle(made.bundle()), trusted, at, subjects=frozenset({_SIGNER}))


def test_a_certificate_leads_to_its_anchor() -> None:
    for found in (
        _by_certificate(),
        _by_certificate(along=(_BETWEEN, _ROOT)),
        _by_certificate(anchors=(_BETWEEN,)),
        _by_certificate(anchors=(_BETWEEN,), along=()),
    ):
        assert found.signer == _SIGNER


@pytest.mark.parametrize(
    "wrong",
    [
        {"anchors": ()},
        {"anchors": (Authority.make("root", AT),)},
        {"along": ()},
        {"along": (_ROOT, _BETWEEN)},
        {"at": AT + 7200},
        {"at": AT - 7200},
        {"shape": replace(_CODE_SIGNER, common_name="somebody else")},
        {"shape": replace(_CODE_SIGNER, purposes=(ExtendedKeyUsageOID.SERVER_AUTH,))},
        {"shape": replace(_CODE_SIGNER, purposes=None)},
        {"shape": replace(_CODE_SIGNER, usage=None)},
        {"shape": replace(_CODE_SIGNER, usage=usage(sign=False))},
        {"issuer": Authority.make("between", AT)},
    ],
)
def test_a_certificate_that_leads_elsewhere_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(IntakeRefusedError) as found:
        _by_certificate(**wrong)
    assert found.value.rule is Rule.SIGNATURE_SIGNER


def test_a_signers_certificate_issues_none() -> None:
    """A signer who isn't an authority makes a certificate for somebody else."""
    leaf, pem = _BETWEEN.leaf(_CODE_SIGNER)
    key = load_pem_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    with pytest.raises(IntakeRefusedError):
        _by_certificate(issuer=Authority(leaf, key), along=(Authority(leaf, key), _BETWEEN))
