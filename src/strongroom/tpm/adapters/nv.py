"""A few bytes in a TPM that stay when the disk goes back: ordinary NV indices (TPM 2.0 Part 1, section 37).

An index is written and read with its own authorisation value, which goes to the TPM in clear: who listens on the bus of
a discrete TPM learns it.
"""

from __future__ import annotations

from typing import Final

from strongroom.tpm import wire
from strongroom.tpm.adapters.commands import Command, RefusedCommandError, execute, execute_authorised, session
from strongroom.tpm.adapters.transport import TpmTransport
from strongroom.tpm.wire import tpm2b, u16, u32

RH_OWNER: Final = 0x40000001
# TPMA_NV: AUTHWRITE, AUTHREAD, and NO_DA: a wrong value must not lock the TPM for everybody.
_ATTRIBUTES: Final = 1 << 2 | 1 << 18 | 1 << 25
_NOT_THERE: Final = frozenset({0x08B, 0x18B})  # TPM_RC_HANDLE, of the first handle
_NOT_WRITTEN: Final = 0x14A  # TPM_RC_NV_UNINITIALIZED


def exists(transport: TpmTransport, index: int) -> bool:
    """Tell whether the index is defined.

    :raises TpmError: the TPM refused for another reason.
    """
    try:
        execute(transport, Command.NV_READ_PUBLIC, u32(index))
    except RefusedCommandError as error:
        if error.response_code in _NOT_THERE:
            return False
        raise
    return True


def define(transport: TpmTransport, index: int, *, size: int, secret: bytes) -> None:
    """Define an index of ``size`` bytes, which ``secret`` (at most 32 bytes) writes and reads.

    :raises TpmError: it is there already, there is no room, or the owner's authorisation isn't empty.
    """
    public = u32(index) + u16(wire.ALG_SHA256) + u32(_ATTRIBUTES) + tpm2b(b"") + u16(size)
    parameters = tpm2b(secret) + tpm2b(public)
    execute_authorised(transport, Command.NV_DEFINE_SPACE, u32(RH_OWNER), session(), parameters)


def undefine(transport: TpmTransport, index: int) -> None:
    """Remove an index.

    :raises TpmError: there is none, or the owner's authorisation isn't empty.
    """
    execute_authorised(transport, Command.NV_UNDEFINE_SPACE, u32(RH_OWNER) + u32(index), session(), b"")


def write(transport: TpmTransport, index: int, data: bytes, *, secret: bytes) -> None:
    """Replace the index's first bytes, in one step that a loss of power doesn't split.

    :raises TpmError: another secret, no such index, or the TPM is worn out.
    """
    handles = u32(index) * 2
    execute_authorised(transport, Command.NV_WRITE, handles, session(secret=secret), tpm2b(data) + u16(0))


def read(transport: TpmTransport, index: int, size: int, *, secret: bytes) -> bytes | None:
    """Return the index's first ``size`` bytes; None when nothing was ever written.

    :raises TpmError: another secret, or no such index.
    """
    try:
        _, body = execute_authorised(
            transport, Command.NV_READ, u32(index) * 2, session(secret=secret), u16(size) + u16(0)
        )
    except RefusedCommandError as error:
        if error.response_code == _NOT_WRITTEN:
            return None
        raise
    return body.sized(size)
