"""Assertions of security keys (W3C Web Authentication Level 3), checked with a JSON parser and two curves alone.

A credential key is bound to a relying party: the host name that a browser shows, or that a client on the command line
stands for. What is signed is never the message itself but ``authenticatorData || SHA-256(clientDataJSON)``; the
message comes in as the challenge, which is its SHA-256. So every member on the way from message to signature is
checked here, and whatever this module doesn't expect is refused.

The steps of :meth:`CredentialKey.verify` are those of section 7.2 that a verifier without sessions has:
7 type; 8 challenge; 9 to 11 origin, crossOrigin and topOrigin; 12 rpIdHash; 13 and 14 user present and verified; 15 not
eligible for backup; 20 signature. Step 21, the counter, needs memory: see :func:`assertion_counter`.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntFlag, StrEnum
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from strongroom.core.canonical import parse
from strongroom.core.errors import MalformedError, TamperedError

P256_POINT_BYTES: Final = 65
ED25519_POINT_BYTES: Final = 32
MAX_RP_ID: Final = 253
AUTHENTICATOR_DATA_BYTES: Final = 37
"""rpIdHash, flags and counter: neither attested credential data nor extensions belong into an assertion to us."""
MAX_CLIENT_DATA: Final = 2048
MAX_CREDENTIAL_ID: Final = 1023
"""Section 5.1."""
MAX_INNER_SIGNATURE: Final = 80
"""An ECDSA signature over P-256 has at most 72 bytes in DER, an Ed25519 signature 64."""
CHALLENGE_BYTES: Final = 32
_LENGTH_BYTES: Final = 2
_UNCOMPRESSED: Final = 4
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A name with a dot whose last label isn't a number, so that it is neither a top-level domain nor an IP address.
_RP_ID: Final = re.compile(rf"(?:{_LABEL}\.)+(?!\d+\Z){_LABEL}|localhost")
_ORIGIN: Final = re.compile(rf"(https?)://((?:{_LABEL}\.)*{_LABEL})(?::([1-9][0-9]{{0,4}}))?")
_MAX_PORT: Final = 65535
_LOCALHOST: Final = "localhost"


class Ceremony(StrEnum):
    """The ``type`` of client data (section 5.8.1)."""

    CREATE = "webauthn.create"
    GET = "webauthn.get"


class Flag(IntFlag):
    """The flags of authenticator data (section 6.1)."""

    USER_PRESENT = 0x01
    USER_VERIFIED = 0x04
    BACKUP_ELIGIBLE = 0x08
    BACKED_UP = 0x10
    ATTESTED_CREDENTIAL = 0x40
    EXTENSIONS = 0x80


class AssertionRefusedError(TamperedError):
    """Something between a message and a security key's signature isn't as it must be; ``reason`` says what."""

    code = "assertion-refused"


@dataclass(frozen=True, slots=True)
class Assertion:
    """What a security key hands out for one signature, written as three fields, each after its length in two bytes."""

    authenticator_data: bytes
    client_data: bytes
    """clientDataJSON."""
    signature: bytes

    @classmethod
    def parse(cls, value: bytes) -> Assertion:
        """Read a signature value.

        :raises AssertionRefusedError: a field is missing or too long, or bytes are left over.
        """
        fields = []
        rest = value
        for most in (AUTHENTICATOR_DATA_BYTES, MAX_CLIENT_DATA, MAX_INNER_SIGNATURE):
            size = int.from_bytes(rest[:_LENGTH_BYTES], "big")
            end = _LENGTH_BYTES + size
            if not 0 < size <= most or end > len(rest):
                raise _refused("a security key's signature is cut short or a field is too long", "assertion-malformed")
            fields.append(rest[_LENGTH_BYTES:end])
            rest = rest[end:]
        if rest:
            raise _refused("bytes follow a security key's signature", "assertion-malformed")
        authenticator_data, client_data, signature = fields
        # One exact length: extension data or a credential would be bytes that nobody checks.
        if len(authenticator_data) != AUTHENTICATOR_DATA_BYTES:
            raise _refused(f"authenticator data has {AUTHENTICATOR_DATA_BYTES} bytes", "assertion-malformed")
        return cls(authenticator_data, client_data, signature)

    def to_bytes(self) -> bytes:
        """Return the signature value."""
        fields = (self.authenticator_data, self.client_data, self.signature)
        return b"".join(len(field).to_bytes(_LENGTH_BYTES, "big") + field for field in fields)

    @property
    def counter(self) -> int:
        """How often the key has signed, by its own count; always 0 for a key that doesn't count."""
        return int.from_bytes(self.authenticator_data[33:37], "big")


