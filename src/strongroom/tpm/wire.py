"""Big-endian TPM structures (TPM 2.0 Part 2): algorithm numbers, and the few writers that commands need."""

from __future__ import annotations

import hashlib
from typing import Final

ALG_RSA = 0x0001
ALG_SHA1 = 0x0004
ALG_AES = 0x0006
ALG_SHA256 = 0x000B
ALG_SHA384 = 0x000C
ALG_SHA512 = 0x000D
ALG_NULL = 0x0010
ALG_SM3_256 = 0x0012
ALG_RSASSA = 0x0014
ALG_RSAPSS = 0x0016
ALG_ECDSA = 0x0018
ALG_ECC = 0x0023
ALG_CFB = 0x0043
ECC_NIST_P256 = 0x0003
ECC_NIST_P384 = 0x0004

HASH_NAMES: Final = {ALG_SHA1: "sha1", ALG_SHA256: "sha256", ALG_SHA384: "sha384", ALG_SHA512: "sha512"}
"""The hashes that a PCR bank, an event log or a signature may name, by their number (TCG Algorithm Registry)."""
STRONG_HASHES: Final = frozenset({ALG_SHA256, ALG_SHA384, ALG_SHA512})
"""SHA-1 is read and never believed: two event logs with the same digest can be made."""


def hashed(algorithm: int, data: bytes) -> bytes:
    """Hash ``data`` with one of :data:`HASH_NAMES`."""
    return hashlib.new(HASH_NAMES[algorithm], data, usedforsecurity=algorithm in STRONG_HASHES).digest()


def hash_bytes(algorithm: int) -> int:
    """Return the length of a digest of one of :data:`HASH_NAMES`."""
    return hashlib.new(HASH_NAMES[algorithm], usedforsecurity=False).digest_size


def algorithm_name(algorithm: int) -> str:
    """Name a hash for people: ``sha256``, or its number where it has no name here."""
    return HASH_NAMES.get(algorithm, f"0x{algorithm:04x}")


def u16(value: int) -> bytes:
    """Write a UINT16."""
    return value.to_bytes(2, "big")


def u32(value: int) -> bytes:
    """Write a UINT32."""
    return value.to_bytes(4, "big")


def tpm2b(data: bytes) -> bytes:
    """Write a TPM2B: size, then the bytes."""
    return u16(len(data)) + data


def pcr_selection(pcrs: tuple[int, ...]) -> bytes:
    """Write a TPML_PCR_SELECTION of the SHA-256 bank over ``pcrs`` (0 to 23)."""
    bits = sum(1 << pcr for pcr in set(pcrs))
    return u32(1) + u16(ALG_SHA256) + b"\x03" + bits.to_bytes(3, "little")
