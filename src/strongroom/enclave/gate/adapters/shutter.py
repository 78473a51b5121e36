"""A hand on a gate's switch: a thread that stands in the gate's namespace, with libnftables(3) loaded.

Starting `nft` takes tens of milliseconds, in which gigabits leave. What is used here is loaded before it is needed.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from strongroom.core.canonical import Json
from strongroom.enclave.gate.errors import GateUnavailableError

_LIBRARY: Final = "libnftables.so.1"
_CLONE_NEWNET: Final = 0x4000_0000
_JSON: Final = 1 << 4
"""Of nft_ctx_output_set_flags: also has it read JSON."""
_NAMESPACES: Final = Path("/run/netns")


class Shutter:
    """Loads and lists rules in one namespace, in a thread of its own: only that thread is moved there.

    :raises GateUnavailableError: no such namespace, no libnftables, or not root.
    """

    def __init__(self, namespace: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shutter")
        try:
            self._library = _library()
            self._context = self._thread.submit(self._enter, namespace).result()
        except OSError as error:
            self._thread.shutdown()
            raise GateUnavailableError(
                f"the gate's switch can't be reached: {error.strerror or 'libnftables is missing'}",
                remedy="open the gate first; root and libnftables1 are needed",
            ) from None

    def begin(self, transaction: bytes, check: Callable[[Json], None]) -> Future[None]:
        """Begin to load a transaction of rules in JSON, and to check what the kernel lists afterwards.

        The future raises what ``check`` raises, and GateUnavailableError where the kernel refused.
        """
        return self._thread.submit(self._load, transaction, check)

    def close(self) -> None:
        """Let go."""
        self._thread.submit(self._library.nft_ctx_free, self._context).result()
        self._thread.shutdown()

    def _enter(self, namespace: str) -> ctypes.c_void_p:
        handle = os.open(_NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(handle, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(handle)
        # Its netlink socket belongs to the namespace in which it is made.
        context = ctypes.c_void_p(self._library.nft_ctx_new(0))
        self._library.nft_ctx_output_set_flags(context, _JSON)
        self._library.nft_ctx_buffer_output(context)
        self._library.nft_ctx_buffer_error(context)
        return context

    def _load(self, transaction: bytes, check: Callable[[Json], None]) -> None:
        self._run(transaction)
        try:
            listing: Json = json.loads(self._run(b"list ruleset"))
        except ValueError:
            raise GateUnavailableError("libnftables gave no JSON") from None
        check(listing)

    def _run(self, command: bytes) -> bytes:
        failed = self._library.nft_run_cmd_from_buffer(self._context, command)
        said: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
        if failed:
            why = (self._library.nft_ctx_get_error_buffer(self._context) or b"").decode("utf-8", "replace")
            raise GateUnavailableError(f"libnftables refused: {ascii(why.strip()[:160])[1:-1]}")
        return said


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.nft_ctx_new.restype = ctypes.c_void_p
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
    return library
