"""The manifest binds deployment, model, version, predecessor and publisher; each mismatch has its own refusal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope, payload_type, sign
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import Ed25519Signer, HybridSigner, PublicKey, SignatureAlgorithm, SignatureError
from strongroom.sealing.errors import (
    NewerVersionError,
    NotHybridError,
    OlderVersionError,
    OtherDeploymentError,
    OtherManifestError,
    OtherModelError,
    WrongSignerError,
)
from strongroom.sealing.manifest import (
    MAX_OBJECTS,
    Manifest,
    ManifestExpectation,
    ManifestObject,
    manifest_envelope,
    read_manifest,
    verify_manifest,
)
from support.sealed import GENESIS, MODEL, SIGNER


def _object(byte: int) -> ManifestObject:
    return ManifestObject(
        object_id=bytes([byte]) * 16, size=5000 + byte, header=Digest.of(b"h%d" % byte), root=Digest.of(b"r%d" % byte)
    )


MANIFEST = Manifest(
    genesis=GENESIS,
    model=MODEL,
    version=3,
    predecessor=Digest.of(b"version 2"),
    data_key_id="atlas-3",
    commitment=b"c" * 32,
    publisher=PersonId("dana"),
    index=_object(9),
    objects=(_object(1), _object(2)),
)
EXPECT = ManifestExpectation(genesis=GENESIS, model=MODEL, version=3, digest=MANIFEST.digest)
ENVELOPE = manifest_envelope(MANIFEST, SIGNER)


def test_a_signed_manifest_verifies_and_reads_back() -> None:
    assert verify_manifest(Envelope.parse(ENVELOPE.to_bytes()), SIGNER.public_key, expect=EXPECT) == MANIFEST
    assert MANIFEST.digest == ENVELOPE.digest


@pytest.mark.parametrize(
    ("expect", "error"),
    [
        (replace(EXPECT, genesis=Digest.of(b"another")), OtherDeploymentError),
        (replace(EXPECT, model=ModelId("boreas")), OtherModelError),
        (replace(EXPECT, version=4), OlderVersionError),
        (replace(EXPECT, version=2), NewerVersionError),
        (replace(EXPECT, digest=Digest.of(b"another")), OtherManifestError),
    ],
)
def test_each_mismatch_has_its_own_refusal(expect: ManifestExpectation, error: type[Exception]) -> None:
    with pytest.raises(error):
        verify_manifest(ENVELOPE, SIGNER.public_key, expect=expect)


def test_another_signer_is_refused() -> None:
    other = HybridSigner.from_seed(b"x" * 32)
    with pytest.raises(WrongSignerError):
        verify_manifest(ENVELOPE, other.public_key, expect=EXPECT)
    with pytest.raises(WrongSignerError):
        verify_manifest(manifest_envelope(MANIFEST, other), SIGNER.public_key, expect=EXPECT)
    with pytest.raises(WrongSignerError):
        verify_manifest(replace(ENVELOPE, signatures=()), SIGNER.public_key, expect=EXPECT)


def test_a_manifest_is_not_talked_down_to_one_algorithm() -> None:
    plain = Ed25519Signer.from_seed(b"p" * 32)
    half = PublicKey(SignatureAlgorithm.ED25519, SIGNER.public_key.raw[:32])
    genuine = ENVELOPE.signatures[0]
    stripped = replace(genuine, key_id=half.key_id, value=genuine.value[:64])
    for envelope, key in (
        (manifest_envelope(MANIFEST, plain), plain.public_key),
        (ENVELOPE.signed_by(plain), plain.public_key),
        (replace(ENVELOPE, signatures=(stripped,)), half),
    ):
        with pytest.raises(NotHybridError) as caught:
            verify_manifest(envelope, key, expect=EXPECT)
        assert caught.value.code == "manifest-not-hybrid"
    for value in (genuine.value[:64], genuine.value[64:]):
        with pytest.raises(SignatureError):
            verify_manifest(
                replace(ENVELOPE, signatures=(replace(genuine, value=value),)), SIGNER.public_key, expect=EXPECT
            )


def test_a_bad_signature_and_a_swapped_payload_are_refused() -> None:
    swapped = replace(ENVELOPE, payload=replace(MANIFEST, publisher=PersonId("erin")).to_bytes())
    with pytest.raises(SignatureError):
        verify_manifest(swapped, SIGNER.public_key, expect=replace(EXPECT, digest=None))


def test_another_kind_of_signed_object_is_refused() -> None:
    with pytest.raises(MalformedError):
        verify_manifest(sign(payload_type("request.v1"), MANIFEST.to_bytes(), SIGNER), SIGNER.public_key, expect=EXPECT)


def test_version_and_predecessor_belong_together() -> None:
    with pytest.raises(MalformedError):
        replace(MANIFEST, version=1)
    with pytest.raises(MalformedError):
        replace(MANIFEST, predecessor=None)
    with pytest.raises(MalformedError):
        replace(MANIFEST, version=0, predecessor=None)


def test_objects_are_there_once_and_in_order() -> None:
    for objects in [(), (_object(2), _object(1)), (_object(1), _object(1)), (_object(1), _object(9))]:
        with pytest.raises(MalformedError):
            replace(MANIFEST, objects=objects)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("v", True),
        ("v", 2),
        ("version", "3"),
        ("version", 0),
        ("model", "../atlas"),
        ("model", "Atlas"),
        ("predecessor", None),
        ("commitment", "AAAA"),
        ("data_key", ""),
        ("data_key", "a b"),
        ("genesis", "md5:00"),
        ("index", {}),
        ("objects", []),
        ("objects", [{"object": "00", "size": 1, "header": "", "root": ""}]),
        ("extra", 1),
    ],
)
def test_any_other_member_is_refused(member: str, value: Json) -> None:
    parsed = decode(MANIFEST.to_bytes())
    assert isinstance(parsed, dict)
    with pytest.raises(MalformedError):
        Manifest.parse(encode(parsed | {member: value}))


def test_a_missing_member_is_refused() -> None:
    parsed = decode(MANIFEST.to_bytes())
    assert isinstance(parsed, dict)
    for member in parsed:
        with pytest.raises(MalformedError):
            Manifest.parse(encode({name: value for name, value in parsed.items() if name != member}))
    first = decode(replace(MANIFEST, version=1, predecessor=None).to_bytes())
    assert isinstance(first, dict)
    first.pop("predecessor")
    with pytest.raises(MalformedError):
        Manifest.parse(encode(first))


def test_reading_alone_believes_nothing_but_parses() -> None:
    assert read_manifest(replace(ENVELOPE, signatures=())) == MANIFEST


def test_a_full_manifest_fits_its_envelope() -> None:
    objects = tuple(
        ManifestObject(
            object_id=number.to_bytes(16, "big"), size=2**53 - 1, header=Digest.of(b"h"), root=Digest.of(b"r")
        )
        for number in range(MAX_OBJECTS)
    )
    largest = replace(MANIFEST, objects=objects)
    assert read_manifest(Envelope.parse(manifest_envelope(largest, SIGNER).to_bytes())) == largest
