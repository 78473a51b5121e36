"""TPM2_MakeCredential outside a TPM (TPM 2.0 Part 1, section 24): a secret that only one key's own TPM can open.

Steps, as in the specification: 1. a random seed goes to the endorsement key by RSA-OAEP under the label IDENTITY;
2. KDFa derives an AES key from the seed and the *name* of the attestation key; 3. the secret is encrypted; 4. an HMAC
binds it to that name. A TPM opens it only if it holds the endorsement key's private half and a loaded object with
exactly that name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256

from strongroom.attestation.tpm.public_area import KeyAttributesError, PublicArea
from strongroom.core.errors import MalformedError
from strongroom.tpm.wire import tpm2b, u32

MAX_SECRET: Final = 32
_SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Credential:
    """What goes to the TPM: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, sizes included."""

    blob: bytes
    encrypted_seed: bytes


def kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """Derive ``bits`` (a multiple of 8, at most 256): SP 800-108 counter mode over HMAC-SHA-256 (Part 1, 11.4.10.2)."""
    if not 0 < bits <= 256 or bits % 8:
        raise MalformedError("KDFa derives 8 to 256 bits here")
    message = u32(1) + label + b"\0" + context + u32(bits)
    return hmac.new(key, message, hashlib.sha256).digest()[: bits // 8]


def make_credential(
    endorsement: PublicArea, attestation_name: bytes, secret: bytes, random_bytes: Callable[[int], bytes]
) -> Credential:
    """Encrypt ``secret`` (1 to 32 bytes) so that only the TPM of ``endorsement`` and the key of that name open it.

    OAEP's own salt comes from the library; everything else random comes from ``random_bytes``.

    :raises KeyAttributesError: the endorsement key doesn't follow template L-1.
    :raises MalformedError: the secret or the name has the wrong length.
    """
    endorsement.require_endorsement_key()
    if not isinstance(endorsement.key, rsa.RSAPublicKey):  # pragma: no cover - said again for the type checker
        raise KeyAttributesError("the endorsement key must be RSA-2048 (template L-1)")
    if not 1 <= len(secret) <= MAX_SECRET or len(attestation_name) != 34:
        raise MalformedError("a credential holds 1 to 32 bytes for a key with a SHA-256 name")
    seed = random_bytes(_SEED_BYTES)
    if len(seed) != _SEED_BYTES:
        raise MalformedError("the source of randomness gave too few bytes")
    # 1. Seed to the endorsement key. The label's closing zero is part of the specification.
    oaep = padding.OAEP(mgf=padding.MGF1(SHA256()), algorithm=SHA256(), label=b"IDENTITY\0")
    encrypted_seed = endorsement.key.encrypt(seed, oaep)
    # 2. and 3. A fresh seed gives a fresh key, so the zero IV that the specification asks for meets it once only.
    cipher = Cipher(AES(kdfa(seed, b"STORAGE", attestation_name, 128)), CFB(bytes(16))).encryptor()
    identity = cipher.update(tpm2b(secret)) + cipher.finalize()
    # 4. Integrity, over the name too.
    integrity = hmac.new(kdfa(seed, b"INTEGRITY", b"", 256), identity + attestation_name, hashlib.sha256).digest()
    return Credential(blob=tpm2b(tpm2b(integrity) + identity), encrypted_seed=tpm2b(encrypted_seed))
