"""Secret bytes that are awkward on purpose: no repr, no equality, no pickle, no copy, wiped when asked.

To read one takes a token from :mod:`strongroom.core.insecure_secret_access`, a name that stands out in review.
CPython can't promise that no other copy exists; what is kept here lives in one mutable buffer that can be cleared.
A process may say once, as it starts, where such buffers are: in memory that the kernel hides, say, instead of the heap.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Never, Self

from strongroom.core.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.core.insecure_secret_access import SecretAccess


class SecretUseError(StrongroomError):
    """A secret was about to be shown, copied, compared, or used after it was wiped."""

    code = "secret-use"


class _Process:
    """Where this process keeps its secrets: None, the heap. Set once, before the first secret is made."""

    memory: Callable[[int], memoryview] | None = None


def keep_secrets_in(memory: Callable[[int], memoryview] | None) -> None:
    """Have every secret that this process makes from here on moved into ``memory``; None: left where it was made.

    ``memory``: length -> that many zeroed, writable bytes, which are its own for as long as any view of them lives.
    """
    _Process.memory = memory


class SecretBytes:
    """A secret in one wipeable buffer. Takes over ``buffer``: the caller must not keep it, and may find it zeroed.

    A ``memoryview`` must be writable and of single bytes; it is how one secret is put into memory of the caller's.

    :raises UnavailableError: the process has no more memory for secrets; ``buffer`` is zeroed.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: bytearray | memoryview) -> None:
        self._buffer: bytearray | memoryview | None = None
        if _Process.memory is None or isinstance(buffer, memoryview) or not buffer:
            self._buffer = buffer
            return
        try:
            place = _Process.memory(len(buffer))
            ctypes.memmove(_first(place), _first(buffer), len(buffer))
            self._buffer = place
        finally:
            ctypes.memset(_first(buffer), 0, len(buffer))

    def __len__(self) -> int:
        return len(self._open())

    def reveal(self, _token: SecretAccess) -> memoryview:
        """Return a view of the secret; it must not outlive the call that needs it.

        :raises SecretUseError: the secret was wiped.
        """
        return memoryview(self._open())

    def wipe(self) -> None:
        """Overwrite the buffer with zeros; a second call does nothing."""
        if self._buffer is not None:
            if self._buffer:
                ctypes.memset(_first(self._buffer), 0, len(self._buffer))
            self._buffer = None

    def _open(self) -> bytearray | memoryview:
        if self._buffer is None:
            raise SecretUseError("the secret was wiped")
        return self._buffer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.wipe()

    def __repr__(self) -> str:
        return "<secret>"

    def _refuse(self, *_args: object) -> Never:
        raise SecretUseError("a secret can't be compared, hashed, copied or serialised")

    __eq__ = _refuse
    __hash__ = _refuse
    __reduce_ex__ = _refuse
    __copy__ = _refuse
    __deepcopy__ = _refuse
    __iter__ = _refuse
    __bytes__ = _refuse


def _first(buffer: bytearray | memoryview) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(buffer)).from_buffer(buffer)
