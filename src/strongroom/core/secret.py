"""Secret bytes that are awkward on purpose: no repr, no equality, no pickle, no copy, wiped when asked.

To read one takes a token from :mod:`strongroom.core.insecure_secret_access`, a name that stands out in review.
CPython can't promise that no other copy exists; what is kept here lives in one mutable buffer that can be cleared.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Never, Self

from strongroom.core.errors import StrongroomError

if TYPE_CHECKING:
    from strongroom.core.insecure_secret_access import SecretAccess


class SecretUseError(StrongroomError):
    """A secret was about to be shown, copied, compared, or used after it was wiped."""

    code = "secret-use"


class SecretBytes:
    """A secret in one wipeable buffer. Takes over ``buffer``: the caller must not keep it.

    A ``memoryview`` must be writable and of single bytes; it is how memory other than the heap is used.
    """

    __slots__ = ("_buffer",)

    def __init__(self, buffer: bytearray | memoryview) -> None:
        self._buffer: bytearray | memoryview | None = buffer

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
            size = len(self._buffer)
            if size:
                ctypes.memset((ctypes.c_char * size).from_buffer(self._buffer), 0, size)
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
