"""Secret bytes in memory that the kernel hides as well as it can, and that say how well that is.

``memfd_secret`` (Linux 5.14) takes the pages out of the kernel's own map: root's reads through /proc/PID/mem,
process_vm_readv and a crash dump fail on them. It doesn't hide copies that a library makes: OpenSSL keeps an expanded
key schedule in ordinary heap for as long as the cipher object lives.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from enum import StrEnum
from typing import Final

from strongroom.core.errors import UnavailableError
from strongroom.core.secret import SecretBytes
from strongroom.enclave.adapters import syscalls

MAX_SECRET: Final = 1 << 20
"""Bytes in one secret. First use of such pages is slow and they count as locked memory: keys, never weights."""
_MEMORY_REMEDY: Final = "raise the locked-memory limit (`ulimit -l`, or LimitMEMLOCK= in the unit)"


class SecretMemoryKind(StrEnum):
    """How well a secret's pages are hidden."""

    UNMAPPED = "memfd-secret"
    """Not in the kernel's map: root's ordinary ways of reading another process fail."""
    LOCKED = "locked"
    """Kept out of swap, core dumps and children; root can still read it."""


class SecretPage(SecretBytes):
    """A secret in pages of its own. Used, and wiped, like any :class:`~strongroom.core.secret.SecretBytes`."""

    __slots__ = ("_address", "_size", "kind")

    def __init__(self, length: int, *, kind: SecretMemoryKind | None = None) -> None:
        """Make a zeroed secret of ``length`` bytes; ``kind`` demands one kind, None takes the best there is.

        :raises UnavailableError: the kernel grants no such memory, or no more of it.
        """
        if not 0 < length <= MAX_SECRET:
            raise UnavailableError(f"a secret page holds 1 to {MAX_SECRET} bytes, not {length}")
        self._size = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        self._address, self.kind = _map(self._size, kind)
        view = memoryview((ctypes.c_ubyte * length).from_address(self._address)).cast("B")
        super().__init__(view)

    @classmethod
    def taking(cls, buffer: bytearray, *, kind: SecretMemoryKind | None = None) -> SecretPage:
        """Move the secret out of ``buffer``, which is left zeroed.

        :raises UnavailableError: the kernel grants no such memory; ``buffer`` is zeroed all the same.
        """
        if not buffer:
            raise UnavailableError("an empty secret has no page")
        try:
            page = cls(len(buffer), kind=kind)
            source = (ctypes.c_char * len(buffer)).from_buffer(buffer)
            ctypes.memmove(page._address, source, len(buffer))  # from page to page: no copy in between
        finally:
            ctypes.memset((ctypes.c_char * len(buffer)).from_buffer(buffer), 0, len(buffer))
        return page

    def wipe(self) -> None:
        """Zero the secret and give its pages back; a second call does nothing.

        The addresses stay taken, by empty pages: a view that somebody kept reads zeros, and never what the process
        happens to map there next.
        """
        super().wipe()
        if self._size:
            syscalls.map_memory(
                self._size,
                flags=syscalls.MAP_PRIVATE | syscalls.MAP_ANONYMOUS | syscalls.MAP_FIXED,
                at=self._address,
            )
            self._size = 0

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # the constructor refused before there was anything to wipe
            self.wipe()


def secret_from(buffer: bytearray) -> SecretPage:
    """Move the secret out of ``buffer``, which is left zeroed, into the best hidden memory that the kernel grants.

    :raises UnavailableError: it grants none; ``buffer`` is zeroed all the same.
    """
    return SecretPage.taking(buffer)


def _map(size: int, kind: SecretMemoryKind | None) -> tuple[int, SecretMemoryKind]:
    if kind is not SecretMemoryKind.LOCKED:
        try:
            return _unmapped(size), SecretMemoryKind.UNMAPPED
        except OSError as error:
            if kind is not None:
                raise UnavailableError(
                    f"the kernel grants no unmapped secret memory: {error.strerror}",
                    remedy=f"boot with `secretmem.enable=1` on Linux 5.14 or newer; {_MEMORY_REMEDY}",
                ) from None
    try:
        return _locked(size), SecretMemoryKind.LOCKED
    except OSError as error:
        raise UnavailableError(
            f"the kernel can't keep a secret out of swap: {error.strerror}", remedy=_MEMORY_REMEDY
        ) from None


def _unmapped(size: int) -> int:
    descriptor = syscalls.memfd_secret()
    try:
        os.ftruncate(descriptor, size)
        address = syscalls.map_memory(size, flags=syscalls.MAP_SHARED, descriptor=descriptor)
    finally:
        # An open descriptor could be taken over (pidfd_getfd) and mapped by whoever may trace this process.
        os.close(descriptor)
    # The mapping is shared: without this a child would see the secret, and what the parent writes into it later.
    syscalls.advise(address, size, syscalls.MADV_DONTFORK)
    # The first touch may fail for want of locked memory, as a bus error. Here it is an allocation that can be refused.
    ctypes.memset(address, 0, size)
    return address


def _locked(size: int) -> int:
    address = syscalls.map_memory(size, flags=syscalls.MAP_PRIVATE | syscalls.MAP_ANONYMOUS)
    syscalls.lock_memory(address, size)
    syscalls.advise(address, size, syscalls.MADV_DONTDUMP)
    syscalls.advise(address, size, syscalls.MADV_WIPEONFORK)
    return address
