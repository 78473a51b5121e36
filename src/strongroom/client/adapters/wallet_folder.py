"""A person's folder: 0700, its files 0600, all of one owner. Looser modes are refused, not mended."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from strongroom.client.wallet import (
    MAX_WALLET_FILE,
    Identity,
    PinnedGenesisError,
    SecurityKeys,
    Seen,
    WalletError,
    publishing_signer,
)
from strongroom.core.adapters.durable import sync_folder, write_durably
from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, HybridSigner, PublicKey, Signer
from strongroom.keys.adapters.local import Argon2Cost, unwrap_with_passphrase, wrap_with_passphrase
from strongroom.keys.wrapping import KeyKind, RandomBytes, WrapPurpose, new_key

IDENTITY: Final = "identity.json"
SIGNING_KEY: Final = "signing.key"
SECURITY_KEYS: Final = "security-keys.json"
TLS_KEY: Final = "tls.key"
TLS_CERTIFICATE: Final = "tls.crt"
TLS_AUTHORITY: Final = "ca.crt"
GENESIS: Final = "genesis.json"
SEEN: Final = "seen.json"
_LOCK: Final = ".lock"
_NONCE: Final = 12
_KEEPING_LABEL: Final = b"strongroom wallet keeping v1"
_NO_DEPLOYMENT: Final = Digest.of(b"strongroom/wallet/v1")
"""A person's key is made before any deployment is known; it belongs to none."""

AskPassphrase = Callable[[], SecretBytes]


class WrongWalletPassphraseError(LockedError):
    """The passphrase doesn't open the signing key, or the file was changed."""

    code = "wrong-wallet-passphrase"


class _Opened(NamedTuple):
    """What follows from the wallet's one seed."""

    signer: Ed25519Signer
    publishing: HybridSigner
    keeping: AESGCM
    """Encrypts what is kept between two runs of a command."""


