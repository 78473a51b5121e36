"""Framing of TPM 2.0 commands and responses (Part 1, section 18): tags, sizes, password sessions, response codes."""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Final

from strongroom.core.reader import Reader
from strongroom.tpm.adapters.transport import HEADER_BYTES, MAX_MESSAGE, TpmTransport
from strongroom.tpm.errors import TpmError
from strongroom.tpm.wire import tpm2b, u16, u32

_TAG_PLAIN: Final = 0x8001
_TAG_SESSIONS: Final = 0x8002
_RS_PASSWORD: Final = 0x40000009
# "Ask again": TPM_RC_YIELDED, TPM_RC_TESTING, TPM_RC_NV_RATE, TPM_RC_RETRY.
_TRY_AGAIN: Final = frozenset({0x908, 0x90A, 0x920, 0x922})
_ATTEMPTS: Final = 100
_PAUSE_SECONDS: Final = 0.01


class Command(IntEnum):
    """TPM_CC: the commands that are sent."""

    NV_UNDEFINE_SPACE = 0x122
    NV_DEFINE_SPACE = 0x12A
    CREATE_PRIMARY = 0x131
    NV_WRITE = 0x137
    STARTUP = 0x144
    ACTIVATE_CREDENTIAL = 0x147
    NV_READ = 0x14E
    POLICY_SECRET = 0x151
    CREATE = 0x153
    LOAD = 0x157
    QUOTE = 0x158
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    NV_READ_PUBLIC = 0x169
    START_AUTH_SESSION = 0x176
    GET_CAPABILITY = 0x17A
    PCR_READ = 0x17E
    POLICY_PCR = 0x17F
    PCR_EXTEND = 0x182
    POLICY_PASSWORD = 0x18C


_GIVES_HANDLE: Final = frozenset({Command.CREATE_PRIMARY, Command.LOAD})


class RefusedCommandError(TpmError):
    """The TPM answered with an error code, kept in ``response_code``."""

    code = "tpm-refused"

    def __init__(self, command: Command, response_code: int) -> None:
        super().__init__(f"the TPM refused `{command.name.lower()}` with code 0x{response_code:03x}")
        self.response_code = response_code


def session(handle: int = _RS_PASSWORD, secret: bytes = b"") -> bytes:
    """Write one authorisation without an HMAC: a password (empty by default), or a policy session.

    ``secret`` goes to the TPM in clear. A policy session ends with the command that succeeds.
    """
    return u32(handle) + u16(0) + b"\0" + tpm2b(secret)


def execute(transport: TpmTransport, command: Command, parameters: bytes) -> Reader:
    """Send a command without authorisation; returns a reader over what follows the response's header.

    :raises TpmError: the TPM refused, or its answer makes no sense.
    """
    return _exchange(transport, command, _TAG_PLAIN, parameters)


def execute_authorised(
    transport: TpmTransport, command: Command, handles: bytes, sessions: bytes, parameters: bytes
) -> tuple[bytes, Reader]:
    """Send a command with authorisation; returns (the response's handle, 4 bytes or none; a reader over parameters).

    :raises TpmError: the TPM refused, or its answer makes no sense.
    """
    body = handles + u32(len(sessions)) + sessions + parameters
    answer = _exchange(transport, command, _TAG_SESSIONS, body)
    handle = answer.take(4) if command in _GIVES_HANDLE else b""
    size = answer.integer(4)
    return handle, Reader(answer.take(size), command.name, max_bytes=MAX_MESSAGE)


def _exchange(transport: TpmTransport, command: Command, tag: int, body: bytes) -> Reader:
    message = u16(tag) + u32(HEADER_BYTES + len(body)) + u32(command) + body
    for _ in range(_ATTEMPTS):
        answer = Reader(transport.transact(message), command.name, max_bytes=MAX_MESSAGE)
        answered_tag, _size, code = answer.integer(2), answer.integer(4), answer.integer(4)
        if code == 0:
            if answered_tag != tag:
                raise TpmError(f"the TPM answered `{command.name.lower()}` with another kind of response")
            return answer
        if code not in _TRY_AGAIN:
            raise RefusedCommandError(command, code)
        time.sleep(_PAUSE_SECONDS)
    raise TpmError(f"the TPM asked {_ATTEMPTS} times to try `{command.name.lower()}` again")
