"""Memory for plaintext: pages of its own, left out of core dumps, in huge pages where the kernel has them.

It comes from the C library and not from a map of its own, because memory that was used before costs nothing to use
again: a fresh page has to be had from the kernel, or from the host of a virtual machine, which is slower than AES.
"""

from __future__ import annotations

import ctypes
import mmap
import weakref
from typing import Final

from strongroom.core.errors import UnavailableError

_PAGE: Final = 4096
_HUGE: Final = 2 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.aligned_alloc.restype = ctypes.c_void_p
_libc.aligned_alloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.free.restype = None
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class NoMemoryError(UnavailableError):
    """There isn't enough memory for the plaintext that was asked for."""

    code = "no-memory"


def plaintext_buffer(size: int) -> memoryview:
    """Return ``size`` bytes, page-aligned, not cleared: whoever asks for them fills or wipes all of them.

    They are let go with the last view. They can be swapped: whole weights don't fit into what may be locked. The threat
    model says what follows from both.

    :raises NoMemoryError: the system gives no more.
    """
    length = -(-max(size, 1) // _PAGE) * _PAGE
    address = _libc.aligned_alloc(_HUGE if length >= 2 * _HUGE else _PAGE, length)
    if not address:
        raise NoMemoryError(f"no memory for {size} bytes of plaintext", remedy="free memory, or open less at once")
    array = (ctypes.c_ubyte * size).from_address(address)
    # Not at exit: tensors may still point here then, and the process's memory is about to go anyway.
    weakref.finalize(array, _libc.free, address).atexit = False
    _libc.madvise(address, length, mmap.MADV_DONTDUMP)
    if length >= _HUGE:
        _libc.madvise(address, length, mmap.MADV_HUGEPAGE)
    return memoryview(array).cast("B")
