"""Big-endian TPM structures (TPM 2.0 Part 2): a bounded reader, and the few writers that commands need."""

from __future__ import annotations

from strongroom.core.errors import MalformedError

ALG_RSA = 0x0001
ALG_AES = 0x0006
ALG_SHA256 = 0x000B
ALG_NULL = 0x0010
ALG_RSASSA = 0x0014
ALG_ECDSA = 0x0018
ALG_ECC = 0x0023
ALG_CFB = 0x0043
ECC_NIST_P256 = 0x0003


class Reader:
    """Reads a structure field by field; what is missing, too long or left over is refused.

    :raises MalformedError: (every method) the bytes end early or a size is above its bound.
    """

    def __init__(self, data: bytes, where: str, *, max_bytes: int) -> None:
        if len(data) > max_bytes:
            raise MalformedError(f"`{where}` has {len(data)} bytes; at most {max_bytes} are read")
        self._data = data
        self._at = 0
        self.where = where

    def take(self, size: int) -> bytes:
        """Take exactly ``size`` bytes."""
        end = self._at + size
        if end > len(self._data):
            raise MalformedError(f"`{self.where}` ends after {len(self._data)} bytes, inside a field")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def integer(self, size: int) -> int:
        """Take an unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def sized(self, most: int) -> bytes:
        """Take a TPM2B: a 16-bit size of at most ``most``, then that many bytes."""
        size = self.integer(2)
        if size > most:
            raise MalformedError(f"`{self.where}` holds a field of {size} bytes; at most {most} are read")
        return self.take(size)

    def rest(self) -> bytes:
        """Take what is left."""
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Refuse bytes after the structure: two readers must not see two structures in the same bytes."""
        if self._at != len(self._data):
            raise MalformedError(f"`{self.where}` has {len(self._data) - self._at} bytes after its end")


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
