"""The signed manifest: which sealed objects make up one version of one model, and which version came before.

A DSSE envelope over canonical JSON, signed by a hybrid key. It is public and names no file; names and sizes are in the
sealed index, whose ciphertext the manifest names like that of every object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NewType

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.envelope import MAX_PAYLOAD, Envelope, payload_type, sign, verify
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import ModelId, PersonId, model_id, person_id
from strongroom.core.signature import PublicKey, SignatureAlgorithm, Signer
from strongroom.sealing.errors import (
    NewerVersionError,
    NotHybridError,
    OlderVersionError,
    OtherDeploymentError,
    OtherManifestError,
    OtherModelError,
    WrongSignerError,
)
from strongroom.sealing.floe import OVERHEAD
from strongroom.sealing.header import HEADER_LENGTH
from strongroom.sealing.open import ObjectExpectation
from strongroom.sealing.prelude import COMMITMENT_LENGTH, ID_LENGTH, model_version_id

MANIFEST_TYPE: Final = payload_type("manifest.v1")
MAX_OBJECTS: Final = 2048
INDEX_NAME: Final = "index.sealed"
_DATA_KEY_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/-]{0,126}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestObject:
    """One sealed object, as the publisher signed it."""

    object_id: bytes
    """16 bytes; their hex is the object's opaque name."""
    size: int
    """Bytes of ciphertext, header included."""
    header: Digest
    """SHA-256 of the first 4,096 bytes, FLOE's header tag among them."""
    root: Digest
    """Root of the tree over header and segments (:mod:`strongroom.sealing.tree`)."""

    @property
    def name(self) -> str:
        """Where the object lies in the sealed directory."""
        return object_name(self.object_id)

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "object": self.object_id.hex(),
            "size": self.size,
            "header": str(self.header),
            "root": str(self.root),
        }

    @classmethod
    def read(cls, fields: Fields) -> ManifestObject:
        """Read the JSON form."""
        return cls(
            object_id=fields.parsed("object", object_id_of, max_length=2 * ID_LENGTH),
            size=fields.integer("size", least=HEADER_LENGTH + OVERHEAD),
            header=fields.digest("header"),
            root=fields.digest("root"),
        )


def object_name(object_id: bytes) -> str:
    """Return where an object lies in the sealed directory."""
    return f"objects/{object_id.hex()}.sealed"


def object_id_of(text: str) -> bytes:
    """Read an object id.

    :raises MalformedError: not 32 lower-case hex characters.
    """
    if not re.fullmatch(r"[0-9a-f]{32}", text):
        raise MalformedError("an object id is 32 lower-case hex characters")
    return bytes.fromhex(text)


def _data_key_id(text: str) -> str:
    if not _DATA_KEY_ID.fullmatch(text):
        raise MalformedError("a data key id is 1 to 128 characters of A-Z, a-z, 0-9 and `._:/-`")
    return text


def _commitment(text: str) -> bytes:
    value = from_base64(text)
    if len(value) != COMMITMENT_LENGTH:
        raise MalformedError("a data key commitment has 32 bytes")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One version of one model. Parsed is not verified: see :data:`VerifiedManifest`.

    :raises MalformedError: (construction) a version below 1, a predecessor that doesn't fit the version, no objects or
        too many, or one object twice.
    """

    genesis: Digest
    """The deployment."""
    model: ModelId
    version: int
    predecessor: Digest | None
    """Digest of the manifest of version - 1; None for version 1."""
    data_key_id: str
    """The name under which the keeper knows the data key."""
    commitment: bytes
    """32 bytes that commit to the data key itself."""
    publisher: PersonId
    index: ManifestObject
    objects: tuple[ManifestObject, ...]
    """In ascending order of their ids, which are random: the order tells nothing."""

    def __post_init__(self) -> None:
        if not 1 <= self.version < 2**53:
            raise MalformedError("a model version is a positive integer")
        if (self.version == 1) != (self.predecessor is None):
            raise MalformedError("version 1 has no predecessor, and every later version names one")
        _data_key_id(self.data_key_id)
        if len(self.commitment) != COMMITMENT_LENGTH:
            raise MalformedError("a data key commitment has 32 bytes")
        ids = [item.object_id for item in self.objects]
        if not 1 <= len(ids) <= MAX_OBJECTS:
            raise MalformedError(f"a manifest names 1 to {MAX_OBJECTS} objects")
        if ids != sorted(set(ids)) or self.index.object_id in ids:
            raise MalformedError("a manifest's objects are in ascending order, each there once")

    @property
    def model_version(self) -> bytes:
        """The 16 bytes that each object's prelude carries."""
        return model_version_id(self.genesis, self.model, self.version)

    @property
    def digest(self) -> Digest:
        """The name by which this version is known: digest of the canonical payload."""
        return Digest.of(self.to_bytes())

    @property
    def size(self) -> int:
        """Bytes of ciphertext in all."""
        return self.index.size + sum(item.size for item in self.objects)

    def expectation(self, item: ManifestObject) -> ObjectExpectation:
        """Return what a reader must find in one of this manifest's objects."""
        return ObjectExpectation(
            name=INDEX_NAME if item == self.index else item.name,
            model_version=self.model_version,
            object_id=item.object_id,
            size=item.size,
            header=item.header,
            root=item.root,
        )

    def to_bytes(self) -> bytes:
        """Return the canonical payload, which is what gets signed."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "model": self.model,
                "version": self.version,
                "predecessor": None if self.predecessor is None else str(self.predecessor),
                "data_key": self.data_key_id,
                "commitment": to_base64(self.commitment),
                "publisher": self.publisher,
                "index": self.index.to_json(),
                "objects": [item.to_json() for item in self.objects],
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Manifest:
        """Read the payload.

        :raises MalformedError: not canonical, an unknown, missing or wrong member, or a rule of this class broken.
        """
        with Fields(decode(payload, max_bytes=MAX_PAYLOAD), "manifest") as fields:
            fields.constant("v", 1)
            predecessor = fields.digest("predecessor") if fields.optional("predecessor") else None
            with fields.child("index") as index:
                index_object = ManifestObject.read(index)
            manifest = cls(
                genesis=fields.digest("genesis"),
                model=fields.parsed("model", model_id),
                version=fields.integer("version", least=1),
                predecessor=predecessor,
                data_key_id=fields.parsed("data_key", _data_key_id),
                commitment=fields.parsed("commitment", _commitment),
                publisher=fields.parsed("publisher", person_id),
                index=index_object,
                objects=fields.objects("objects", ManifestObject.read, most=MAX_OBJECTS),
            )
        if manifest.to_bytes() != payload:
            # One manifest, one sequence of bytes: `predecessor` may not be left out, nor `v` be 1.0 or true.
            raise MalformedError("the manifest isn't in its one canonical form")
        return manifest


VerifiedManifest = NewType("VerifiedManifest", Manifest)
"""A manifest that :func:`verify_manifest` returned. Opening takes nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestExpectation:
    """What the log says is current. ``version`` and ``digest`` may be None only where the caller has no log to ask."""

    genesis: Digest
    model: ModelId
    version: int | None
    digest: Digest | None


