"""Enrolling security keys: a person shows two of one's own before two vetting officers, who sign for it.

Each key proves three things with its attestation (WebAuthn L3, section 7.1): the private half lies in a device of a
model that the roster allows, it was made for this person of this deployment, and it can't be copied. Two keys, because
the loss of one must not lock anybody out, and the spare must not be enrolled in a hurry.

The steps of :func:`check_attested`, for each key: 1. client data: created, for this person, by a page of the relying
party; 2. authenticator data: user present and verified, not eligible for backup; 3. the attested key is the listed one;
4. the model is on the roster's list; 5. the attestation is of the packed form, with certificates, and its signature
holds; 6. the certificate names the model; 7. its chain ends in one of the model's roots.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from fido2.attestation.base import InvalidAttestation
from fido2.attestation.packed import PackedAttestation
from fido2.webauthn import AttestationObject

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.clock import Instant, format_instant
from strongroom.core.digest import Digest
from strongroom.core.encoding import to_base64
from strongroom.core.envelope import payload_type
from strongroom.core.errors import MalformedError
from strongroom.core.fields import Fields
from strongroom.core.ids import PersonId, person_id
from strongroom.core.signature import MAX_KEY_TEXT, PublicKey
from strongroom.core.webauthn import (
    MAX_CLIENT_DATA,
    MAX_CREDENTIAL_ID,
    AssertionRefusedError,
    Ceremony,
    CredentialKey,
    Flag,
    check_authenticator_data,
    check_client_data,
)
from strongroom.personnel.attested_chain import MAX_CHAIN, KeyNotAttestedError, walk
from strongroom.personnel.authenticators import Authenticator, load_certificate

ENROLMENT_TYPE: Final = payload_type("enrolment.v1")
MIN_KEYS: Final = 2
MAX_KEYS: Final = 4
MAX_ATTESTATION: Final = 16384
MAX_ENROLMENT: Final = 131072
_DOMAIN: Final = b"strongroom enrolment v1\0"
_AAGUID_EXTENSION: Final = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
_OCTETS: Final = b"\x04\x10"
_ES256: Final = -7
_EDDSA: Final = -8
_UNREADABLE: Final = (
    ValueError,  # also UnicodeDecodeError
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    struct.error,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
)
"""What the library lets through when bytes aren't what it expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolledKey:
    """One key of an enrolment, with what its device said when it made it."""

    key: PublicKey
    attestation: bytes
    """The attestation object, CBOR."""
    client_data: bytes
    """clientDataJSON."""

    @classmethod
    def read(cls, fields: Fields) -> EnrolledKey:
        """Read one key of an enrolment.

        :raises MalformedError: a member is missing, extra or out of bounds, or the key isn't a security key's.
        """
        key = cls(
            key=fields.parsed("key", PublicKey.parse, max_length=MAX_KEY_TEXT),
            attestation=fields.binary("attestation", max_length=MAX_ATTESTATION),
            client_data=fields.binary("client_data", max_length=MAX_CLIENT_DATA),
        )
        if not key.key.hardware:
            raise MalformedError(f"`{fields.where}.key` must be a security key's")
        return key

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {
            "key": str(self.key),
            "attestation": to_base64(self.attestation),
            "client_data": to_base64(self.client_data),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """A person's security keys, to be signed by two vetting officers who saw person and keys. Parsing proves nothing.

    :raises MalformedError: fewer than two keys or more than four, a key twice, or keys of two relying parties.
    """

    genesis: Digest
    person: PersonId
    keys: tuple[EnrolledKey, ...]
    at: Instant

    def __post_init__(self) -> None:
        if not MIN_KEYS <= len(self.keys) <= MAX_KEYS or len({one.key for one in self.keys}) != len(self.keys):
            raise MalformedError(f"an enrolment lists {MIN_KEYS} to {MAX_KEYS} different keys")
        if len({one.key.credential.rp_id for one in self.keys}) != 1:
            raise MalformedError("the keys of an enrolment are for one relying party")

    @classmethod
    def parse(cls, payload: bytes) -> Enrolment:
        """Read canonical bytes. The caller judges who signed them.

        :raises MalformedError: another form.
        """
        with Fields(decode(payload, max_bytes=MAX_ENROLMENT), "enrolment") as fields:
            fields.constant("v", 1)
            return cls(
                genesis=fields.digest("genesis"),
                person=fields.parsed("person", person_id),
                keys=fields.objects("keys", EnrolledKey.read, most=MAX_KEYS),
                at=fields.instant("at"),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes: what the officers sign."""
        return encode(
            {
                "v": 1,
                "genesis": str(self.genesis),
                "person": self.person,
                "keys": [key.to_json() for key in self.keys],
                "at": format_instant(self.at),
            }
        )

    @property
    def rp_id(self) -> str:
        """The relying party that all keys are for."""
        return self.keys[0].key.credential.rp_id


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedKey:
    """A key whose attestation was checked."""

    key: PublicKey
    authenticator: Authenticator
    credential_id: bytes
    counter: int
    """The device's counter when it made the key."""


def enrolment_challenge(genesis: Digest, person: PersonId) -> bytes:
    """Return the 32 bytes that a key is made over: an attestation serves one person of one deployment."""
    return hashlib.sha256(_DOMAIN + encode({"genesis": str(genesis), "person": person})).digest()


def check_attested(enrolment: Enrolment, authenticators: Iterable[Authenticator]) -> tuple[AttestedKey, ...]:
    """Check each key's attestation, as of the enrolment's own instant; returns them in the enrolment's order.

    :param authenticators: the roster's list of allowed models.
    :raises KeyNotAttestedError: a step fails; ``reason`` names it.
    :raises MalformedError: an attestation or a certificate can't be read.
    """
    allowed = {authenticator.aaguid: authenticator for authenticator in authenticators}
    checked = tuple(_attested(one, enrolment, allowed) for one in enrolment.keys)
    # The same credential under two spellings of its key would be one key, not two.
    if len({key.credential_id for key in checked}) != len(checked):
        raise KeyNotAttestedError("two keys of the enrolment are one credential", reason="one-key-twice")
    return checked


def credential_key(attestation: bytes, rp_id: str) -> tuple[PublicKey, bytes]:
    """Return the public key in an attestation object, for ``rp_id``, and the credential's id; nothing is verified.

    :raises MalformedError: not an attestation object, or a key of another algorithm.
    """
    _object, key, credential_id, _aaguid = _read(attestation, rp_id)
    return key, credential_id


def model_of(attestation: bytes) -> str:
    """Return the AAGUID in an attestation object, in hex; nothing is verified.

    :raises MalformedError: not an attestation object.
    """
    return _read(attestation, "localhost")[3]


def _attested(one: EnrolledKey, enrolment: Enrolment, allowed: Mapping[str, Authenticator]) -> AttestedKey:
    rp_id = one.key.credential.rp_id
    found, key, credential_id, aaguid = _read(one.attestation, rp_id)
    try:
        # 1.
        challenge = enrolment_challenge(enrolment.genesis, enrolment.person)
        check_client_data(one.client_data, ceremony=Ceremony.CREATE, rp_id=rp_id, challenge=challenge)
        # 2.
        check_authenticator_data(bytes(found.auth_data), rp_id=rp_id, also=Flag.ATTESTED_CREDENTIAL)
    except AssertionRefusedError as error:
        raise KeyNotAttestedError(
            f"the attestation of key `{one.key.key_id}` is refused: {error.message}", reason=error.reason
        ) from None
    # 3.
    if key != one.key:
        raise KeyNotAttestedError(f"the attestation is for another key than `{one.key.key_id}`", reason="other-key")
    # 4.
    authenticator = allowed.get(aaguid)
    if authenticator is None:
        raise KeyNotAttestedError(
            f"the roster doesn't allow security keys of the model `{aaguid}`",
            reason="unknown-authenticator",
            remedy="have the root quorum list the model, or use another one",
        )
    # 5. to 7.
    _check_statement(found, one, aaguid, authenticator, enrolment.at)
    return AttestedKey(
        key=key, authenticator=authenticator, credential_id=credential_id, counter=int(found.auth_data.counter)
    )


def _check_statement(
    found: AttestationObject, one: EnrolledKey, aaguid: str, authenticator: Authenticator, at: Instant
) -> None:
    # 5. `none` says nothing, and self attestation is a program's word as well as a device's.
    statement = found.att_stmt
    if found.fmt != PackedAttestation.FORMAT or "x5c" not in statement:
        raise KeyNotAttestedError(
            f"key `{one.key.key_id}` has no attestation by its maker (form `packed` with certificates)",
            reason="attestation-form",
        )
    chain = statement["x5c"]
    if (
        set(statement) != {"alg", "sig", "x5c"}
        or not isinstance(chain, list)
        or not 1 <= len(chain) <= MAX_CHAIN + 1
        or not all(isinstance(der, bytes) for der in chain)
    ):
        raise MalformedError("an attestation statement has `alg`, `sig` and a list of certificates in `x5c`")
    # Each is read with our own limits before the library sees it.
    certificates = [load_certificate(der) for der in chain]
    try:
        PackedAttestation().verify(statement, found.auth_data, hashlib.sha256(one.client_data).digest())
    except (InvalidAttestation, *_UNREADABLE):
        raise KeyNotAttestedError(
            f"the attestation of key `{one.key.key_id}` doesn't verify", reason="attestation-signature"
        ) from None
    # 6. The library lets a certificate without the extension pass: one root may vouch for many models.
    if _aaguid_of(certificates[0]) != aaguid:
        raise KeyNotAttestedError("the attestation certificate isn't for this model", reason="aaguid-mismatch")
    # 7.
    walk(chain, authenticator.roots, at)


def _read(attestation: bytes, rp_id: str) -> tuple[AttestationObject, PublicKey, bytes, str]:
    if len(attestation) > MAX_ATTESTATION:
        raise MalformedError(f"an attestation object has at most {MAX_ATTESTATION} bytes")
    try:
        found = AttestationObject(attestation)
        credential = found.auth_data.credential_data
        statement: object = found.att_stmt
        if credential is None or not isinstance(statement, dict):
            raise ValueError
        point = _point(credential.public_key)
        credential_id, aaguid = bytes(credential.credential_id), bytes(credential.aaguid).hex()
    except _UNREADABLE:
        raise MalformedError("the bytes aren't an attestation object with an ES256 or EdDSA key") from None
    if not 1 <= len(credential_id) <= MAX_CREDENTIAL_ID:
        raise MalformedError(f"a credential's id has 1 to {MAX_CREDENTIAL_ID} bytes")
    return found, PublicKey.of_credential(CredentialKey(rp_id, point)), credential_id, aaguid


def _point(cose: Mapping[int, object]) -> bytes:
    """Return the point of a COSE key (RFC 9053, sections 7.1 and 7.2) that has exactly the members it needs."""
    match dict(cose):
        case {1: 2, 3: algorithm, -1: 1, -2: bytes(x), -3: bytes(y), **rest} if algorithm == _ES256 and not rest:
            if len(x) == len(y) == 32:
                return b"\x04" + x + y
        case {1: 1, 3: algorithm, -1: 6, -2: bytes(x), **rest} if algorithm == _EDDSA and not rest:
            if len(x) == 32:
                return x
    raise ValueError


def _aaguid_of(certificate: x509.Certificate) -> str | None:
    try:
        found = certificate.extensions.get_extension_for_oid(_AAGUID_EXTENSION)
    except x509.ExtensionNotFound:
        return None
    value = found.value.value if isinstance(found.value, x509.UnrecognizedExtension) else b""
    # The extension's value is an OCTET STRING of 16 bytes, in one spelling.
    return value[2:].hex() if value.startswith(_OCTETS) and len(value) == 18 and not found.critical else None
