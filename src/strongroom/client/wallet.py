"""What a person keeps: who they are, which deployment they trust, and what they saw of it last."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from strongroom.access.request import LogHead
from strongroom.audit.merkle import EMPTY_ROOT
from strongroom.core.canonical import Json, decode, encode
from strongroom.core.digest import Digest, DigestAlgorithm
from strongroom.core.errors import TamperedError, UsageError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.core.ids import PersonId, person_id
from strongroom.core.signature import PublicKey, Signer
from strongroom.release.documents import DocumentKind

MAX_WALLET_FILE: Final = 65536
EMPTY_LOG: Final = LogHead(size=0, root=Digest(DigestAlgorithm.SHA256, EMPTY_ROOT))


class WalletError(UsageError):
    """The wallet can't be used: a file is missing, or others can read it."""

    code = "wallet-unusable"


class PinnedGenesisError(TamperedError):
    """The wallet's genesis isn't the one whose digest was pinned."""

    code = "genesis-changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose wallet it is. ``url`` and ``genesis`` are empty until the wallet is bound to a deployment."""

    person: PersonId
    key: PublicKey
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
                key=fields.parsed("key", PublicKey.parse),
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
                "url": self.url,
                "genesis": str(self.genesis) if self.genesis else None,
            }
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
        """Return the person's signing key; may ask for a passphrase."""
        ...

    def seen(self) -> Seen:
        """Return what was seen last."""
        ...

    def remember(self, seen: Seen) -> None:
        """Make what was seen durable."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the wallet against other processes: two of them must not move what was seen back."""
        ...
