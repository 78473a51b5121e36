"""A raw TPM 2.0 client: the dozen commands that enrolment and quoting need (TPM 2.0 Part 3), without a TSS library.

Keys are primaries of the endorsement hierarchy made from fixed templates, so the same TPM gives the same keys each
time and nothing needs to be stored; they are flushed after use, because a TPM holds three.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from strongroom.attestation.tpm.credential import MAX_SECRET, Credential
from strongroom.attestation.tpm.public_area import AK_ATTRIBUTES, EK_ATTRIBUTES, EK_POLICY, MAX_PUBLIC, PublicArea
from strongroom.attestation.tpm.quote import MAX_ATTEST
from strongroom.core.reader import Reader
from strongroom.tpm import wire
from strongroom.tpm.adapters.commands import (
    Command,
    RefusedCommandError,
    execute,
    execute_authorised,
    session,
)
from strongroom.tpm.adapters.sessions import flush, pcr_read, policy_session, primary
from strongroom.tpm.adapters.transport import TpmTransport
from strongroom.tpm.errors import TpmError
from strongroom.tpm.wire import pcr_selection, tpm2b, u16, u32

RH_ENDORSEMENT: Final = 0x4000000B
NV_EK_CERTIFICATE: Final = 0x01C00002
"""Where the RSA-2048 endorsement certificate lies (TCG EK Credential Profile, 2.2.1.4)."""
MAX_NV: Final = 4096
_CAP_TPM_PROPERTIES: Final = 6
_PT_MANUFACTURER: Final = 0x105
_RC_INITIALIZE: Final = 0x100
_NV_CHUNK: Final = 512

AK_TEMPLATE: Final = (
    u16(wire.ALG_ECC)
    + u16(wire.ALG_SHA256)
    + u32(AK_ATTRIBUTES)
    + tpm2b(b"")
    + u16(wire.ALG_NULL)
    + u16(wire.ALG_ECDSA)
    + u16(wire.ALG_SHA256)
    + u16(wire.ECC_NIST_P256)
    + u16(wire.ALG_NULL)
    + tpm2b(b"") * 2
)
EK_TEMPLATE: Final = (
    u16(wire.ALG_RSA)
    + u16(wire.ALG_SHA256)
    + u32(EK_ATTRIBUTES)
    + tpm2b(EK_POLICY)
    + u16(wire.ALG_AES)
    + u16(128)
    + u16(wire.ALG_CFB)
    + u16(wire.ALG_NULL)
    + u16(2048)
    + u32(0)
    + tpm2b(bytes(256))
)


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key that is loaded now, under a handle that is good until it is flushed."""

    handle: int
    public: PublicArea


