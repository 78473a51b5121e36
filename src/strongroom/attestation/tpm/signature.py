"""TPMT_SIGNATURE (TPM 2.0 Part 2, 11.3.4): ECDSA on P-256 or P-384, RSASSA or RSAPSS, over SHA-256 or longer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512, HashAlgorithm

from strongroom.attestation.errors import BadSignatureError
from strongroom.attestation.tpm.public_area import VerifyingKey
from strongroom.core.errors import MalformedError
from strongroom.core.reader import Reader
from strongroom.tpm import wire

MAX_SIGNATURE: Final = 6 + 512
_RSA: Final = frozenset({wire.ALG_RSASSA, wire.ALG_RSAPSS})
_MAX_COORDINATE: Final = 48


@dataclass(frozen=True, slots=True)
class TpmSignature:
    """A parsed signature: the algorithm that it claims, and the library's form of its bytes (DER for ECDSA)."""

    algorithm: int
    value: bytes
    hash: int = wire.ALG_SHA256

    @classmethod
    def parse(cls, data: bytes) -> TpmSignature:
        """Read exactly one TPMT_SIGNATURE.

        :raises MalformedError: cut, too long, or another algorithm.
        """
        reader = Reader(data, "TPMT_SIGNATURE", max_bytes=MAX_SIGNATURE)
        algorithm, hashed = reader.integer(2), reader.integer(2)
        if algorithm not in _RSA | {wire.ALG_ECDSA} or hashed not in wire.STRONG_HASHES:
            raise MalformedError("a quote is signed with RSASSA, RSAPSS or ECDSA over SHA-256 or longer")
        if algorithm in _RSA:
            value = reader.sized(512)
        else:
            value = encode_dss_signature(*(int.from_bytes(reader.sized(_MAX_COORDINATE), "big") for _ in range(2)))
        reader.end()
        return cls(algorithm, value, hashed)

    def verify(self, key: VerifyingKey, message: bytes) -> None:
        """Check the signature. The key decides the algorithm; a signature that claims another one is refused.

        :raises BadSignatureError: it doesn't verify.
        """
        refusal = BadSignatureError(
            "the quote isn't signed by the attestation key",
            remedy="the evidence was changed, or another platform made it; enrol that platform if it is wanted",
        )
        algorithms = {wire.ALG_ECDSA} if isinstance(key, ec.EllipticCurvePublicKey) else _RSA
        if self.algorithm not in algorithms:
            raise refusal
        hashed = _hash(self.hash)
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.value, message, ec.ECDSA(hashed))
            elif self.algorithm == wire.ALG_RSASSA:
                key.verify(self.value, message, padding.PKCS1v15(), hashed)
            else:
                # TPMs differ in the salt's length (Part 1, B.7): the digest's, or the longest that fits.
                key.verify(self.value, message, padding.PSS(padding.MGF1(hashed), padding.PSS.AUTO), hashed)
        except InvalidSignature:
            raise refusal from None


def _hash(algorithm: int) -> HashAlgorithm:
    match algorithm:
        case wire.ALG_SHA256:
            return SHA256()
        case wire.ALG_SHA384:
            return SHA384()
        case _:
            return SHA512()