def manifest_envelope(manifest: Manifest, signer: Signer) -> Envelope:
    """Sign a manifest."""
    return sign(MANIFEST_TYPE, manifest.to_bytes(), signer)


def read_manifest(envelope: Envelope) -> Manifest:
    """Parse an envelope's manifest without believing it.

    :raises MalformedError: another payload type, or not a manifest.
    """
    if envelope.kind != MANIFEST_TYPE:
        raise MalformedError(f"the envelope isn't of type `{MANIFEST_TYPE}`")
    return Manifest.parse(envelope.payload)


def verify_manifest(envelope: Envelope, publisher_key: PublicKey, *, expect: ManifestExpectation) -> VerifiedManifest:
    """Verify a manifest: 1 type and form, 2 signer, 3 deployment, 4 model, 5 version, 6 digest.

    :raises MalformedError: step 1.
    :raises NotHybridError: step 2, ``publisher_key`` is one of a single algorithm.
    :raises WrongSignerError: step 2, no signature by ``publisher_key``.
    :raises SignatureError: step 2, such a signature, but it doesn't verify.
    :raises OtherDeploymentError: step 3.
    :raises OtherModelError: step 4.
    :raises OlderVersionError: step 5, a rollback.
    :raises NewerVersionError: step 5.
    :raises OtherManifestError: step 6, another manifest of the right version.
    """
    manifest = read_manifest(envelope)
    # The key comes from the log, a delivery or a command line. Whichever it is, it can't talk a verifier down to
    # Ed25519 alone: a manifest is checked for as long as its weights are worth having.
    if not publisher_key.hybrid:
        raise NotHybridError(
            f"key `{publisher_key.key_id}` is no hybrid one, and a manifest's signature must be",
            remedy=f"give the publisher's key that begins with `{SignatureAlgorithm.ED25519_ML_DSA_65.value}:`",
        )
    if publisher_key.key_id not in {signature.key_id for signature in envelope.signatures}:
        raise WrongSignerError(f"the manifest isn't signed by key `{publisher_key.key_id}`, the publisher's")
    verify(envelope, MANIFEST_TYPE, [publisher_key], threshold=1)
    if not manifest.genesis.matches(expect.genesis):
        raise OtherDeploymentError("the manifest belongs to another deployment")
    if manifest.model != expect.model:
        raise OtherModelError(f"the manifest describes model `{manifest.model}`, not `{expect.model}`")
    if expect.version is not None and manifest.version < expect.version:
        raise OlderVersionError(
            f"the manifest describes version {manifest.version} of `{expect.model}`; {expect.version} is current",
            remedy="fetch the current version; an old one may have been put back on purpose",
        )
    if expect.version is not None and manifest.version > expect.version:
        raise NewerVersionError(
            f"the manifest describes version {manifest.version} of `{expect.model}`; {expect.version} was asked for"
        )
    if expect.digest is not None and not manifest.digest.matches(expect.digest):
        raise OtherManifestError(
            f"version {manifest.version} of `{expect.model}` is registered with another manifest digest"
        )
    return VerifiedManifest(manifest)
