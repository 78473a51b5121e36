"""What a person keeps: who they are, which deployment they trust, and what they saw of it last.

A wallet is of a seed, from which a signing key and a publishing key follow; or of security keys, which sign and never
let their private halves out. The second kind publishes nothing and keeps no secrets: it has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.access.request import LogHead
from strongroom.audit.merkle import EMPTY_ROOT
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.encoding import to_base64
from strongroom.core.errors import MalformedError, TamperedError, UnavailableError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId, person_id
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import MAX_KEY_TEXT, HybridSigner, PublicKey, Signer, derived_seed
from strongroom.core.webauthn import MAX_CREDENTIAL_ID
from strongroom.release.documents import DocumentKind

MAX_WALLET_FILE: Final = 65536
MAX_SECURITY_KEYS: Final = 4
MAX_DEVICE: Final = 256
_SEED_WALLET: Final = "publish with a wallet of a seed: strongroom people keygen"
_PUBLISHING_SEED: Final = b"strongroom publishing key v1"
EMPTY_LOG: Final = LogHead(size=0, root=Digest(DigestAlgorithm.SHA256, EMPTY_ROOT))


class WalletError(UsageError):
    """The wallet can't be used: a file is missing, or others can read it."""

    code = "wallet-unusable"


class PinnedGenesisError(TamperedError):
    """The wallet's genesis isn't the one whose digest was pinned."""

    code = "genesis-changed"


