"""The ``pkcs11`` provider: an AES-256 key in a token (PKCS#11 3.0), by AES-GCM or, where asked, padded AES key wrap.

The module is loaded into this process: its path is trusted like a program's. A session lasts for one use, because
sessions don't survive a fork; a call into the module can't be cut short from here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from strongroom.core.extras import need
from strongroom.core.insecure_secret_access import TOKEN
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
from strongroom.keys.wrapping import KEY_BYTES, NONCE_BYTES, TAG_BYTES, WrapPurpose

_KEY_BITS: Final = 256
_MADE_HERE: Final = b"strongrm"
"""CKA_ID of a version that was made here: this, then its number in 8 bytes, big-endian."""
_TAG_BITS: Final = 8 * TAG_BYTES
_GCM_BYTES: Final = NONCE_BYTES + KEY_BYTES + TAG_BYTES
_KWP_BYTES: Final = KEY_BYTES + 8
# What the token says about the bytes; SoftHSM says GENERAL_ERROR for a wrong tag, others FUNCTION_FAILED.
_CHANGED: Final = (
    "EncryptedDataInvalid",
    "EncryptedDataLenRange",
    "GeneralError",
    "FunctionFailed",
    "WrappedKeyInvalid",
    "WrappedKeyLenRange",
)
_ABSENT: Final = (
    "DeviceError",
    "DeviceMemory",
    "DeviceRemoved",
    "TokenNotPresent",
    "SessionClosed",
    "SessionHandleInvalid",
    "SessionCount",
    "HostMemory",
)


class Pkcs11Service:
    """One key of one token.

    :raises MissingExtraError: python-pkcs11 isn't installed.
    """

    def __init__(self, uri: KeyUri) -> None:
        self._pkcs11 = need("pkcs11", extra="pkcs11")
        self._errors = need("pkcs11.exceptions", extra="pkcs11")
        self._token, self._label = uri.part("token"), uri.part("object")
        self._module = uri.needed("module-path")
        self._pin_file = uri.needed("pin-source").removeprefix("file:")
        self._wraps = uri.setting("algorithm") == "aes-kwp"
        self._sole = uri.sole

    @property
    def capabilities(self) -> frozenset[Capability]:
        """Associated data with AES-GCM only; versions are destroyed only of a key that is this deployment's alone."""
        given = {Capability.NON_EXPORTABLE, Capability.DESTRUCTION}
        given |= set() if self._wraps else {Capability.ASSOCIATED_DATA}
        return frozenset(given | ({Capability.VERSION_DESTRUCTION} if self._sole else set()))

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt in the token under a nonce made here; a token that makes its own needs ``algorithm=aes-kwp``."""
        with self._key() as (session, ours):
            named = bytes(ours[self._pkcs11.Attribute.ID] or b"").hex()
            if self._wraps:
                data = ours.wrap_key(self._object(session, key), mechanism=self._pkcs11.Mechanism.AES_KEY_WRAP_PAD)
            else:
                nonce = os.urandom(NONCE_BYTES)
                data = nonce + ours.encrypt(bytes(key.reveal(TOKEN)), **self._gcm(nonce, purpose))
            return Closed(key=self._label, version=named, data=data)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt in the token."""
        if len(closed.data) != (_KWP_BYTES if self._wraps else _GCM_BYTES) or closed.key != self._label:
            raise KeyServiceMismatchError("the closed key isn't one of this token's")
        with self._key(version=closed.version) as (_, ours):
            if self._wraps:
                return self._unwrapped(ours, closed.data)
            nonce, data = closed.data[:NONCE_BYTES], closed.data[NONCE_BYTES:]
            try:
                return SecretBytes(bytearray(ours.decrypt(data, **self._gcm(nonce, purpose))))
            except self._named(_CHANGED):
                raise _mismatch() from None

    def destroy(self) -> None:
        """Destroy the key in the token, in every version."""
        with self._key(writing=True) as (session, _):
            for one in self._versions(session):
                one.destroy()

    def renew(self) -> None:
        """Make another AES-256 key of the same label in the token; its CKA_ID says that it is the newest version."""
        self._require_sole()
        attribute = self._pkcs11.Attribute
        with self._key(writing=True) as (session, newest):
            session.generate_key(
                self._pkcs11.KeyType.AES,
                _KEY_BITS,
                store=True,
                label=self._label,
                id=_MADE_HERE + (_order(newest[attribute.ID]) + 1).to_bytes(8, "big"),
                template={attribute.EXTRACTABLE: False, attribute.SENSITIVE: True},
            )

    def destroy_before(self, kept: Closed) -> Finality:
        """Destroy every older key of this label in the token."""
        self._require_sole()
        attribute = self._pkcs11.Attribute
        with self._key(version=kept.version, writing=True) as (session, ours):
            least = _order(ours[attribute.ID])
            for one in self._versions(session):
                if _order(one[attribute.ID]) < least:
                    one.destroy()
            if any(_order(one[attribute.ID]) < least for one in self._versions(session)):
                raise KeyServiceRefusedError("the token still has versions that it was told to destroy")
        return Finality.DONE

    def _require_sole(self) -> None:
        if not self._sole:
            raise no_versions()

    def _versions(self, session: Any) -> list[Any]:
        attribute = self._pkcs11.Attribute
        secret = self._pkcs11.ObjectClass.SECRET_KEY
        return list(session.get_objects({attribute.CLASS: secret, attribute.LABEL: self._label}))

    def _version(self, session: Any, version: str | None) -> Any:
        """Return the newest key of this label, or the one that a version names."""
        known = self._versions(session)
        identity = self._pkcs11.Attribute.ID
        if version is not None:
            known = [one for one in known if bytes(one[identity] or b"").hex() == version]
        newest = [one for one in known if _order(one[identity]) == max(_order(other[identity]) for other in known)]
        if len(newest) != 1:
            # None: destroyed, or never there. Several: which of them closes would be chance.
            raise KeyServiceRefusedError("the token has no key of that label and version, or several")
        return newest[0]

    def _gcm(self, nonce: bytes, purpose: WrapPurpose) -> dict[str, Any]:
        parameters = self._pkcs11.GCMParams(nonce, purpose.associated_data(), _TAG_BITS)
        return {"mechanism": self._pkcs11.Mechanism.AES_GCM, "mechanism_param": parameters}

    def _object(self, session: Any, key: SecretBytes) -> Any:
        attribute = self._pkcs11.Attribute
        return session.create_object(
            {
                attribute.CLASS: self._pkcs11.ObjectClass.SECRET_KEY,
                attribute.KEY_TYPE: self._pkcs11.KeyType.AES,
                attribute.TOKEN: False,
                attribute.SENSITIVE: False,
                attribute.EXTRACTABLE: True,
                attribute.VALUE: bytes(key.reveal(TOKEN)),
            }
        )

    def _unwrapped(self, ours: Any, data: bytes) -> SecretBytes:
        attribute = self._pkcs11.Attribute
        try:
            opened = ours.unwrap_key(
                self._pkcs11.ObjectClass.SECRET_KEY,
                self._pkcs11.KeyType.AES,
                data,
                mechanism=self._pkcs11.Mechanism.AES_KEY_WRAP_PAD,
                template={attribute.TOKEN: False, attribute.SENSITIVE: False, attribute.EXTRACTABLE: True},
            )
        except self._named(_CHANGED):
            raise _mismatch() from None
        value = SecretBytes(bytearray(opened[attribute.VALUE]))
        opened.destroy()
        if len(value) != KEY_BYTES:
            raise _mismatch()
        return value

    @contextmanager
    def _key(self, *, version: str | None = None, writing: bool = False) -> Iterator[tuple[Any, Any]]:
        attribute = self._pkcs11.Attribute
        try:
            token = self._loaded().get_token(token_label=self._token)
            with read_credential(self._pin_file) as pin:
                session = token.open(user_pin=bytes(pin.reveal(TOKEN)).decode(), rw=writing)
            with session:
                ours = self._version(session, version)
                if ours[attribute.EXTRACTABLE] or not ours[attribute.SENSITIVE] or ours.key_length != _KEY_BITS:
                    raise KeyServiceRefusedError(
                        "the token's key isn't a sensitive AES-256 key that never leaves it",
                        remedy="make one with CKA_SENSITIVE and without CKA_EXTRACTABLE",
                    )
                yield session, ours
        except self._named(_ABSENT):
            raise KeyServiceUnavailableError("the token isn't there or doesn't answer") from None
        except (self._errors.PKCS11Error, UnicodeDecodeError) as error:
            # The library's classes name the return value; their text may hold anything.
            raise KeyServiceRefusedError(
                f"the token refused: `{type(error).__name__}`", remedy="look at the token, its PIN and its key"
            ) from None

    def _loaded(self) -> Any:
        try:
            return self._pkcs11.lib(self._module)
        except (RuntimeError, OSError):
            raise KeyServiceUnavailableError("the PKCS#11 module can't be loaded") from None

    def _named(self, names: tuple[str, ...]) -> tuple[type[Exception], ...]:
        return tuple(getattr(self._errors, name) for name in names)


def _order(identity: object) -> int:
    """Return where a key's CKA_ID stands among the versions of its label; whatever wasn't made here is the oldest."""
    raw = bytes(identity) if isinstance(identity, bytes) else b""
    return int.from_bytes(raw[len(_MADE_HERE) :], "big") if raw.startswith(_MADE_HERE) and len(raw) == 2 * 8 else 0


def _mismatch() -> KeyServiceMismatchError:
    return KeyServiceMismatchError("the token doesn't open this with its key and this purpose")
