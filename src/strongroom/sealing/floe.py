"""FLOE: random-access, key-committing authenticated encryption of long data (c2sp.org/FLOE; IACR ePrint 2025/2275).

The one suite: AES-256-GCM segments under keys from HKDF-Expand-SHA-384. Everything here is one segment at a time; what
keeps a caller from using it wrongly (each position once, the final segment proves the length) is in
:mod:`strongroom.sealing.seal` and :mod:`strongroom.sealing.open`. Randomness comes in as bytes.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from strongroom.core.errors import UsageError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.sealing.errors import ExtendedError, HeaderTamperedError, SegmentTamperedError, TruncatedError

KEY_LENGTH: Final = 32
IV_LENGTH: Final = 32
NONCE_LENGTH: Final = 12
TAG_LENGTH: Final = 16
LENGTH_FIELD: Final = 4
OVERHEAD: Final = LENGTH_FIELD + NONCE_LENGTH + TAG_LENGTH
"""Bytes that each segment adds to its plaintext."""
HEADER_TAG_LENGTH: Final = 32
HEADER_LENGTH: Final = 10 + IV_LENGTH + HEADER_TAG_LENGTH
MESSAGE_KEY_LENGTH: Final = 48
MAX_SEGMENTS: Final = 2**40
_NOT_FINAL: Final = b"\xff\xff\xff\xff"
_CACHED_CIPHERS: Final = 8


_ZEROS: Final = bytes(1 << 20)


def wipe(buffer: memoryview) -> None:
    """Overwrite ``buffer`` with zeros, a MiB at a time: wiping gigabytes takes no second buffer of that size."""
    for start in range(0, len(buffer), len(_ZEROS)):
        part = buffer[start : start + len(_ZEROS)]
        part[:] = _ZEROS[: len(part)]


@dataclass(frozen=True, slots=True)
class FloeParameters:
    """What one ciphertext was made with: the segment length in bytes, and log2 of the segments under one AES key.

    ``rotation_bits`` is 20 in the specification (2^20 segments of 1 MiB: a new AES key each TiB); the published known
    answers for key rotation use 2.
    """

    segment_length: int
    rotation_bits: int = 20

    def __post_init__(self) -> None:
        if not OVERHEAD < self.segment_length < 2**32 - 1:
            raise UsageError("a FLOE segment has more than 32 and fewer than 2^32 - 1 bytes")

    @property
    def plaintext_length(self) -> int:
        """Plaintext bytes in each segment but the last."""
        return self.segment_length - OVERHEAD

    def encode(self) -> bytes:
        """Return the 10 bytes that open the FLOE header: AEAD 0, KDF 0, segment length, IV length."""
        return b"\0\0" + self.segment_length.to_bytes(4, "big") + IV_LENGTH.to_bytes(4, "big")


def _expand(key: memoryview, info: bytes, length: int) -> bytearray:
    out = bytearray(length)
    HKDFExpand(hashes.SHA384(), length, info).derive_into(key, out)
    return out


class Floe:
    """One ciphertext's keys. Made by :meth:`begin` (encrypt) or :meth:`resume` (decrypt); holds no position.

    Threads may share one: nothing in it changes but a cache of derived AES keys.
    """

    __slots__ = ("_aad", "_ciphers", "_message_key", "_prefix", "parameters")

    def __init__(self, key: SecretBytes, aad: bytes, iv: bytes, parameters: FloeParameters) -> None:
        if len(key) != KEY_LENGTH or len(iv) != IV_LENGTH:
            raise UsageError("a FLOE key and a FLOE IV have 32 bytes each")
        self.parameters = parameters
        self._prefix = parameters.encode() + iv
        self._aad = aad
        info = self._prefix + b"MESSAGE_KEY:" + aad
        self._message_key = SecretBytes(_expand(key.reveal(TOKEN), info, MESSAGE_KEY_LENGTH))
        self._ciphers: dict[int, AESGCM] = {}

    @classmethod
    def begin(cls, key: SecretBytes, aad: bytes, iv: bytes, parameters: FloeParameters) -> tuple[Floe, bytes]:
        """Start an encryption; returns it and the 74-byte header. ``iv`` is 32 fresh random bytes.

        A second encryption under the same key and IV would share AES keys with the first; with random segment nonces
        that is not fatal at once, but it voids the bounds of the specification.

        :raises UsageError: a key or IV that doesn't have 32 bytes.
        """
        floe = cls(key, aad, iv, parameters)
        return floe, floe._prefix + floe._header_tag(key)

    @classmethod
    def resume(cls, key: SecretBytes, aad: bytes, header: bytes, parameters: FloeParameters) -> Floe:
        """Start a decryption.

        :raises HeaderTamperedError: the header has other parameters, or its tag doesn't commit to this key, IV and AAD.
        """
        if len(header) != HEADER_LENGTH or header[:10] != parameters.encode():
            raise HeaderTamperedError("the FLOE header doesn't have the parameters that were expected")
        floe = cls(key, aad, header[10 : 10 + IV_LENGTH], parameters)
        if not hmac.compare_digest(floe._header_tag(key), header[-HEADER_TAG_LENGTH:]):
            floe.wipe()
            raise HeaderTamperedError("the FLOE header isn't authentic under this key and these identifiers")
        return floe

    def _header_tag(self, key: SecretBytes) -> bytes:
        return bytes(_expand(key.reveal(TOKEN), self._prefix + b"HEADER_TAG:" + self._aad, HEADER_TAG_LENGTH))

    def _cipher(self, position: int) -> AESGCM:
        if not 0 <= position < MAX_SEGMENTS:
            raise UsageError("a FLOE ciphertext has at most 2^40 segments")
        group = position >> self.parameters.rotation_bits << self.parameters.rotation_bits
        cipher = self._ciphers.get(group)
        if cipher is None:
            info = self._prefix + b"DEK:" + group.to_bytes(8, "big") + self._aad
            derived = _expand(self._message_key.reveal(TOKEN), info, KEY_LENGTH)
            cipher = AESGCM(derived)
            wipe(memoryview(derived))
            if len(self._ciphers) >= _CACHED_CIPHERS:
                self._ciphers.clear()
            self._ciphers[group] = cipher
        return cipher

    def encrypt_segment(
        self, out: memoryview, plaintext: memoryview, *, position: int, nonce: bytes, final: bool
    ) -> None:
        """Encrypt one segment into ``out``, which has exactly ``len(plaintext) + 32`` bytes.

        ``plaintext`` may be the part of ``out`` that its ciphertext takes, or no part of it.

        ``nonce`` is 12 fresh random bytes, never used twice for one position.

        :raises UsageError: lengths that the specification doesn't allow.
        """
        size = len(plaintext)
        allowed = size <= self.parameters.plaintext_length if final else size == self.parameters.plaintext_length
        if not allowed or len(out) != size + OVERHEAD or len(nonce) != NONCE_LENGTH:
            raise UsageError("a FLOE segment's plaintext, nonce or buffer has the wrong length")
        out[:LENGTH_FIELD] = len(out).to_bytes(LENGTH_FIELD, "big") if final else _NOT_FINAL
        out[LENGTH_FIELD : LENGTH_FIELD + NONCE_LENGTH] = nonce
        body = out[LENGTH_FIELD + NONCE_LENGTH :]
        self._cipher(position).encrypt_into(nonce, plaintext, _segment_aad(position, final=final), body)

    def decrypt_segment(self, out: memoryview, segment: memoryview, *, position: int, final: bool) -> None:
        """Decrypt one segment into ``out``, which has exactly ``len(segment) - 32`` bytes and is wiped on failure.

        :raises TruncatedError: a segment that isn't final where the last one must be: the rest was cut off.
        :raises ExtendedError: a segment marked final with more after it.
        :raises SegmentTamperedError: anything else that isn't authentic at this position.
        """
        length = len(segment)
        if not OVERHEAD <= length <= self.parameters.segment_length or len(out) != length - OVERHEAD:
            raise UsageError("a FLOE segment or its buffer has the wrong length")
        stated = bytes(segment[:LENGTH_FIELD])
        if final and stated == _NOT_FINAL:
            raise TruncatedError(f"the last segment, {position}, isn't the final one", segment=position)
        if not final and OVERHEAD <= int.from_bytes(stated, "big") <= length:
            raise ExtendedError(f"segment {position} is marked final but isn't the last", segment=position)
        if stated != (length.to_bytes(LENGTH_FIELD, "big") if final else _NOT_FINAL):
            raise SegmentTamperedError(f"segment {position} states a wrong length", segment=position)
        nonce = segment[LENGTH_FIELD : LENGTH_FIELD + NONCE_LENGTH]
        body = segment[LENGTH_FIELD + NONCE_LENGTH :]
        try:
            self._cipher(position).decrypt_into(nonce, body, _segment_aad(position, final=final), out)
        except InvalidTag:
            # GCM writes the plaintext before it checks the tag: what it wrote is unauthenticated.
            wipe(out)
            raise SegmentTamperedError(
                f"segment {position} isn't authentic: it was altered, or comes from another object", segment=position
            ) from None

    def wipe(self) -> None:
        """Forget the derived keys as far as CPython lets us."""
        self._ciphers.clear()
        self._message_key.wipe()


def _segment_aad(position: int, *, final: bool) -> bytes:
    # The position stops reordering and duplication, the final mark stops truncation and extension.
    return position.to_bytes(8, "big") + (b"\1" if final else b"\0")
