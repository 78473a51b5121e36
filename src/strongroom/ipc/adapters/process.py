"""What every long-running process does first: no core dump, no reader of its memory, private files, one log form."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import sys
from typing import Final

import structlog

from strongroom.core.canonical import Json
from strongroom.core.errors import UnavailableError
from strongroom.core.secret import SecretBytes

_PR_SET_DUMPABLE: Final = 4
_MAX_PASSPHRASE: Final = 1024


def harden() -> None:
    """Leave no core dump and let no other process of this user read this one's memory; new files are private.

    :raises UnavailableError: the kernel refuses.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise UnavailableError("the process can't be made undumpable")
    os.umask(0o077)


def go_first() -> None:
    """Run before ordinary programs, where the rights allow it: nobody wins time by keeping all processors busy."""
    with contextlib.suppress(OSError):
        os.nice(-15)


def program_log() -> None:
    """Write program output as JSON lines to stderr; stdout is kept for the ready line."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def say_ready(process: str, **facts: Json) -> None:
    """Write the one line that tells a supervisor that the process serves.

    What it consists of by now stays until it ends: looking through all of that for garbage takes a tenth of a second of
    processor time, again and again, while a freeze, an alarm or a visit waits.
    """
    gc.collect()
    gc.freeze()
    sys.stdout.write(json.dumps({"ready": process, "pid": os.getpid(), **facts}, sort_keys=True) + "\n")
    sys.stdout.flush()


def read_passphrase(descriptor: int) -> SecretBytes:
    """Read a passphrase from a file descriptor up to its end or the first newline, and close it.

    :raises UnavailableError: nothing can be read there.
    """
    buffer = bytearray(_MAX_PASSPHRASE)
    filled = 0
    try:
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while filled < len(buffer) and (count := file.readinto(memoryview(buffer)[filled:])):
                filled += count
    except OSError:
        raise UnavailableError(
            f"no passphrase can be read from descriptor {descriptor}",
            remedy="pass an open one, e.g. `3<passphrase-file`",
        ) from None
    end = buffer.find(b"\n", 0, filled)
    secret = bytearray(buffer[: end if end >= 0 else filled])
    ctypes.memset((ctypes.c_char * len(buffer)).from_buffer(buffer), 0, len(buffer))
    return SecretBytes(secret)
