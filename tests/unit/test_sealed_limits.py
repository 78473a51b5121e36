"""The sealed format's limits are refused before anything large is done; its recipients are checked as it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import Envelope
from strongroom.core.errors import MalformedError
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.keys.recipient import DeliveryError, RecipientIdentity, encrypt_to
from strongroom.release.stanzas import open_stanza
from strongroom.sealing.canary import MAX_CANARIES, Canary
from strongroom.sealing.errors import (
    ExtendedError,
    NoStanzaError,
    RecipientsTamperedError,
    SealedIndexError,
    UnsafeNameError,
    WrongDataKeyError,
)
from strongroom.sealing.floe import MAX_SEGMENTS
from strongroom.sealing.header import HEADER_LENGTH, Geometry
from strongroom.sealing.index import MAX_INDEX, Index, SealedFile
from strongroom.sealing.manifest import MAX_OBJECTS, Manifest, ManifestObject, read_manifest
from strongroom.sealing.names import file_name
from strongroom.sealing.prelude import key_commitment
from strongroom.sealing.recipients import MAX_RECIPIENTS_FILE, MAX_STANZAS, Recipients, Stanza, StanzaKind
from strongroom.sealing.recipients import stanza_context as context_of
from support.sealed import GENESIS, MODEL, data_key
from support.sealed_vectors import directory, load

KIND = StanzaKind.HPKE_MLKEM768_X25519


def _object(number: int) -> ManifestObject:
    size = Geometry.of_plaintext(7, 1 << 16).size
    return ManifestObject(object_id=number.to_bytes(16, "big"), size=size, header=Digest.of(b"h"), root=Digest.of(b"r"))


def _manifest() -> Manifest:
    found = read_manifest(Envelope.parse(directory("atlas-1")["manifest.json"]))
    return replace(found, commitment=key_commitment(data_key()), genesis=GENESIS, model=MODEL)


def test_more_objects_than_a_manifest_holds_are_refused() -> None:
    full = replace(_manifest(), index=_object(0), objects=tuple(_object(one) for one in range(1, MAX_OBJECTS + 1)))
    assert Manifest.parse(full.to_bytes()) == full
    members = decode(full.to_bytes())
    assert isinstance(members, dict)
    objects = members["objects"]
    assert isinstance(objects, list)
    with pytest.raises(MalformedError):
        Manifest.parse(encode(members | {"objects": [*objects, _object(MAX_OBJECTS + 1).to_json()]}))


def test_an_index_that_is_too_long_or_has_too_many_canaries_is_refused() -> None:
    manifest = replace(_manifest(), index=_object(0), objects=(_object(1),))
    file = SealedFile(name="a", mode=0o644, size=7, object_id=_object(1).object_id)
    canaries = tuple(Canary.of_tokens(str(one), [], [1]) for one in range(MAX_CANARIES + 1))
    assert Index.parse(Index((file,), canaries[1:]).to_bytes(), manifest).canaries == canaries[1:]
    with pytest.raises(SealedIndexError):
        Index.parse(Index((file,), canaries).to_bytes(), manifest)
    with pytest.raises(SealedIndexError):
        Index.parse(b" " * (MAX_INDEX + 1), manifest)
    long = Canary.of_tokens("long", [2**31 - 1] * 4096, [2**31 - 1] * 4096)
    with pytest.raises(SealedIndexError):
        Index((file,), (long,) * 60).to_bytes()


def test_names_that_are_too_long_or_too_deep_are_refused() -> None:
    assert file_name("/".join("d" * 16))
    assert file_name("/".join(["n" * 204] * 5))
    for name in ("/".join("d" * 17), "/".join(["n" * 205] * 5), "n" * 256):
        with pytest.raises(UnsafeNameError):
            file_name(name)


def test_more_segments_than_floe_allows_are_refused() -> None:
    most = HEADER_LENGTH + MAX_SEGMENTS * (1 << 16)
    assert Geometry.of_object(most, 1 << 16).segments == MAX_SEGMENTS
    with pytest.raises(ExtendedError):
        Geometry.of_object(most + 33, 1 << 16)


def _stanza(number: int) -> Stanza:
    return Stanza(kind=KIND, recipient=Digest.of(b"%d" % number), ciphertext=b"c")


def test_more_recipients_than_allowed_are_refused() -> None:
    commitment = key_commitment(data_key())
    full = Recipients.of(tuple(_stanza(one) for one in range(MAX_STANZAS)), commitment=commitment, data_key=data_key())
    assert Recipients.parse(full.to_bytes()) == full
    with pytest.raises(MalformedError):
        Recipients.of(tuple(_stanza(one) for one in range(MAX_STANZAS + 1)), commitment=commitment, data_key=data_key())
    for none in ((), (_stanza(1), _stanza(1))):
        with pytest.raises(MalformedError):
            Recipients.of(none, commitment=commitment, data_key=data_key())
    with pytest.raises(MalformedError):
        Recipients.parse(b" " * (MAX_RECIPIENTS_FILE + 1))


@pytest.mark.parametrize(
    "change", [{"v": 2}, {"extra": 1}, {"commitment": "AAAA"}, {"stanzas": []}, {"code": 1}, {"code": None}]
)
def test_another_form_of_recipients_is_refused(change: dict[str, Json]) -> None:
    members = decode(directory("atlas-1")["recipients.json"])
    assert isinstance(members, dict)
    with pytest.raises(MalformedError):
        Recipients.parse(encode(members | change))
    with pytest.raises(MalformedError):
        Recipients.parse(encode(members) + b"\n")


def _identity() -> RecipientIdentity:
    return RecipientIdentity(SecretBytes(bytearray.fromhex(load()["recipient_identity"])))


def _for(
    manifest: Manifest, holds: SecretBytes, *, model: ModelId = MODEL, code: SecretBytes | None = None
) -> Recipients:
    context = context_of(
        genesis=manifest.genesis,
        model=model,
        version=manifest.version,
        commitment=manifest.commitment,
    )
    identity = _identity()
    stanza = Stanza(kind=KIND, recipient=identity.digest, ciphertext=encrypt_to(identity.public, holds, context))
    return Recipients.of((stanza,), commitment=manifest.commitment, data_key=code or data_key())


def test_whoever_takes_the_key_from_a_stanza_compares_it_with_the_manifest_and_checks_the_list() -> None:
    manifest = _manifest()
    assert len(open_stanza(_for(manifest, data_key()), _identity(), manifest)) == 32
    with pytest.raises(WrongDataKeyError):
        open_stanza(_for(manifest, data_key(8)), _identity(), manifest)
    with pytest.raises(WrongDataKeyError):
        open_stanza(_for(manifest, SecretBytes(bytearray(31))), _identity(), manifest)
    with pytest.raises(RecipientsTamperedError):
        open_stanza(_for(manifest, data_key(), code=data_key(8)), _identity(), manifest)
    with pytest.raises(DeliveryError):
        open_stanza(_for(manifest, data_key(), model=ModelId("boreas")), _identity(), manifest)
    stranger = RecipientIdentity(SecretBytes(bytearray(range(96))))
    with pytest.raises(NoStanzaError):
        open_stanza(_for(manifest, data_key()), stranger, manifest)
