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
from collections import deque
from enum import StrEnum
from typing import Any, Final

from strongroom.core.errors import UnavailableError
from strongroom.core.secret import SecretBytes
from strongroom.walls.adapters import syscalls

MAX_SECRET: Final = 1 << 20
"""Bytes in one secret. First use of such pages is slow and they count as locked memory: keys, never weights."""
PLACES: Final = (64, 512, 8192)
"""Bytes of an arena's places: keys; words and passphrases; credentials from files."""
REGION: Final = 16 << 10
"""Bytes that an arena asks the kernel for at once."""
MOST_REGIONS: Final = 256
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


class SecretArena:
    """Small places for many short-lived secrets, in a few mappings that stay: a mapping for each would cost too many.

    Given to :func:`strongroom.core.secret.keep_secrets_in`, it holds all secrets of a process. A place is used again
    only once no view of it is left, and reads zeros from the moment its secret was wiped.
    """

    def __init__(self, kind: SecretMemoryKind | None = None) -> None:
        """Take the first region; ``kind`` demands one kind, None takes the best there is.

        :raises UnavailableError: the kernel grants no such memory.
        """
        self._regions = 0
        self._free: dict[int, deque[int]] = {size: deque() for size in PLACES}
        self.kind = self._grow(PLACES[0], kind)

    def take(self, length: int) -> memoryview:
        """Return ``length`` zeroed bytes, which are the caller's until no view of them is left.

        :raises UnavailableError: longer than any place, or the kernel grants no more such memory.
        """
        size = next((size for size in PLACES if length <= size), None)
        if size is None:
            raise UnavailableError(f"a secret has at most {PLACES[-1]} bytes, not {length}")
        # One attempt to take, one to make room: neither of deque's two calls can be interrupted by another thread.
        try:
            address = self._free[size].popleft()
        except IndexError:
            self._grow(size, self.kind)
            address = self._free[size].popleft()
        place: Any = _PLACE_TYPES[size].from_address(address)
        place.free = self._free[size]
        return memoryview(place).cast("B")[:length]

    def _grow(self, size: int, kind: SecretMemoryKind | None) -> SecretMemoryKind:
        if self._regions >= MOST_REGIONS:
            raise UnavailableError("this process holds too many secrets at once", remedy="ask again in a moment")
        address, kind = _map(REGION, kind)
        self._regions += 1
        self._free[size].extend(range(address, address + REGION, size))
        return kind


def _place_type(size: int) -> type[ctypes.Array[ctypes.c_ubyte]]:
    class Place(ctypes.c_ubyte * size):  # type: ignore[misc]  # a type that ctypes makes
        """One place. Views keep it alive; with the last of them it is cleared and can be taken again."""

        free: deque[int]

        def __del__(self) -> None:
            address = ctypes.addressof(self)
            ctypes.memset(address, 0, size)
            self.free.append(address)

    return Place


_PLACE_TYPES: Final = {size: _place_type(size) for size in PLACES}


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
