"""Signed statements about artifacts: a Sigstore bundle (v0.3), the DSSE envelope in it, the in-toto Statement in that.

Only the form is read here; :mod:`~strongroom.intake.signatures` says whether it holds. What OpenSSF Model Signing v1.0
doesn't need is refused: several subjects or signatures, other hashes, shards. (github.com/ossf/model-signing-spec)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.canonical import parse
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.intake.folder import MAX_FILES, MAX_NAME, check_distinct
from strongroom.intake.rules import IntakeRefusedError, Rule, shown

MAX_BUNDLE: Final = 16 << 20
MAX_PAYLOAD: Final = 8 << 20
MAX_SIGNATURE: Final = 512
MAX_CERTIFICATES: Final = 8
MAX_CERTIFICATE: Final = 16 * 1024
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
MODEL_SIGNATURE: Final = "https://model_signing/signature/v1.0"


class SignatureMode(StrEnum):
    """Who is said to have signed: a key, a certificate of somebody's authority, or an identity at a Sigstore."""

    KEY = "key"
    CERTIFICATE = "certificate"
    SIGSTORE = "sigstore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose form is right. Nothing is verified."""

    mode: SignatureMode
    certificates: tuple[bytes, ...]
    """DER, the signer's first; none in key mode."""
    payload: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """What a signer says of a model: each file's digest; and what was left out of the signature."""

    files: Mapping[str, Digest]
    ignored: tuple[str, ...]


def read_bundle(data: bytes) -> Bundle:
    """Read a bundle's form.

    :raises IntakeRefusedError: signature-form.
    """
    try:
        with Fields(parse(data, max_bytes=MAX_BUNDLE), "bundle") as fields:
            fields.constant("mediaType", BUNDLE_TYPE)
            mode, certificates = _material(fields.child("verificationMaterial"))
            payload, signature = _envelope(fields.child("dsseEnvelope"))
    except MalformedError as error:
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, error.message) from None
    return Bundle(mode=mode, certificates=certificates, payload=payload, signature=signature)


def _material(fields: Fields) -> tuple[SignatureMode, tuple[bytes, ...]]:
    with fields:
        entries = len(list(fields.items("tlogEntries", most=16)))
        if fields.optional("timestampVerificationData"):
            # Read by the library that verifies keyless signatures; elsewhere nobody believes it.
            fields.value("timestampVerificationData")
        if fields.optional("certificate"):
            with fields.child("certificate") as one:
                ders: tuple[bytes, ...] = (one.binary("rawBytes", max_length=MAX_CERTIFICATE),)
            if not entries:
                raise MalformedError("`bundle.verificationMaterial.tlogEntries` is empty for a keyless signature")
            return SignatureMode.SIGSTORE, ders
        if fields.optional("x509CertificateChain"):
            with fields.child("x509CertificateChain") as chain:
                ders = chain.objects(
                    "certificates", lambda f: f.binary("rawBytes", max_length=MAX_CERTIFICATE), most=MAX_CERTIFICATES
                )
            if not ders:
                raise MalformedError("`bundle.verificationMaterial.x509CertificateChain` is empty")
            return SignatureMode.CERTIFICATE, ders
        with fields.child("publicKey") as key:
            if key.optional("hint"):
                # A hint is what the file says of itself: the caller's key is the one that is tried.
                key.text("hint", max_length=1024)
        return SignatureMode.KEY, ()


def _envelope(fields: Fields) -> tuple[bytes, bytes]:
    def one(f: Fields) -> bytes:
        if f.optional("keyid"):
            f.text("keyid", max_length=1024)
        return f.binary("sig", max_length=MAX_SIGNATURE)

    with fields:
        fields.constant("payloadType", PAYLOAD_TYPE)
        payload = fields.binary("payload", max_length=MAX_PAYLOAD)
        signatures = fields.objects("signatures", one, most=1)
        if not signatures:
            raise MalformedError("`bundle.dsseEnvelope.signatures` is empty")
        return payload, signatures[0]


def read_manifest(payload: bytes) -> ModelManifest:
    """Read the statement that a signed bundle holds. Verify the signature first.

    :raises IntakeRefusedError: signature-form; name-collision for two names that are one.
    """
    try:
        with Fields(parse(payload, max_bytes=MAX_PAYLOAD), "statement") as fields:
            fields.constant("_type", STATEMENT_TYPE)
            fields.constant("predicateType", MODEL_SIGNATURE)
            subjects = fields.objects("subject", _subject, most=1)
            manifest, ordered = _predicate(fields.child("predicate"))
    except MalformedError as error:
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, error.message) from None
    whole = Digest(DigestAlgorithm.SHA256, hashlib.sha256(b"".join(one.value for one in ordered)).digest())
    if len(subjects) != 1 or not subjects[0].matches(whole):
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, "the statement's subject isn't the digest of its files")
    check_distinct(manifest.files)
    return manifest


def _subject(fields: Fields) -> Digest:
    fields.text("name", max_length=1024)
    with fields.child("digest") as digest:
        return _digest(digest.text("sha256", max_length=64))


def _digest(text: str) -> Digest:
    return Digest.parse(f"{DigestAlgorithm.SHA256.value}:{text}")


def _predicate(fields: Fields) -> tuple[ModelManifest, tuple[Digest, ...]]:
    with fields:
        with fields.child("serialization") as how:
            how.constant("method", "files")
            how.constant("hash_type", "sha256")
            if how.optional("allow_symlinks"):
                # Whatever a signer followed: a delivery with links is refused before.
                how.boolean("allow_symlinks")
            ignored = how.texts("ignore_paths", most=1000, max_length=MAX_NAME) if how.optional("ignore_paths") else ()
        resources = fields.objects("resources", _resource, most=MAX_FILES)
    names = [name for name, _digest in resources]
    if not names or len(set(names)) != len(names) or names != sorted(names):
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, "the statement's files aren't sorted, or one is there twice")
    return ModelManifest(dict(resources), ignored), tuple(digest for _name, digest in resources)


def _resource(fields: Fields) -> tuple[str, Digest]:
    fields.constant("algorithm", "sha256")
    name = fields.text("name", max_length=MAX_NAME)
    if set(name.split("/")) & {"", ".", ".."}:
        raise IntakeRefusedError(Rule.SIGNATURE_FORM, f"the statement names {shown(name)}, which isn't a relative path")
    return name, _digest(fields.text("digest", max_length=64))
