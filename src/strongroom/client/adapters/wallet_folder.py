"""A person's folder: 0700, its files 0600, all of one owner. Looser modes are refused, not mended."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from strongroom.client.wallet import MAX_WALLET_FILE, Identity, PinnedGenesisError, Seen, WalletError
from strongroom.core.digest import Digest
from strongroom.core.errors import LockedError, UsageError
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer, PublicKey, Signer
from strongroom.keys.adapters.local import Argon2Cost, unwrap_with_passphrase, wrap_with_passphrase
from strongroom.keys.wrapping import KeyKind, RandomBytes, WrapPurpose, new_key

IDENTITY: Final = "identity.json"
SIGNING_KEY: Final = "signing.key"
TLS_KEY: Final = "tls.key"
TLS_CERTIFICATE: Final = "tls.crt"
TLS_AUTHORITY: Final = "ca.crt"
GENESIS: Final = "genesis.json"
SEEN: Final = "seen.json"
_LOCK: Final = ".lock"
_NO_DEPLOYMENT: Final = Digest.of(b"strongroom/wallet/v1")
"""A person's key is made before any deployment is known; it belongs to none."""

AskPassphrase = Callable[[], SecretBytes]


class WrongWalletPassphraseError(LockedError):
    """The passphrase doesn't open the signing key, or the file was changed."""

    code = "wrong-wallet-passphrase"


class WalletFolder:
    """A wallet in a folder. ``passphrase`` is asked only when the signing key is protected by one, and only once."""

    def __init__(self, path: Path, passphrase: AskPassphrase) -> None:
        self.path = path
        self._passphrase = passphrase
        self._signer: Signer | None = None
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
    ) -> PublicKey:
        """Make a wallet with a new signing key; returns the public key.

        :raises WalletError: there is one at ``path`` already.
        :raises UsageError: the passphrase is too short.
        """
        if (path / SIGNING_KEY).exists() or (path / IDENTITY).exists():
            raise WalletError(f"`{path}` holds a wallet already", remedy="choose another place; a key isn't replaced")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_folder(path)
        with new_key(random_bytes) as seed:
            private = Ed25519PrivateKey.from_private_bytes(bytes(seed.reveal(TOKEN)))
            public = Ed25519Signer(private).public_key
            if passphrase is None:
                stored = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            else:
                # PKCS#8's own encryption stretches a passphrase by a few thousand rounds; Argon2id holds out longer.
                stored = wrap_with_passphrase(seed, passphrase, _purpose(public), random_bytes, cost or Argon2Cost())
        _write(path, SIGNING_KEY, stored)
        _write(path, IDENTITY, Identity(person=person, key=public).to_bytes())
        return public

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
        _write(self.path, GENESIS, genesis.to_bytes())
        _write(self.path, TLS_AUTHORITY, authority)
        bound = Identity(person=self.identity.person, key=self.identity.key, url=url, genesis=genesis.digest)
        _write(self.path, IDENTITY, bound.to_bytes())
        self.identity = bound

    def certify(self, *, key: bytes, certificate: bytes) -> None:
        """Keep a client certificate and its key, both PEM."""
        _write(self.path, TLS_KEY, key)
        _write(self.path, TLS_CERTIFICATE, certificate)

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
        """Return the signing key.

        :raises WrongWalletPassphraseError: the passphrase doesn't open it.
        :raises WalletError: it isn't the key that the identity names.
        """
        if self._signer is None:
            self._signer = self._open_key()
        return self._signer

    def _open_key(self) -> Signer:
        stored = self.read(SIGNING_KEY)
        if stored.startswith(b"-----BEGIN"):
            try:
                private = load_pem_private_key(stored, password=None)
            except (ValueError, TypeError):
                raise WalletError(f"`{SIGNING_KEY}` isn't a private key") from None
            if not isinstance(private, Ed25519PrivateKey):
                raise WalletError(f"`{SIGNING_KEY}` isn't an Ed25519 key")
            signer = Ed25519Signer(private)
        else:
            with self._passphrase() as passphrase:
                try:
                    seed = unwrap_with_passphrase(stored, passphrase, _purpose(self.identity.key))
                except LockedError:
                    raise WrongWalletPassphraseError(
                        "the passphrase doesn't open the signing key",
                        remedy="try again; a changed key file looks the same",
                    ) from None
            with seed:
                signer = Ed25519Signer.from_seed(bytes(seed.reveal(TOKEN)))
        if signer.public_key != self.identity.key:
            raise WalletError(f"`{SIGNING_KEY}` isn't the key that `{IDENTITY}` names")
        return signer

    def seen(self) -> Seen:
        """Return what was seen last; nothing, for a new wallet."""
        try:
            return Seen.parse(self.read(SEEN))
        except FileMissingError:
            return Seen()

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable before anything rests on it."""
        _write(self.path, SEEN, seen.to_bytes())

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
            raise WalletError(error.message, remedy="get one: strongroom people certify, on the server") from None
        return self.path / TLS_AUTHORITY, self.path / TLS_CERTIFICATE, self.path / TLS_KEY

    def read(self, name: str) -> bytes:
        """Read one of the wallet's files.

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
            data = file.read(MAX_WALLET_FILE + 1)
        if len(data) > MAX_WALLET_FILE:
            raise WalletError(f"`{name}` in the wallet is larger than {MAX_WALLET_FILE} bytes")
        return data


class FileMissingError(WalletError):
    """A file of the wallet isn't there."""

    code = "wallet-file-missing"


def _purpose(key: PublicKey) -> WrapPurpose:
    return WrapPurpose(genesis=_NO_DEPLOYMENT, kind=KeyKind.PERSON_SIGNING, name=key.key_id, parent="passphrase")


def _check_folder(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise WalletError(
            f"there is no wallet at `{path}`", remedy="make one: strongroom people keygen, or name it with --as"
        ) from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise WalletError(f"the wallet `{path}` must be a folder of this user alone", remedy=f"chmod 700 {path}")


def _write(folder: Path, name: str, data: bytes) -> None:
    temporary = folder / f".{name}.new"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / name)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
