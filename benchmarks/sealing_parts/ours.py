"""Strongroom's own sealed models, through the public API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.sealing_parts.worker import Tensors, Variant, main

from strongroom.core.ids import ModelId, PersonId
from strongroom.core.signature import HybridSigner
from strongroom.keys.adapters.identity_file import create_identity, open_identity
from strongroom.loaders import Access, Checking, Identity, Publishing, open_sealed
from strongroom.loaders.saving import own_domain
from strongroom.loaders.tensors import TensorFile
from strongroom.loaders.torch import as_torch, load_file, load_into, safe_open, save_file


class Strongroom(Variant):
    """A sealed model with one file. Each timed part opens it anew: signatures, manifest, index and all."""

    checking = Checking.SEGMENTS

    def __init__(self, model: Path, work: Path, name: str) -> None:
        """All variants of this class load what the first one sealed."""
        super().__init__(model, work, name)
        self.made = work / f"{model.stem}.strongroom.sealed"
        identity = work / "recipient"
        if not identity.exists():
            create_identity(identity, os.urandom, passphrase=None)
        signer = HybridSigner.from_seed(b"a publisher of benchmarks only..")
        self.publishing = Publishing(
            model=ModelId("bench"),
            publisher=PersonId("bench"),
            signer=signer,
            recipients=[open_identity(identity).public],
        )
        self.access = Access(
            keys=Identity(identity),
            publisher=signer.public_key,
            genesis=own_domain(signer.public_key),
            model=ModelId("bench"),
            checking=self.checking,
        )

    def seal(self, tensors: Tensors) -> None:
        save_file(tensors, self.made, publishing=self.publishing)

    def owned(self) -> Tensors:
        return load_file(self.made, access=self.access)

    def existing(self, targets: Tensors) -> None:
        load_into(targets, self.made, access=self.access)

    def one(self, name: str) -> Any:
        with safe_open(self.made, access=self.access) as file:
            return file.get_tensor(name)


class Whole(Strongroom):
    """The same, each file also checked against the digest that its publisher signed."""

    checking = Checking.WHOLE


class Opened(Strongroom):
    """The same, the model opened before: what a server pays that loads one tensor after another."""

    def prepare(self) -> None:
        self.opened = open_sealed(self.made, access=self.access)
        self.file = TensorFile(self.opened, "model.safetensors")

    def one(self, name: str) -> Any:
        return as_torch(self.file.tensor(name))

    def release(self) -> None:
        self.opened.close()
        del self.file, self.opened


class Undigested(Strongroom):
    """Sealing without the digest over the ciphertext. Not a mode that there is: it shows what the digest costs."""

    def seal(self, tensors: Tensors) -> None:
        with mock.patch("strongroom.sealing.seal.leaf", return_value=bytes(32)):
            super().seal(tensors)


if __name__ == "__main__":
    main({"strongroom": Strongroom, "strongroom-whole": Whole, "strongroom-opened": Opened, "undigested": Undigested})