class TpmDevice:
    """One TPM behind an open transport, which it owns.

    :raises TpmError: (every method) the TPM refused a command, named with its code, or can't be reached.
    :raises MalformedError: (every method) the TPM's answer can't be parsed.
    """

    def __init__(self, transport: TpmTransport) -> None:
        self._transport = transport

    def startup(self) -> None:
        """Start the TPM after power-on; one that firmware has started already is left as it is."""
        try:
            self._plain(Command.STARTUP, u16(0)).end()
        except RefusedCommandError as error:
            if error.response_code != _RC_INITIALIZE:
                raise

    def manufacturer(self) -> str:
        """Return the vendor id of up to four letters, e.g. ``IBM`` for the library behind swtpm."""
        wanted = u32(_CAP_TPM_PROPERTIES) + u32(1) + u32(_PT_MANUFACTURER)
        body = self._plain(Command.GET_CAPABILITY, u32(_CAP_TPM_PROPERTIES) + u32(_PT_MANUFACTURER) + u32(1))
        body.take(1)
        if body.take(len(wanted)) != wanted:
            raise TpmError("the TPM answered `get_capability` with another property")
        vendor = body.take(4)
        body.end()
        return vendor.rstrip(b"\0 ").decode("ascii", "replace")

    def pcr_extend(self, pcr: int, extension: bytes) -> None:
        """Extend 32 bytes into a PCR of the SHA-256 bank."""
        self._authorised(Command.PCR_EXTEND, u32(pcr), u32(1) + u16(wire.ALG_SHA256) + extension).end()

    def pcr_read(self, pcr: int) -> bytes:
        """Return the 32 bytes of a PCR of the SHA-256 bank."""
        return pcr_read(self._transport, pcr)

    def nv_read(self, index: int) -> bytes:
        """Return the contents of an NV index that anyone may read (at most 4,096 bytes)."""
        body = self._plain(Command.NV_READ_PUBLIC, u32(index))
        area = Reader(body.sized(128), "TPMS_NV_PUBLIC", max_bytes=128)
        area.take(4 + 2 + 4)
        area.sized(64)
        size = area.integer(2)
        if size > MAX_NV:
            raise TpmError(f"the NV index has {size} bytes; at most {MAX_NV} are read")
        data = b""
        while len(data) < size:
            where = u16(min(_NV_CHUNK, size - len(data))) + u16(len(data))
            part = self._authorised(Command.NV_READ, u32(index) * 2, where).sized(_NV_CHUNK)
            if not part:
                raise TpmError("the TPM's NV index ends early")
            data += part
        return data

    def ek_certificate(self) -> bytes:
        """Return the endorsement certificate (DER), without the padding that some vendors leave after it."""
        data = self.nv_read(NV_EK_CERTIFICATE)
        if data[:2] != b"\x30\x82":
            raise TpmError("the TPM holds no endorsement certificate in DER")
        return data[: 4 + int.from_bytes(data[2:4], "big")]

    @contextmanager
    def endorsement_key(self) -> Iterator[LoadedKey]:
        """Make the RSA-2048 endorsement key of template L-1; flushed at the end of the block."""
        with self._primary(EK_TEMPLATE) as key:
            yield key

    @contextmanager
    def attestation_key(self) -> Iterator[LoadedKey]:
        """Make the P-256 restricted signing key; flushed at the end of the block.

        Under the endorsement hierarchy, a cleared owner hierarchy doesn't change it.
        """
        with self._primary(AK_TEMPLATE) as key:
            yield key

    def quote(self, key: LoadedKey, qualifying_data: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes]:
        """Quote PCRs of the SHA-256 bank. Returns (TPMS_ATTEST, TPMT_SIGNATURE)."""
        parameters = tpm2b(qualifying_data) + u16(wire.ALG_NULL) + pcr_selection(pcrs)
        body = self._authorised(Command.QUOTE, u32(key.handle), parameters)
        return body.sized(MAX_ATTEST), body.rest()

    def activate_credential(self, attestation: LoadedKey, endorsement: LoadedKey, credential: Credential) -> bytes:
        """Open a credential: 1 to 32 bytes, if it was made for these two keys."""
        policy = policy_session(self._transport)
        try:
            # The endorsement key's policy asks for the endorsement hierarchy's authorisation, which is empty.
            self._authorised(Command.POLICY_SECRET, u32(RH_ENDORSEMENT) + u32(policy), u16(0) * 3 + u32(0))
            _, body = execute_authorised(
                self._transport,
                Command.ACTIVATE_CREDENTIAL,
                u32(attestation.handle) + u32(endorsement.handle),
                session() + session(policy),
                credential.blob + credential.encrypted_seed,
            )
        except RefusedCommandError:
            # A command that succeeds ends the session; one that fails leaves it, and a TPM holds few.
            self.flush(policy)
            raise
        secret = body.sized(MAX_SECRET)
        body.end()
        return secret

    def flush(self, handle: int) -> None:
        """Drop a loaded key or a session."""
        flush(self._transport, handle)

    def close(self) -> None:
        """Close the transport."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @contextmanager
    def _primary(self, template: bytes) -> Iterator[LoadedKey]:
        with primary(self._transport, RH_ENDORSEMENT, template) as (number, body):
            yield LoadedKey(number, PublicArea.parse(body.sized(MAX_PUBLIC)))

    def _plain(self, command: Command, parameters: bytes) -> Reader:
        return execute(self._transport, command, parameters)

    def _authorised(self, command: Command, handles: bytes, parameters: bytes) -> Reader:
        return execute_authorised(self._transport, command, handles, session(), parameters)[1]