class WalletFolder:
    """A wallet in a folder. ``passphrase`` is asked only when the signing key is protected by one, and only once.

    In a wallet of security keys it is asked for the PIN, at each signature that needs it.
    """

    def __init__(self, path: Path, passphrase: AskPassphrase) -> None:
        self.path = path
        self._passphrase = passphrase
        self._keys: _Opened | None = None
        _check_folder(path)
        self.identity = Identity.parse(self.read(IDENTITY))

    @classmethod
    def create(
        cls,
        path: Path,
        person: PersonId,
        random_bytes: RandomBytes,
        *,
        passphrase: SecretBytes | None,
        cost: Argon2Cost | None = None,
    ) -> Identity:
        """Make a wallet with a new signing key and the publishing key that follows from it; returns the public halves.

        :raises WalletError: there is one at ``path`` already.
        :raises UsageError: the passphrase is too short.
        """
        _make_folder(path)
        with new_key(random_bytes) as seed:
            private = Ed25519PrivateKey.from_private_bytes(bytes(seed.reveal(TOKEN)))
            public = Ed25519Signer(private).public_key
            publishing = publishing_signer(bytes(seed.reveal(TOKEN))).public_key
            if passphrase is None:
                stored = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            else:
                # PKCS#8's own encryption stretches a passphrase by a few thousand rounds; Argon2id holds out longer.
                stored = wrap_with_passphrase(seed, passphrase, _purpose(public), random_bytes, cost or Argon2Cost())
        write_durably(path / SIGNING_KEY, stored)
        identity = Identity(person=person, key=public, publishing_key=publishing)
        write_durably(path / IDENTITY, identity.to_bytes())
        return identity

    @classmethod
    def create_of_security_keys(cls, path: Path, person: PersonId, keys: SecurityKeys) -> Identity:
        """Make a wallet of security keys: nothing in it signs without one of them.

        :raises WalletError: there is one at ``path`` already.
        """
        _make_folder(path)
        write_durably(path / SECURITY_KEYS, keys.to_bytes())
        identity = Identity(person=person, key=keys.keys[0].key, publishing_key=None)
        write_durably(path / IDENTITY, identity.to_bytes())
        return identity

    def bind(self, url: str, genesis: Genesis, authority: bytes) -> None:
        """Pin a deployment: its address, its genesis, and the certificate authority of its server.

        :raises WalletError: the wallet is bound to another deployment; what it saw must not be forgotten.
        """
        if not url.startswith("https://"):
            raise UsageError("a deployment's address begins with `https://`")
        if self.identity.genesis not in {None, genesis.digest}:
            raise WalletError(
                "the wallet is bound to another deployment", remedy="make another wallet: strongroom people keygen"
            )
        write_durably(self.path / GENESIS, genesis.to_bytes())
        write_durably(self.path / TLS_AUTHORITY, authority)
        bound = replace(self.identity, url=url, genesis=genesis.digest)
        write_durably(self.path / IDENTITY, bound.to_bytes())
        self.identity = bound

    def certify(self, *, key: bytes, certificate: bytes) -> None:
        """Keep a client certificate and its key, both PEM."""
        write_durably(self.path / TLS_KEY, key)
        write_durably(self.path / TLS_CERTIFICATE, certificate)

    def genesis(self) -> Genesis:
        """Return the pinned genesis.

        :raises WalletError: not bound to a deployment.
        :raises PinnedGenesisError: the file was replaced.
        """
        if self.identity.genesis is None:
            raise WalletError(
                "the wallet isn't bound to a deployment",
                remedy="bind it: strongroom people certify on the server, or strongroom people pin elsewhere",
            )
        genesis = Genesis.parse(self.read(GENESIS))
        if not genesis.digest.matches(self.identity.genesis):
            raise PinnedGenesisError(
                "the wallet's genesis isn't the one that was pinned", remedy="restore genesis.json"
            )
        return genesis

    def signer(self) -> Signer:
        """Return the signing key, or whichever of the security keys is plugged in.

        :raises WrongWalletPassphraseError: the passphrase doesn't open it.
        :raises WalletError: it isn't the key that the identity names.
        """
        if self.identity.key.hardware:
            # Imported late: it loads what speaks with USB devices, which most wallets don't need.
            from strongroom.client.adapters.security_key import SecurityKeySigner  # noqa: PLC0415

            keys = SecurityKeys.parse(self.read(SECURITY_KEYS))
            if keys.keys[0].key != self.identity.key:
                raise WalletError(f"`{SECURITY_KEYS}` doesn't begin with the key that `{IDENTITY}` names")
            return SecurityKeySigner(keys, self._passphrase)
        return self._opened().signer

    def publishing_signer(self) -> Signer:
        """Return the publishing key.

        :raises WrongWalletPassphraseError: the passphrase doesn't open the wallet's key.
        :raises WalletError: it isn't the key that the identity names, or the wallet is of security keys.
        """
        return self._opened().publishing

    def _opened(self) -> _Opened:
        self.identity.require_publishing_key()
        if self._keys is None:
            with self._seed() as seed:
                revealed = bytes(seed.reveal(TOKEN))
                keys = _Opened(
                    Ed25519Signer.from_seed(revealed),
                    publishing_signer(revealed),
                    AESGCM(HKDFExpand(hashes.SHA384(), 32, _KEEPING_LABEL).derive(revealed)),
                )
            found = keys.signer.public_key, keys.publishing.public_key
            if found != (self.identity.key, self.identity.publishing_key):
                raise WalletError(f"`{SIGNING_KEY}` isn't the key that `{IDENTITY}` names")
            self._keys = keys
        return self._keys

    def _seed(self) -> SecretBytes:
        stored = self.read(SIGNING_KEY)
        if stored.startswith(b"-----BEGIN"):
            try:
                private = load_pem_private_key(stored, password=None)
            except (ValueError, TypeError):
                raise WalletError(f"`{SIGNING_KEY}` isn't a private key") from None
            if not isinstance(private, Ed25519PrivateKey):
                raise WalletError(f"`{SIGNING_KEY}` isn't an Ed25519 key")
            return SecretBytes(bytearray(private.private_bytes_raw()))
        with self._passphrase() as passphrase:
            try:
                return unwrap_with_passphrase(stored, passphrase, _purpose(self.identity.key))
            except LockedError:
                raise WrongWalletPassphraseError(
                    "the passphrase doesn't open the signing key",
                    remedy="try again; a changed key file looks the same",
                ) from None

    def seen(self) -> Seen:
        """Return what was seen last; nothing, for a new wallet."""
        try:
            return Seen.parse(self.read(SEEN))
        except FileMissingError:
            return Seen()

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable before anything rests on it."""
        write_durably(self.path / SEEN, seen.to_bytes())

    def keep(self, name: str, secret: SecretBytes, about: bytes) -> None:
        """Make a secret durable, encrypted under a key that follows from the person's seed."""
        nonce = os.urandom(_NONCE)
        sealed = self._opened().keeping.encrypt(nonce, bytes(secret.reveal(TOKEN)), _bound(name, about))
        write_durably(self.path / _kept_file(name), len(about).to_bytes(4, "big") + about + nonce + sealed)

    def kept(self, name: str) -> tuple[bytes, SecretBytes] | None:
        """Return what was kept under ``name``, or None.

        :raises WalletError: it was changed, or is another person's.
        """
        try:
            data = self.read(_kept_file(name))
        except FileMissingError:
            return None
        end = 4 + int.from_bytes(data[:4], "big")
        about, nonce, sealed = data[4:end], data[end : end + _NONCE], data[end + _NONCE :]
        try:
            return about, SecretBytes(bytearray(self._opened().keeping.decrypt(nonce, sealed, _bound(name, about))))
        except (InvalidTag, ValueError):
            raise WalletError(
                f"`{_kept_file(name)}` in the wallet was changed", remedy="remove it; what it kept is lost"
            ) from None

    def forget(self, name: str) -> None:
        """Remove what was kept under ``name``."""
        (self.path / _kept_file(name)).unlink(missing_ok=True)
        # Else a power cut could bring back a key that somebody was told is destroyed.
        sync_folder(self.path)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the wallet against other processes of the same person."""
        handle = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def tls_files(self) -> tuple[Path, Path, Path]:
        """Return the paths of authority, certificate and key, each checked to be this user's alone.

        :raises WalletError: one is missing or open to others.
        """
        try:
            for name in (TLS_AUTHORITY, TLS_CERTIFICATE, TLS_KEY):
                self.read(name)
        except FileMissingError as error:
            raise WalletError(
                error.message, remedy="get one: strongroom login, or strongroom people certify on the server"
            ) from None
        return self.path / TLS_AUTHORITY, self.path / TLS_CERTIFICATE, self.path / TLS_KEY

    def read(self, name: str, *, most: int = MAX_WALLET_FILE) -> bytes:
        """Read one of the wallet's files, of at most ``most`` bytes.

        :raises FileMissingError: it isn't there.
        :raises WalletError: others can reach it, or it is too large.
        """
        try:
            handle = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            raise FileMissingError(f"the wallet has no `{name}` that can be read") from None
        with os.fdopen(handle, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_mode & 0o077 or found.st_uid != os.geteuid() or not stat.S_ISREG(found.st_mode):
                raise WalletError(
                    f"`{name}` in the wallet must belong to this user alone", remedy=f"chmod 600 {self.path / name}"
                )
            data = file.read(most + 1)
        if len(data) > most:
            raise WalletError(f"`{name}` in the wallet is larger than {most} bytes")
        return data


class FileMissingError(WalletError):
    """A file of the wallet isn't there."""

    code = "wallet-file-missing"


def _kept_file(name: str) -> str:
    return f"kept-{name}"


def _bound(name: str, about: bytes) -> bytes:
    return b"%d %s " % (len(name), name.encode()) + about


def _purpose(key: PublicKey) -> WrapPurpose:
    return WrapPurpose(genesis=_NO_DEPLOYMENT, kind=KeyKind.PERSON_SIGNING, name=key.key_id, parent="passphrase")


def _make_folder(path: Path) -> None:
    if any((path / name).exists() for name in (SIGNING_KEY, SECURITY_KEYS, IDENTITY)):
        raise WalletError(f"`{path}` holds a wallet already", remedy="choose another place; a key isn't replaced")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_folder(path)


def _check_folder(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise WalletError(
            f"there is no wallet at `{path}`", remedy="make one: strongroom people keygen, or name it with --as"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise WalletError(f"the wallet `{path}` must be a folder of this user alone", remedy=f"chmod 700 {path}")
