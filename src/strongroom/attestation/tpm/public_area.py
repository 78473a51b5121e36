"""TPMT_PUBLIC (TPM 2.0 Part 2, 12.2.4): the public part of a TPM key, its name, and what makes an attestation key."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from strongroom.core.errors import DeniedError, MalformedError
from strongroom.core.reader import Reader
from strongroom.tpm import wire

MAX_PUBLIC: Final = 1024
RSA_BITS: Final = (2048, 3072, 4096)
DEFAULT_EXPONENT: Final = 65537

_CURVES: Final[dict[int, ec.EllipticCurve]] = {wire.ECC_NIST_P256: ec.SECP256R1(), wire.ECC_NIST_P384: ec.SECP384R1()}

VerifyingKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


class Attribute(IntFlag):
    """TPMA_OBJECT bits that are looked at."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18
    X509_SIGN = 1 << 19


BORN_IN_TPM: Final = (
    Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.RESTRICTED
)
# Attributes, policy and symmetric algorithm of the TCG EK template L-1 (RSA-2048, low range).
EK_ATTRIBUTES: Final = BORN_IN_TPM | Attribute.ADMIN_WITH_POLICY | Attribute.DECRYPT
EK_POLICY: Final = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
# Outside the dictionary-attack lockout: it has no password to guess, and each power cut counts as a wrong guess.
AK_ATTRIBUTES: Final = BORN_IN_TPM | Attribute.USER_WITH_AUTH | Attribute.NO_DA | Attribute.SIGN


class KeyAttributesError(DeniedError):
    """A TPM key that isn't of the kind that its role needs."""

    code = "tpm-key-attributes"


@dataclass(frozen=True, slots=True)
class PublicArea:
    """A parsed TPMT_PUBLIC whose name algorithm is SHA-256 or longer: RSA, or ECC on P-256 or P-384."""

    raw: bytes
    attributes: Attribute
    policy: bytes
    symmetric: tuple[int, int, int] | None
    """Algorithm, key bits and mode, or None for TPM_ALG_NULL."""
    scheme: int
    scheme_hash: int
    """The signing scheme's hash; TPM_ALG_NULL without a scheme."""
    key: VerifyingKey
    name_algorithm: int = wire.ALG_SHA256

    @classmethod
    def parse(cls, data: bytes) -> PublicArea:
        """Read exactly one TPMT_PUBLIC.

        :raises MalformedError: cut, too long, another algorithm, or not a valid public key.
        """
        reader = Reader(data, "TPMT_PUBLIC", max_bytes=MAX_PUBLIC)
        kind = reader.integer(2)
        name_algorithm = reader.integer(2)
        if name_algorithm not in wire.STRONG_HASHES:
            raise MalformedError("a TPM key's name algorithm must be SHA-256 or longer")
        attributes = Attribute(reader.integer(4))
        policy = reader.sized(64)
        symmetric = _symmetric(reader)
        scheme, scheme_hash = _scheme(reader)
        match kind:
            case wire.ALG_RSA:
                key: VerifyingKey = _rsa(reader)
            case wire.ALG_ECC:
                key = _ecc(reader)
            case _:
                raise MalformedError("a TPM key must be RSA or ECC")
        reader.end()
        return cls(data, attributes, policy, symmetric, scheme, scheme_hash, key, name_algorithm)

    @property
    def name(self) -> bytes:
        """The TPM's name for the key: its name algorithm and that hash of the public area (Part 1, section 16)."""
        return wire.u16(self.name_algorithm) + wire.hashed(self.name_algorithm, self.raw)

    def require_attestation_key(self) -> None:
        """Check that the key was born in a TPM, stays there, and signs only what the TPM itself states.

        Without *restricted*, the holder could have it sign a quote that no TPM made.

        :raises KeyAttributesError: an attribute or the signing scheme isn't that of an attestation key.
        """
        needed = BORN_IN_TPM | Attribute.SIGN
        if self.attributes & needed != needed:
            missing = [flag.name.lower() for flag in Attribute if flag in needed & ~self.attributes and flag.name]
            raise KeyAttributesError(f"the attestation key lacks `{'`, `'.join(missing)}`")
        if self.attributes & (Attribute.DECRYPT | Attribute.X509_SIGN):
            raise KeyAttributesError("an attestation key must only sign what its TPM generated")
        elliptic = isinstance(self.key, ec.EllipticCurvePublicKey)
        if self.scheme not in ({wire.ALG_ECDSA} if elliptic else {wire.ALG_RSASSA, wire.ALG_RSAPSS}):
            raise KeyAttributesError("an attestation key signs with ECDSA, RSASSA or RSAPSS over SHA-256 or longer")

    def require_endorsement_key(self) -> None:
        """Check that the key follows the TCG EK template L-1: RSA-2048, restricted decryption, AES-128-CFB.

        :raises KeyAttributesError: it follows another template.
        """
        if not isinstance(self.key, rsa.RSAPublicKey) or self.key.key_size != 2048:
            raise KeyAttributesError("the endorsement key must be RSA-2048 (template L-1)")
        if self.attributes != EK_ATTRIBUTES or self.policy != EK_POLICY or self.scheme != wire.ALG_NULL:
            raise KeyAttributesError("the endorsement key doesn't follow the TCG template L-1")
        if self.symmetric != (wire.ALG_AES, 128, wire.ALG_CFB):
            raise KeyAttributesError("the endorsement key must wrap with AES-128 in CFB mode")


def _symmetric(reader: Reader) -> tuple[int, int, int] | None:
    algorithm = reader.integer(2)
    if algorithm == wire.ALG_NULL:
        return None
    if algorithm != wire.ALG_AES:
        raise MalformedError("a TPM key's symmetric algorithm must be AES or none")
    return algorithm, reader.integer(2), reader.integer(2)


def _scheme(reader: Reader) -> tuple[int, int]:
    scheme = reader.integer(2)
    if scheme == wire.ALG_NULL:
        return scheme, wire.ALG_NULL
    if scheme not in {wire.ALG_RSASSA, wire.ALG_RSAPSS, wire.ALG_ECDSA}:
        raise MalformedError("a TPM key's scheme must be RSASSA, RSAPSS, ECDSA or none")
    hashed = reader.integer(2)
    if hashed not in wire.STRONG_HASHES:
        raise MalformedError("a TPM key must sign over SHA-256 or longer")
    return scheme, hashed


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits = reader.integer(2)
    exponent = reader.integer(4) or DEFAULT_EXPONENT
    modulus = reader.sized(512)
    if bits not in RSA_BITS or len(modulus) * 8 != bits or not modulus[0] & 0x80:
        raise MalformedError("an RSA TPM key must have 2048, 3072 or 4096 bits")
    if exponent != DEFAULT_EXPONENT:
        raise MalformedError("an RSA TPM key's exponent must be 65537")
    try:
        return rsa.RSAPublicNumbers(exponent, int.from_bytes(modulus, "big")).public_key()
    except ValueError:
        raise MalformedError("the bytes aren't an RSA public key") from None


def _ecc(reader: Reader) -> ec.EllipticCurvePublicKey:
    curve = _CURVES.get(reader.integer(2))
    if curve is None or reader.integer(2) != wire.ALG_NULL:
        raise MalformedError("an ECC TPM key must lie on P-256 or P-384 and derive nothing")
    most = (curve.key_size + 7) // 8
    x, y = (int.from_bytes(reader.sized(most), "big") for _ in range(2))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError:
        raise MalformedError(f"the bytes aren't a point on {curve.name}") from None