def publishing_signer(seed: bytes) -> HybridSigner:
    """Derive a person's publishing key from the seed of their signing key.

    One secret is kept, protected and backed up instead of two. It's safe for the seed to serve both: Ed25519 hashes it
    with SHA-512, this with HMAC-SHA-384 under a label. Who computes the private scalar from the Ed25519 public key, as
    a quantum computer would, has half of a SHA-512 output, and not the seed.
    """
    return HybridSigner.from_seed(derived_seed(seed, _PUBLISHING_SEED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose wallet it is. ``url`` and ``genesis`` are empty until the wallet is bound to a deployment."""

    person: PersonId
    key: PublicKey
    """Signs requests and approvals; of several security keys, the first."""
    publishing_key: PublicKey | None
    """Signs manifests: hybrid, because a manifest is believed for years. None in a wallet of security keys."""
    url: str = ""
    genesis: Digest | None = None

    @classmethod
    def parse(cls, data: bytes) -> Identity:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_WALLET_FILE), "identity") as fields:
            fields.constant("v", 1)
            return cls(
                person=fields.parsed("person", person_id),
                key=fields.parsed("key", PublicKey.parse, max_length=MAX_KEY_TEXT),
                publishing_key=fields.parsed("publishing_key", PublicKey.parse, max_length=MAX_KEY_TEXT)
                if fields.optional("publishing_key")
                else None,
                url=fields.text("url"),
                genesis=fields.digest("genesis") if fields.optional("genesis") else None,
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "person": self.person,
                "key": str(self.key),
                "publishing_key": str(self.publishing_key) if self.publishing_key else None,
                "url": self.url,
                "genesis": str(self.genesis) if self.genesis else None,
            }
        )

    def require_publishing_key(self) -> PublicKey:
        """Return the publishing key.

        :raises WalletError: the wallet is of security keys.
        """
        if self.publishing_key is None:
            raise WalletError("a wallet of security keys publishes nothing", remedy=_SEED_WALLET)
        return self.publishing_key


@dataclass(frozen=True, slots=True)
class SecurityKey:
    """One security key's public key, and the name by which the device finds the private half."""

    key: PublicKey
    credential_id: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityKeys:
    """A person's security keys, any of which signs, and where they are looked for. Nothing in it is secret.

    :raises MalformedError: none or too many, a key that isn't a security key's, or keys of two relying parties.
    """

    keys: tuple[SecurityKey, ...]
    devices: tuple[str, ...]
    """``hid`` for what is plugged in, or ``unix:PATH`` for a simulator."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.keys) <= MAX_SECURITY_KEYS or not self.devices:
            raise MalformedError(f"a wallet of security keys has 1 to {MAX_SECURITY_KEYS} of them, and a device")
        # Asking for the relying party refuses every other kind of key.
        if len({one.key.credential.rp_id for one in self.keys}) != 1:
            raise MalformedError("the security keys of a wallet are for one relying party")

    @classmethod
    def parse(cls, data: bytes) -> SecurityKeys:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_WALLET_FILE), "security keys") as fields:
            fields.constant("v", 1)
            return cls(
                keys=fields.objects("keys", _security_key, most=MAX_SECURITY_KEYS),
                devices=fields.texts("devices", most=MAX_SECURITY_KEYS, max_length=MAX_DEVICE),
            )

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        keys: list[Json] = [{"key": str(one.key), "credential": to_base64(one.credential_id)} for one in self.keys]
        return encode({"v": 1, "keys": keys, "devices": [*self.devices]})


def _security_key(fields: Fields) -> SecurityKey:
    return SecurityKey(
        key=fields.parsed("key", PublicKey.parse, max_length=MAX_KEY_TEXT),
        credential_id=fields.binary("credential", max_length=MAX_CREDENTIAL_ID),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDocument:
    """The newest document of a kind that this client saw."""

    epoch: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What this client saw last. It only moves forward; a server that shows less is rolled back, or lies."""

    documents: Mapping[DocumentKind, SeenDocument] = field(default_factory=dict)
    log: LogHead = EMPTY_LOG

    @classmethod
    def parse(cls, data: bytes) -> Seen:
        """Read canonical bytes.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_WALLET_FILE), "seen") as fields:
            fields.constant("v", 1)
            with fields.child("log") as log:
                head = LogHead(size=log.integer("size"), root=log.digest("root"))
            documents = {}
            with fields.child("documents") as children:
                for kind in DocumentKind:
                    if children.optional(kind.value):
                        with children.child(kind.value) as child:
                            documents[kind] = SeenDocument(
                                epoch=child.integer("epoch", least=1), digest=child.digest("digest")
                            )
        return cls(documents=documents, log=head)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        documents: dict[str, Json] = {
            kind.value: {"epoch": seen.epoch, "digest": str(seen.digest)} for kind, seen in self.documents.items()
        }
        return encode({"v": 1, "documents": documents, "log": {"size": self.log.size, "root": str(self.log.root)}})


class Wallet(Protocol):
    """A person's wallet as the flows see it; :mod:`strongroom.client.adapters.wallet_folder` is one."""

    @property
    def identity(self) -> Identity:
        """Whose it is."""
        ...

    def genesis(self) -> Genesis:
        """Return the pinned genesis.

        :raises WalletError: the wallet isn't bound to a deployment.
        :raises PinnedGenesisError: the file was replaced.
        """
        ...

    def signer(self) -> Signer:
        """Return the person's signing key, for requests and approvals; may ask for a passphrase, or for a PIN."""
        ...

    def publishing_signer(self) -> Signer:
        """Return the person's hybrid key, for manifests; may ask for a passphrase.

        :raises WalletError: the wallet is of security keys.
        """
        ...

    def seen(self) -> Seen:
        """Return what was seen last."""
        ...

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable."""
        ...

    def keep(self, name: str, secret: SecretBytes, about: bytes) -> None:
        """Make a secret durable, encrypted under the person's key; ``about`` is bound to it, in clear.

        :raises WalletError: the wallet is of security keys.
        """
        ...

    def kept(self, name: str) -> tuple[bytes, SecretBytes] | None:
        """Return what :meth:`keep` kept, ``about`` first, or None.

        :raises WalletError: it was changed, or is another person's.
        """
        ...

    def forget(self, name: str) -> None:
        """Remove what :meth:`keep` kept, if there is any."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the wallet against other processes: two of them must not move what was seen back."""
        ...


MOST_LOOKS: Final = 10
"""How often a view of the log is asked for anew because others moved what was seen meanwhile."""


def advance(wallet: Wallet, before: Seen, after: Seen) -> bool:
    """Remember ``after``, which was checked to continue ``before``; False if somebody moved the memory meanwhile.

    Only this is done under the lock, never a call: a server that doesn't answer one of the wallet's users stops no
    other. What others saw meanwhile isn't overwritten, so the memory never moves back; who lost looks again.
    """
    with wallet.exclusive():
        known = wallet.seen()
        if known == before != after:
            wallet.remember(after)
        return known in (before, after)


def outrun() -> UnavailableError:
    """Return the error of who looked :data:`MOST_LOOKS` times, and others had seen more each time."""
    return UnavailableError("others saw more of the log each time that it was looked at", remedy="try again")