@dataclass(frozen=True, slots=True)
class CredentialKey:
    """The public half of a credential, and the relying party that it is for.

    :raises MalformedError: a name that isn't a relying party's, or bytes that aren't a point of their curve.
    """

    rp_id: str
    point: bytes
    """65 bytes of an uncompressed P-256 point, or 32 of an Ed25519 key."""

    def __post_init__(self) -> None:
        check_rp_id(self.rp_id)
        try:
            self._primitive()
        except ValueError:
            raise MalformedError("the bytes aren't a security key's public key") from None

    @classmethod
    def parse(cls, raw: bytes, *, point_bytes: int) -> CredentialKey:
        """Read ``length || relying party || point``, the length in one byte.

        :raises MalformedError: another length, a name that isn't a relying party's, or not a point.
        """
        name, point = raw[1 : 1 + raw[0]] if raw else b"", raw[1 + raw[0] :] if raw else b""
        if len(point) != point_bytes:
            raise MalformedError("a security key's public key has another length")
        try:
            rp_id = name.decode("ascii")
        except UnicodeDecodeError:
            raise MalformedError("a relying party's name is written in ASCII") from None
        return cls(rp_id, point)

    def to_bytes(self) -> bytes:
        """Return what :meth:`parse` reads."""
        return bytes([len(self.rp_id)]) + self.rp_id.encode("ascii") + self.point

    def verify(self, value: bytes, message: bytes) -> None:
        """Check an assertion over ``message``; returns nothing.

        :raises AssertionRefusedError: any step fails.
        """
        assertion = Assertion.parse(value)
        # 7. to 11.
        check_client_data(
            assertion.client_data, ceremony=Ceremony.GET, rp_id=self.rp_id, challenge=challenge_of(message)
        )
        # 12. to 15.
        check_authenticator_data(assertion.authenticator_data, rp_id=self.rp_id, also=Flag(0))
        # 20.
        signed = assertion.authenticator_data + hashlib.sha256(assertion.client_data).digest()
        try:
            self._primitive()(assertion.signature, signed)
        except InvalidSignature:
            raise _refused("the security key didn't make this signature", "assertion-signature") from None

    def _primitive(self) -> Callable[[bytes, bytes], None]:
        if len(self.point) == ED25519_POINT_BYTES:
            return Ed25519PublicKey.from_public_bytes(self.point).verify
        # The library also reads compressed points: a second spelling of the same key.
        if len(self.point) != P256_POINT_BYTES or self.point[0] != _UNCOMPRESSED:
            raise ValueError
        key = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), self.point)
        return lambda signature, data: key.verify(signature, data, ECDSA(SHA256()))


def assertion_counter(value: bytes) -> int:
    """Return the counter in a signature value that was verified.

    A key's counter only rises. One that doesn't, unless both are 0, means that the key was copied, or that an older
    signature is shown again.

    :raises AssertionRefusedError: not a security key's signature.
    """
    return Assertion.parse(value).counter


def challenge_of(message: bytes) -> bytes:
    """Return the 32 bytes that stand for a message in client data: SHA-256, always computed here, never taken."""
    return hashlib.sha256(message).digest()


