"""What every use of a TPM needs: registers, policy sessions, primaries, and letting go of what a TPM holds few of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from strongroom.core.reader import Reader
from strongroom.tpm import wire
from strongroom.tpm.adapters.commands import Command, execute, execute_authorised, session
from strongroom.tpm.adapters.transport import TpmTransport
from strongroom.tpm.errors import TpmError
from strongroom.tpm.wire import pcr_selection, tpm2b, u16, u32

RH_NULL: Final = 0x40000007
_SESSION_POLICY: Final = b"\x01"


def pcr_read(transport: TpmTransport, pcr: int) -> bytes:
    """Return the 32 bytes of a PCR of the SHA-256 bank.

    :raises TpmError: the TPM refused, or has no such bank.
    """
    selection = pcr_selection((pcr,))
    body = execute(transport, Command.PCR_READ, selection)
    body.take(4)
    if body.take(len(selection)) != selection or body.integer(4) != 1:
        raise TpmError("the TPM has no SHA-256 bank for this PCR")
    value = body.sized(32)
    body.end()
    return value


def policy_session(transport: TpmTransport) -> int:
    """Start a policy session; returns its handle, which must be flushed unless a command that succeeds ends it.

    :raises TpmError: the TPM refused.
    """
    parameters = u32(RH_NULL) * 2 + tpm2b(os.urandom(16)) + u16(0) + _SESSION_POLICY
    parameters += u16(wire.ALG_NULL) + u16(wire.ALG_SHA256)
    return execute(transport, Command.START_AUTH_SESSION, parameters).integer(4)


@contextmanager
def primary(transport: TpmTransport, hierarchy: int, template: bytes) -> Iterator[tuple[int, Reader]]:
    """Make a primary key from its template; yields its handle and the answer. It is flushed at the end of the block.

    :raises TpmError: the TPM refused.
    """
    parameters = tpm2b(u16(0) + u16(0)) + tpm2b(template) + u16(0) + u32(0)
    handle, body = execute_authorised(transport, Command.CREATE_PRIMARY, u32(hierarchy), session(), parameters)
    number = int.from_bytes(handle, "big")
    try:
        yield number, body
    finally:
        flush(transport, number)


def flush(transport: TpmTransport, handle: int) -> None:
    """Drop a loaded key or a session.

    :raises TpmError: the TPM refused.
    """
    execute(transport, Command.FLUSH_CONTEXT, u32(handle)).end()
