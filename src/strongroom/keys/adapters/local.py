"""The ``local`` wrapping provider: a passphrase through Argon2id (RFC 9106) opens the root key.

For one machine and for development. Whoever has the file can guess passphrases offline, as fast as the cost below
lets them; the passphrase arrives by prompt or file descriptor, never in an argument list or the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import LockedError, MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.provider import Capability, Closed, KeyServiceMismatchError, KeyServiceRefusedError
from strongroom.keys.wrapping import KEY_BYTES, RandomBytes, WrapError, WrappedKey, WrapPurpose, unwrap, wrap

SALT_BYTES: Final = 16
MIN_PASSPHRASE: Final = 12
MAX_MEMORY_KIB: Final = 4 * 1024 * 1024


class WrongPassphraseError(LockedError):
    """The passphrase doesn't open the root key, or the file was changed."""

    code = "wrong-passphrase"


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """Argon2id cost: passes, lanes, memory in KiB. The default is about 1-2 s on two cores."""

    iterations: int = 4
    lanes: int = 2
    memory_kib: int = 256 * 1024


class LocalService:
    """The ``local:`` key service: a passphrase. ``cost`` is what closing takes; opening takes what is stored."""

    capabilities: frozenset[Capability] = frozenset({Capability.ASSOCIATED_DATA})

    def __init__(self, passphrase: SecretBytes, random_bytes: RandomBytes, cost: Argon2Cost | None = None) -> None:
        self._passphrase = passphrase
        self._random_bytes = random_bytes
        self._cost = cost or Argon2Cost()

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt under a key that Argon2id makes of the passphrase.

        :raises UsageError: the passphrase is shorter than 12 bytes.
        """
        data = wrap_with_passphrase(key, self._passphrase, purpose, self._random_bytes, self._cost)
        return Closed(key="passphrase", version="", data=data)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt.

        :raises KeyServiceMismatchError: not such a file, or a cost beyond what this program will spend.
        :raises WrongPassphraseError: wrong passphrase or changed bytes; which one can't be told.
        """
        try:
            return unwrap_with_passphrase(closed.data, self._passphrase, purpose)
        except MalformedError:
            raise KeyServiceMismatchError("the closed key isn't a passphrase's") from None

    def destroy(self) -> None:
        """Nobody can make a passphrase forgotten.

        :raises KeyServiceRefusedError: always.
        """
        raise KeyServiceRefusedError("a passphrase can't be destroyed", remedy="erase the keeper's file and its copies")


def wrap_with_passphrase(
    key: SecretBytes, passphrase: SecretBytes, purpose: WrapPurpose, random_bytes: RandomBytes, cost: Argon2Cost
) -> bytes:
    """Wrap ``key`` under a passphrase; returns the canonical JSON to store.

    :raises UsageError: the passphrase is shorter than 12 bytes.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise UsageError(
            f"the passphrase is shorter than {MIN_PASSPHRASE} bytes",
            remedy="choose at least six random words: this file can be attacked offline",
        )
    salt = random_bytes(SALT_BYTES)
    with _derive(passphrase, salt, cost) as wrapping_key:
        wrapped = wrap(wrapping_key, key, purpose, random_bytes)
    return encode(
        {
            "v": 1,
            "provider": "local",
            "kdf": "argon2id",
            "salt": to_base64(salt),
            "iterations": cost.iterations,
            "lanes": cost.lanes,
            "memory_kib": cost.memory_kib,
            "wrapped": wrapped.to_json(),
        }
    )


def unwrap_with_passphrase(stored: bytes, passphrase: SecretBytes, purpose: WrapPurpose) -> SecretBytes:
    """Open what :func:`wrap_with_passphrase` stored.

    :raises MalformedError: not such a file, or a cost beyond what this program will spend.
    :raises WrongPassphraseError: wrong passphrase or changed bytes; which one can't be told.
    """
    with Fields(decode(stored, max_bytes=4096), "local key file") as fields:
        fields.constant("v", 1)
        fields.constant("provider", "local")
        fields.constant("kdf", "argon2id")
        salt = fields.binary("salt", max_length=SALT_BYTES)
        cost = Argon2Cost(
            iterations=fields.integer("iterations", least=1, most=64),
            lanes=fields.integer("lanes", least=1, most=64),
            memory_kib=fields.integer("memory_kib", least=8 * 64, most=MAX_MEMORY_KIB),
        )
        with fields.child("wrapped") as inner:
            wrapped = WrappedKey.read(inner)
    if len(salt) != SALT_BYTES:
        raise MalformedError("the local key file's salt has the wrong length")
    with _derive(passphrase, salt, cost) as wrapping_key:
        try:
            return unwrap(wrapping_key, wrapped, purpose)
        except WrapError:
            raise WrongPassphraseError(
                "the passphrase doesn't open the root key", remedy="try again; a changed key file looks the same"
            ) from None


def _derive(passphrase: SecretBytes, salt: bytes, cost: Argon2Cost) -> SecretBytes:
    out = bytearray(KEY_BYTES)
    kdf = Argon2id(
        salt=salt, length=KEY_BYTES, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib
    )
    kdf.derive_into(passphrase.reveal(TOKEN), out)  # type: ignore[arg-type]  # the stub says bytes, any buffer works
    return SecretBytes(out)
