"""A recipient identity in a file of this user's alone, under a passphrase or, where nobody can type one, in clear."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest
from strongroom.core.encoding import from_base64, to_base64
from strongroom.core.errors import ConflictError, LockedError, MalformedError, NotFoundError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.adapters.local import Argon2Cost, unwrap_with_passphrase, wrap_with_passphrase
from strongroom.keys.recipient import IDENTITY_BYTES, RecipientIdentity, parse_public, public_text
from strongroom.keys.wrapping import KeyKind, RandomBytes, WrapPurpose, new_key

MAX_FILE: Final = 16384
_NOWHERE: Final = Digest.of(b"strongroom/recipient/v1")
"""An identity belongs to no deployment."""
_NONCE: Final = 12


class IdentityFileError(UsageError):
    """The file can't be used: others can read it, or it isn't an identity."""

    code = "identity-file"


class IdentityMissingError(NotFoundError):
    """There is no identity file."""

    code = "identity-missing"


def create_identity(
    path: Path, random_bytes: RandomBytes, *, passphrase: SecretBytes | None, cost: Argon2Cost | None = None
) -> bytes:
    """Make a new identity and write it; returns its public key, 1,216 bytes.

    :raises ConflictError: there is a file already; a key isn't replaced.
    :raises UsageError: the passphrase is too short.
    """
    with SecretBytes(bytearray(random_bytes(IDENTITY_BYTES))) as seed:
        public = RecipientIdentity(seed).public
        members: dict[str, Json] = {"v": 1, "public": public_text(public)}
        if passphrase is None:
            data = encode({**members, "secret": to_base64(bytes(seed.reveal(TOKEN)))})
        else:
            with new_key(random_bytes) as wrapping:
                nonce = random_bytes(_NONCE)
                sealed = AESGCM(wrapping.reveal(TOKEN)).encrypt(nonce, bytes(seed.reveal(TOKEN)), public)
                wrapped = wrap_with_passphrase(
                    wrapping, passphrase, _purpose(public), random_bytes, cost or Argon2Cost()
                )
            data = encode({**members, "sealed": to_base64(nonce + sealed), "key": to_base64(wrapped)})
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConflictError(
            f"`{path}` is there already", remedy="choose another place; a key isn't replaced", reason="identity-exists"
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return public


def open_identity(path: Path, passphrase: Callable[[], SecretBytes] | None = None) -> RecipientIdentity:
    """Open an identity file; ``passphrase`` is asked only where the file needs one.

    :raises IdentityMissingError: no such file.
    :raises IdentityFileError: others can read it, or it isn't an identity.
    :raises LockedError: it needs a passphrase and there is none, or the passphrase is wrong.
    """
    with Fields(decode(_read(path), max_bytes=MAX_FILE), "identity") as fields:
        fields.constant("v", 1)
        public = fields.parsed("public", parse_public, max_length=2048)
        if not fields.optional("sealed"):
            seed = SecretBytes(bytearray(fields.binary("secret", max_length=IDENTITY_BYTES)))
        else:
            sealed = fields.binary("sealed", max_length=1024)
            wrapped = fields.parsed("key", from_base64, max_length=4096)
            if passphrase is None:
                raise LockedError(
                    f"`{path}` is protected by a passphrase", remedy="give it, or make an identity without one"
                )
            with passphrase() as typed, unwrap_with_passphrase(wrapped, typed, _purpose(public)) as key:
                try:
                    plain = AESGCM(key.reveal(TOKEN)).decrypt(sealed[:_NONCE], sealed[_NONCE:], public)
                except InvalidTag:
                    raise IdentityFileError(f"`{path}` was changed") from None
            seed = SecretBytes(bytearray(plain))
    with seed:
        identity = RecipientIdentity(seed)
    if identity.public != public:
        raise IdentityFileError(f"`{path}` was changed: its secret isn't that of its public key")
    return identity


def _purpose(public: bytes) -> WrapPurpose:
    return WrapPurpose(genesis=_NOWHERE, kind=KeyKind.RECIPIENT, name=str(Digest.of(public)), parent="passphrase")


def _read(path: Path) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise IdentityMissingError(
            f"there is no identity at `{path}` that can be read", remedy="make one: strongroom recipient new"
        ) from None
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_mode & 0o077 or found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
            raise IdentityFileError(f"`{path}` must belong to this user alone", remedy=f"chmod 600 {path}")
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise MalformedError(f"`{path}` is larger than {MAX_FILE} bytes")
    return data
