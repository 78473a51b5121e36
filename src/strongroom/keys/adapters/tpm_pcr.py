"""The ``tpm2`` provider: a key closed under a PCR policy (TPM 2.0 Part 1, section 19), opened in that state alone.

The object hangs below the storage root key, made from its template each time (or kept at a persistent handle), so
nothing stays in the TPM. Bytes cross the bus of a discrete TPM in clear: there, who can listen to the bus learns the
wrap's key, and needs the keeper's file besides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from strongroom.core.errors import MalformedError
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.reader import Reader
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.secret_file import read_credential
from strongroom.keys.provider import (
    Capability,
    Closed,
    Finality,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    KeyServiceUnavailableError,
    no_versions,
)
from strongroom.keys.uri import KeyUri
from strongroom.keys.wrapping import KEY_BYTES, WrapPurpose
from strongroom.tpm import wire
from strongroom.tpm.adapters.commands import Command, RefusedCommandError, execute, execute_authorised, session
from strongroom.tpm.adapters.sessions import flush, pcr_read, policy_session, primary
from strongroom.tpm.adapters.transport import TpmTransport
from strongroom.tpm.errors import TpmError
from strongroom.tpm.wire import pcr_selection, tpm2b, u16, u32

_RH_OWNER: Final = 0x40000001
_MAX_BLOB: Final = 1024
_MAX_SECRET: Final = 32
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, decrypt (TCG storage primary, P-256).
_SRK: Final = (
    u16(wire.ALG_ECC)
    + u16(wire.ALG_SHA256)
    + u32(0x00030472)
    + tpm2b(b"")
    + u16(wire.ALG_AES)
    + u16(128)
    + u16(wire.ALG_CFB)
    + u16(wire.ALG_NULL)
    + u16(wire.ECC_NIST_P256)
    + u16(wire.ALG_NULL)
    + tpm2b(b"") * 2
)
_KEYED_HASH: Final = 0x0008
# fixedTPM, fixedParent, adminWithPolicy: without userWithAuth, nothing but the policy opens it.
_ATTRIBUTES: Final = 0x00000092
_NO_LOCKOUT: Final = 0x00000400
_FORMAT_ONE: Final = 0x080
_REFUSED: Final = {
    0x08E: "the authorisation value is wrong",
    0x0A2: "the authorisation value is wrong",
    0x921: "the TPM is locked out after wrong authorisation values",
    0x09D: "this machine isn't in the state that the key was closed in",
    0x128: "this machine's state changed while the key was opened",
    0x08B: "there is no storage key at that handle",
}
_CHANGED: Final = frozenset({0x09F, 0x095, 0x084, 0x09A, 0x092, 0x0A6, 0x082, 0x08A})


class TpmPcrService:
    """A key under a PCR policy. ``connect`` opens a channel; it is closed again after each use."""

    capabilities = frozenset({Capability.NON_EXPORTABLE, Capability.MEASURED_RELEASE})

    def __init__(self, uri: KeyUri, connect: Callable[[str], TpmTransport]) -> None:
        self._connect = connect
        self._address = uri.path
        self._pcrs = tuple(sorted({int(number) for number in uri.needed("pcrs").split(",")}))
        self._auth_file = uri.setting("auth-file")
        self._parent = uri.setting("parent")

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:  # noqa: ARG002 - bound by the inner encryption
        """Make an object that holds ``key`` and opens while the PCRs are what they are now."""
        with self._transport() as transport, self._secret() as auth, self._storage_key(transport) as parent:
            policy = self._policy(transport)
            attributes = _ATTRIBUTES if self._auth_file else _ATTRIBUTES | _NO_LOCKOUT
            public = u16(_KEYED_HASH) + u16(wire.ALG_SHA256) + u32(attributes) + tpm2b(policy)
            public += u16(wire.ALG_NULL) + tpm2b(b"")
            sensitive = tpm2b(bytes(auth.reveal(TOKEN))) + tpm2b(bytes(key.reveal(TOKEN)))
            parameters = tpm2b(sensitive) + tpm2b(public) + tpm2b(b"") + u32(0)
            _, body = execute_authorised(transport, Command.CREATE, u32(parent), session(), parameters)
            blob = tpm2b(body.sized(_MAX_BLOB)) + tpm2b(body.sized(_MAX_BLOB))
        return Closed(key=self._parent or "srk", version=policy.hex(), data=blob)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:  # noqa: ARG002 - as above
        """Load the object and unseal it."""
        try:
            blob = Reader(closed.data, "closed key", max_bytes=2 * _MAX_BLOB + 4)
            private, public = blob.sized(_MAX_BLOB), blob.sized(_MAX_BLOB)
            blob.end()
        except MalformedError:
            raise KeyServiceMismatchError("the closed key isn't a TPM's object") from None
        with self._transport() as transport, self._secret() as auth, self._storage_key(transport) as parent:
            both = tpm2b(private) + tpm2b(public)
            handle, _ = execute_authorised(transport, Command.LOAD, u32(parent), session(), both)
            try:
                secret = self._unseal(transport, int.from_bytes(handle, "big"), bytes(auth.reveal(TOKEN)))
            finally:
                flush(transport, int.from_bytes(handle, "big"))
        if len(secret) != KEY_BYTES:
            raise KeyServiceMismatchError("the TPM's object holds no key")
        return secret

    def destroy(self) -> None:
        """Nothing in the TPM is this key's own.

        :raises KeyServiceRefusedError: always.
        """
        raise KeyServiceRefusedError(
            "a TPM keeps no key that could be destroyed alone",
            remedy="erase the keeper's file and its copies, or clear the TPM",
        )

    def renew(self) -> None:
        """The TPM wraps under what its owner seed gives: a version of that is the whole TPM.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def destroy_before(self, _kept: Closed) -> Finality:
        """As :meth:`renew`.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def _unseal(self, transport: TpmTransport, handle: int, auth: bytes) -> SecretBytes:
        policy = policy_session(transport)
        try:
            execute(transport, Command.POLICY_PCR, u32(policy) + tpm2b(b"") + pcr_selection(self._pcrs))
            if self._auth_file:
                execute(transport, Command.POLICY_PASSWORD, u32(policy))
            _, body = execute_authorised(transport, Command.UNSEAL, u32(handle), session(policy, auth), b"")
        except RefusedCommandError:
            # A command that succeeds ends the session; one that fails leaves it, and a TPM holds few.
            flush(transport, policy)
            raise
        return SecretBytes(bytearray(body.sized(_MAX_BLOB)))

    def _policy(self, transport: TpmTransport) -> bytes:
        # Part 3, 23.7 and 23.4: what a session's digest will be once it went through the same two commands.
        values = hashlib.sha256(b"".join(pcr_read(transport, pcr) for pcr in self._pcrs)).digest()
        digest = hashlib.sha256(bytes(32) + u32(Command.POLICY_PCR) + pcr_selection(self._pcrs) + values).digest()
        if self._auth_file:
            digest = hashlib.sha256(digest + u32(0x16B)).digest()
        return digest

    def _secret(self) -> SecretBytes:
        secret = read_credential(self._auth_file) if self._auth_file else SecretBytes(bytearray())
        if len(secret) > _MAX_SECRET:
            raise KeyServiceRefusedError(f"a TPM's authorisation value has at most {_MAX_SECRET} bytes")
        return secret

    @contextmanager
    def _storage_key(self, transport: TpmTransport) -> Iterator[int]:
        if self._parent:
            yield int(self._parent, 16)
            return
        with primary(transport, _RH_OWNER, _SRK) as (handle, _):
            yield handle

    @contextmanager
    def _transport(self) -> Iterator[TpmTransport]:
        try:
            transport = self._connect(self._address)
            try:
                yield transport
            finally:
                transport.close()
        except RefusedCommandError as error:
            raise _meaning(error) from None
        except (TpmError, MalformedError):
            raise KeyServiceUnavailableError(
                "the TPM can't be reached or doesn't answer as one", remedy="look at `strongroom doctor`"
            ) from None


def _meaning(error: RefusedCommandError) -> Exception:
    code = error.response_code
    if code & _FORMAT_ONE:
        code = _FORMAT_ONE | (code & 0x3F)
    if code in _REFUSED:
        return KeyServiceRefusedError(
            f"the TPM refused: {_REFUSED[code]}",
            remedy="after a change of what the machine boots, open the root by escrow and wrap it again",
            reason="key-service-other-state" if code in {0x09D, 0x128} else None,
        )
    if code in _CHANGED:
        return KeyServiceMismatchError("the TPM doesn't take the closed key: it was changed, or is another TPM's")
    return KeyServiceUnavailableError(f"the TPM refused with code 0x{error.response_code:03x}")
