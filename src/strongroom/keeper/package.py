"""The key package: keyring and escrow as one file, for custodians and safes. Kept apart from backups.

Every key in it is wrapped: it takes the key service, or enough custodians, to open anything with it. A key that was
shredded isn't in the next package; so it's the newest package that counts, and older ones are to be destroyed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from strongroom.core.canonical import decode, encode
from strongroom.core.digest import Digest
from strongroom.core.envelope import MAX_PAYLOAD, Envelope
from strongroom.core.errors import TamperedError
from strongroom.core.fields import Fields
from strongroom.core.genesis import Genesis
from strongroom.keeper.keyring import MAX_KEYRING, Keyring
from strongroom.keys.escrow import verify_escrow
from strongroom.keys.hierarchy import Tree

MAX_PACKAGE: Final = MAX_KEYRING + 2 * MAX_PAYLOAD


class KeyPackageError(TamperedError):
    """A key package isn't this deployment's, or its parts are of two generations of the root key."""

    code = "key-package-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPackage:
    """A deployment's keys, wrapped. Keys of irrecoverable models are never in one."""

    genesis: Digest
    keyring: Keyring
    escrow: Envelope | None
    """None where nobody keeps shares."""

    @classmethod
    def of(cls, genesis: Genesis, keyring: Keyring, escrow: Envelope | None) -> KeyPackage:
        """Pack a keyring and the escrow of its root key.

        :raises KeyPackageError: the escrow is of another generation.
        :raises SignatureError: the escrow isn't the keeper's.
        """
        kept = [held.epoch for held in keyring.epochs if held.tree is not Tree.ESCROWED]
        roots = tuple((tree, stored) for tree, stored in keyring.roots if tree is Tree.ESCROWED)
        package = cls(genesis=genesis.digest, keyring=replace(keyring.without_epochs(kept), roots=roots), escrow=escrow)
        package.verify(genesis)
        return package

    @classmethod
    def parse(cls, data: bytes) -> KeyPackage:
        """Read canonical bytes. It proves nothing: see :meth:`verify`.

        :raises MalformedError: another form.
        """
        with Fields(decode(data, max_bytes=MAX_PACKAGE), "key package") as fields:
            fields.constant("v", 1)
            fields.constant("type", "strongroom/key-package")
            genesis = fields.digest("genesis")
            keyring = Keyring.parse(encode(fields.value("keyring")))
            escrow = None
            if fields.optional("escrow"):
                with fields.child("escrow") as child:
                    escrow = Envelope.read(child)
        return cls(genesis=genesis, keyring=keyring, escrow=escrow)

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(
            {
                "v": 1,
                "type": "strongroom/key-package",
                "genesis": str(self.genesis),
                "keyring": decode(self.keyring.to_bytes(), max_bytes=MAX_KEYRING),
                "escrow": None if self.escrow is None else self.escrow.to_json(),
            }
        )

    @property
    def digest(self) -> Digest:
        """What is written on the envelope in the safe."""
        return Digest.of(self.to_bytes())

    def verify(self, genesis: Genesis) -> None:
        """Check that this package is a deployment's, and that its escrow opens its root key's generation.

        Whether the keyring is the newest one is said by the log, when a keeper starts with it.

        :raises KeyPackageError: another deployment's, or parts of two generations.
        :raises SignatureError: the escrow isn't the keeper's.
        """
        if self.genesis != genesis.digest:
            raise KeyPackageError("the key package is another deployment's")
        if self.escrow is None:
            return
        escrow = verify_escrow(self.escrow, genesis)
        if escrow.generation != self.keyring.generation:
            raise KeyPackageError(
                f"the escrow is of generation {escrow.generation} of the root key, the keyring of"
                f" {self.keyring.generation}",
                remedy="start the keeper once, which settles what a crash cut short; then make the package anew",
            )
