"""The first 4,022 bytes of a sealed object: what it is, in fixed places (docs/spec/sealed-weights.md).

All of them are FLOE's associated data, so none can be changed without the data key. Integers are big-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from strongroom.core.canonical import encode
from strongroom.core.digest import Digest
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.ids import ModelId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.sealing.errors import NotSealedError, SealedFormatError, SuiteRefusedError
from strongroom.sealing.floe import KEY_LENGTH, FloeParameters

MAGIC: Final = b"\x89SRW\r\n\x1a\n"
"""As in PNG: a byte that isn't ASCII, and line ends that a text-mode copy would damage."""
VERSION: Final = 1
PRELUDE_LENGTH: Final = 4022
ID_LENGTH: Final = 16
COMMITMENT_LENGTH: Final = 32
MIN_SEGMENT_BITS: Final = 16
MAX_SEGMENT_BITS: Final = 24
DEFAULT_SEGMENT_BITS: Final = 20
_FIXED: Final = struct.Struct(">8sHHBB16s16s32s")
_COMMITMENT_LABEL: Final = b"strongroom data key commitment v1"
_VERSION_LABEL: Final = b"strongroom model version v1\0"


class Suite(IntEnum):
    """Allowed ciphers. A reader refuses every other number; nothing is negotiated."""

    FLOE_AES_256_GCM_SHA_384 = 1


def key_commitment(data_key: SecretBytes) -> bytes:
    """Return 32 bytes that name a data key and commit to it: HKDF-Expand-SHA-384 under a label of its own.

    The label can't collide with FLOE's use of the same key: FLOE's derivations all begin with a zero byte.

    :raises UsageError: a data key that doesn't have 32 bytes.
    """
    return subkey(data_key, _COMMITMENT_LABEL)


def subkey(data_key: SecretBytes, label: bytes) -> bytes:
    """Return 32 bytes for one use, by HKDF-Expand-SHA-384; ``label`` names the use and begins with a letter.

    :raises UsageError: a data key that doesn't have 32 bytes.
    """
    if len(data_key) != KEY_LENGTH:
        raise UsageError("a data key has 32 bytes")
    return HKDFExpand(hashes.SHA384(), COMMITMENT_LENGTH, label).derive(data_key.reveal(TOKEN))


def model_version_id(genesis: Digest, model: ModelId, version: int) -> bytes:
    """Return the 16 bytes that stand for one version of one model in one deployment."""
    named = encode({"genesis": str(genesis), "model": model, "version": version})
    return Digest.of(_VERSION_LABEL + named).value[:ID_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prelude:
    """What a sealed object says of itself; nothing in it is believed before FLOE's header tag is checked."""

    model_version: bytes
    object_id: bytes
    commitment: bytes
    segment_bits: int = DEFAULT_SEGMENT_BITS
    suite: Suite = Suite.FLOE_AES_256_GCM_SHA_384

    def __post_init__(self) -> None:
        if len(self.model_version) != ID_LENGTH or len(self.object_id) != ID_LENGTH:
            raise MalformedError("a model version id and an object id have 16 bytes each")
        if len(self.commitment) != COMMITMENT_LENGTH:
            raise MalformedError("a data key commitment has 32 bytes")
        if not MIN_SEGMENT_BITS <= self.segment_bits <= MAX_SEGMENT_BITS:
            raise MalformedError("a segment has 2^16 to 2^24 bytes")

    @property
    def parameters(self) -> FloeParameters:
        """FLOE's parameters for this object."""
        return FloeParameters(1 << self.segment_bits)

    def to_bytes(self) -> bytes:
        """Return the 4,022 bytes."""
        fixed = _FIXED.pack(
            MAGIC, VERSION, self.suite, self.segment_bits, 0, self.model_version, self.object_id, self.commitment
        )
        return fixed.ljust(PRELUDE_LENGTH, b"\0")

    @classmethod
    def parse(cls, data: bytes, *, object_name: str = "") -> Prelude:
        """Read exactly 4,022 bytes.

        :raises NotSealedError: the magic isn't there: plaintext, or something else entirely.
        :raises SealedFormatError: unknown version or flag, a segment length out of range, or non-zero padding.
        :raises SuiteRefusedError: a suite that isn't in :class:`Suite`.
        """
        if data[: len(MAGIC)] != MAGIC:
            raise NotSealedError(
                "this isn't a sealed object; plaintext is never accepted here", object_name=object_name
            )
        if len(data) != PRELUDE_LENGTH:
            raise SealedFormatError(f"the prelude has {len(data)} bytes, not 4022", object_name=object_name)
        _magic, version, suite, bits, flags, model_version, object_id, commitment = _FIXED.unpack_from(data)
        if version != VERSION:
            raise SealedFormatError(f"format version {version} isn't known", object_name=object_name)
        if suite not in Suite.__members__.values():
            raise SuiteRefusedError(f"cipher suite {suite} isn't one that this reader allows", object_name=object_name)
        if not MIN_SEGMENT_BITS <= bits <= MAX_SEGMENT_BITS:
            raise SealedFormatError(f"a segment length of 2^{bits} isn't allowed", object_name=object_name)
        if flags != 0 or any(data[_FIXED.size :]):
            raise SealedFormatError("reserved bytes of the prelude aren't zero", object_name=object_name)
        return cls(
            model_version=model_version,
            object_id=object_id,
            commitment=commitment,
            segment_bits=bits,
            suite=Suite(suite),
        )
