"""TPMT_SIGNATURE (TPM 2.0 Part 2, 11.3.4): ECDSA on P-256, or RSASSA PKCS #1 v1.5, both over SHA-256."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from strongroom.attestation.errors import BadQuoteSignatureError
from strongroom.attestation.tpm import wire
from strongroom.attestation.tpm.public_area import VerifyingKey
from strongroom.attestation.tpm.wire import Reader
from strongroom.core.errors import MalformedError

MAX_SIGNATURE: Final = 6 + 512


@dataclass(frozen=True, slots=True)
class TpmSignature:
    """A parsed signature: the algorithm that it claims, and the library's form of its bytes (DER for ECDSA)."""

    algorithm: int
    value: bytes

    @classmethod
    def parse(cls, data: bytes) -> TpmSignature:
        """Read exactly one TPMT_SIGNATURE.

        :raises MalformedError: cut, too long, or another algorithm.
        """
        reader = Reader(data, "TPMT_SIGNATURE", max_bytes=MAX_SIGNATURE)
        algorithm = reader.integer(2)
        if algorithm not in {wire.ALG_RSASSA, wire.ALG_ECDSA} or reader.integer(2) != wire.ALG_SHA256:
            raise MalformedError("a quote is signed with RSASSA or ECDSA over SHA-256")
        if algorithm == wire.ALG_RSASSA:
            value = reader.sized(512)
        else:
            value = encode_dss_signature(*(int.from_bytes(reader.sized(32), "big") for _ in range(2)))
        reader.end()
        return cls(algorithm, value)

    def verify(self, key: VerifyingKey, message: bytes) -> None:
        """Check the signature. The key decides the algorithm; a signature that claims another one is refused.

        :raises BadQuoteSignatureError: it doesn't verify.
        """
        refusal = BadQuoteSignatureError(
            "the quote isn't signed by the enrolled attestation key",
            remedy="the evidence was changed, or another platform made it; enrol that platform if it is wanted",
        )
        elliptic = isinstance(key, ec.EllipticCurvePublicKey)
        if self.algorithm != (wire.ALG_ECDSA if elliptic else wire.ALG_RSASSA):
            raise refusal
        try:
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(self.value, message, ec.ECDSA(SHA256()))
            else:
                key.verify(self.value, message, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise refusal from None
