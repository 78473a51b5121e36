"""The ``local`` wrapping provider: a passphrase through Argon2id (RFC 9106) opens the root key.

For one machine and for development. Whoever has the file can guess passphrases offline, as fast as the cost below
lets them; the passphrase arrives by prompt or file descriptor, never in an argument list or the environment.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from strongroom.core.canonical import decode, encode
from strongroom.core.encoding import to_base64
from strongroom.core.errors import LockedError, MalformedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.keys.provider import (
    Capability,
    Closed,
    Finality,
    KeyServiceMismatchError,
    KeyServiceRefusedError,
    no_versions,
)
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


class KeptKey:
    """What Argon2id made of a passphrase, kept so that the passphrase itself needn't be: it closes another root key.

    It opens no more than the root key that it opened, and is wiped with it.
    """

    def __init__(self) -> None:
        self._held: tuple[SecretBytes, bytes, Argon2Cost] | None = None

    def keep(self, key: SecretBytes, salt: bytes, cost: Argon2Cost) -> None:
        """Take a derived key over, with what it was derived by."""
        self.wipe()
        self._held = key, salt, cost

    def held(self) -> tuple[SecretBytes, bytes, Argon2Cost] | None:
        """Return the derived key, its salt and its cost."""
        return self._held

    def wipe(self) -> None:
        """Forget it."""
        if self._held is not None:
            self._held[0].wipe()
            self._held = None


class LocalService:
    """The ``local:`` key service: a passphrase. ``cost`` is what closing takes; opening takes what is stored.

    With ``kept``, what opening derived is kept there, and closes from then on: the passphrase may be wiped.
    """

    capabilities: frozenset[Capability] = frozenset({Capability.ASSOCIATED_DATA})

    def __init__(
        self,
        passphrase: SecretBytes,
        random_bytes: RandomBytes,
        cost: Argon2Cost | None = None,
        kept: KeptKey | None = None,
    ) -> None:
        self._passphrase = passphrase
        self._random_bytes = random_bytes
        self._cost = cost or Argon2Cost()
        self._kept = kept

    def close_key(self, key: SecretBytes, purpose: WrapPurpose) -> Closed:
        """Encrypt under a key that Argon2id makes of the passphrase.

        :raises UsageError: the passphrase is shorter than 12 bytes.
        """
        held = self._kept.held() if self._kept else None
        if held is not None:
            data = _stored(held[1], held[2], wrap(held[0], key, purpose, self._random_bytes))
        else:
            data = wrap_with_passphrase(key, self._passphrase, purpose, self._random_bytes, self._cost)
        return Closed(key="passphrase", version="", data=data)

    def open_key(self, closed: Closed, purpose: WrapPurpose) -> SecretBytes:
        """Decrypt.

        :raises KeyServiceMismatchError: not such a file, or a cost beyond what this program will spend.
        :raises WrongPassphraseError: wrong passphrase or changed bytes; which one can't be told.
        """
        try:
            salt, cost, wrapped = _read(closed.data)
        except MalformedError:
            raise KeyServiceMismatchError("the closed key isn't a passphrase's") from None
        held = self._kept.held() if self._kept else None
        if held is not None and held[1:] == (salt, cost):
            return _opened(held[0], wrapped, purpose)
        with ExitStack() as wiped:
            derived = wiped.enter_context(_derive(self._passphrase, salt, cost))
            key = _opened(derived, wrapped, purpose)
            if self._kept is not None:
                self._kept.keep(derived, salt, cost)
                wiped.pop_all()
            return key

    def destroy(self) -> None:
        """Nobody can make a passphrase forgotten.

        :raises KeyServiceRefusedError: always.
        """
        raise KeyServiceRefusedError("a passphrase can't be destroyed", remedy="erase the keeper's file and its copies")

    def renew(self) -> None:
        """Nobody can make a passphrase forgotten, and it has no versions.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()

    def destroy_before(self, _kept: Closed) -> Finality:
        """As :meth:`renew`.

        :raises KeyServiceRefusedError: always.
        """
        raise no_versions()


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
    return _stored(salt, cost, wrapped)


def _stored(salt: bytes, cost: Argon2Cost, wrapped: WrappedKey) -> bytes:
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
    salt, cost, wrapped = _read(stored)
    with _derive(passphrase, salt, cost) as wrapping_key:
        return _opened(wrapping_key, wrapped, purpose)


def _read(stored: bytes) -> tuple[bytes, Argon2Cost, WrappedKey]:
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
    return salt, cost, wrapped


def _opened(wrapping_key: SecretBytes, wrapped: WrappedKey, purpose: WrapPurpose) -> SecretBytes:
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