def check_rp_id(rp_id: str) -> str:
    """Return a relying party's name: a lower-case ASCII host name with a dot in it, or ``localhost``.

    :raises MalformedError: any other text.
    """
    if len(rp_id) > MAX_RP_ID or not _RP_ID.fullmatch(rp_id):
        raise MalformedError("a relying party is a lower-case host name with a dot in it, or `localhost`")
    return rp_id


def check_client_data(data: bytes, *, ceremony: Ceremony, rp_id: str, challenge: bytes) -> None:
    """Check clientDataJSON, steps 7 to 11. Members that the specification may add later are let be.

    :raises AssertionRefusedError: not a JSON object of bounded length, or another type, challenge or origin.
    """
    try:
        members = parse(data, max_bytes=MAX_CLIENT_DATA)
    except MalformedError:
        members = None
    if not isinstance(members, dict):
        raise _refused("the client data isn't a JSON object that can be read in one way", "client-data-malformed")
    # 7. An attestation's client data must not pass for an assertion's, nor the other way round.
    if members.get("type") != ceremony.value:
        raise _refused(f"the client data isn't of type `{ceremony.value}`", "client-data-type")
    # 8. The one place where the message enters.
    if members.get("challenge") != base64.urlsafe_b64encode(challenge).rstrip(b"=").decode("ascii"):
        raise _refused("the security key was asked to sign something else", "challenge-mismatch")
    # 9. The browser names the page that asked. Another site's page can't have the key sign for us.
    if not _is_origin(members.get("origin"), rp_id):
        raise _refused(f"the page that asked isn't one of `{rp_id}`", "origin-mismatch")
    # 10. and 11. A page within another site's page is what clickjacking needs.
    if members.get("crossOrigin", False) is not False or "topOrigin" in members:
        raise _refused("the page that asked stood within another site's page", "origin-embedded")


def check_authenticator_data(data: bytes, *, rp_id: str, also: Flag) -> None:
    """Check the fixed part of authenticator data, steps 12 to 15.

    :param also: the flags that must be set besides "user present" and "user verified"; no other may be.
    :raises AssertionRefusedError: too short, for another relying party, or other flags.
    """
    if len(data) < AUTHENTICATOR_DATA_BYTES:
        raise _refused("authenticator data is cut short", "assertion-malformed")
    # 12.
    if data[:32] != hashlib.sha256(rp_id.encode("ascii")).digest():
        raise _refused(f"the security key signed for another relying party than `{rp_id}`", "relying-party-mismatch")
    flags = data[32]
    # 13.
    if not flags & Flag.USER_PRESENT:
        raise _refused("nobody touched the security key", "user-not-present")
    # 14. Without it, whoever finds or steals the key can sign.
    if not flags & Flag.USER_VERIFIED:
        raise _refused("the security key didn't verify who touched it", "user-not-verified")
    # 15. A key that can be copied into somebody's account isn't a thing that one person holds.
    if flags & (Flag.BACKUP_ELIGIBLE | Flag.BACKED_UP):
        raise _refused("the key can be backed up: it isn't bound to one device", "backup-eligible")
    if flags != Flag.USER_PRESENT | Flag.USER_VERIFIED | also:
        raise _refused("authenticator data has flags that aren't expected here", "assertion-malformed")


def _is_origin(origin: object, rp_id: str) -> bool:
    found = _ORIGIN.fullmatch(origin) if isinstance(origin, str) and len(origin) <= 2 * MAX_RP_ID else None
    if found is None:
        return False
    scheme, host, port = found.groups()
    if port is not None and int(port) > _MAX_PORT:
        return False
    if scheme != "https":
        # Browsers trust plain HTTP on the machine itself, and nowhere else.
        return host == rp_id == _LOCALHOST
    return host == rp_id or host.endswith("." + rp_id)


def _refused(message: str, reason: str) -> AssertionRefusedError:
    return AssertionRefusedError(message, reason=reason)
