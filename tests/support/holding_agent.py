"""An agent for tests that opens weights as the real one does, and waits at each step, so that its memory can be read.

Its recipient key is made from a seed that it tells, masked: the test must know what to look for. The rest of the way
(delivery, hidden page, opening, closing, command) goes through the calls of the real agent.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from strongroom.core.encoding import to_base64
from strongroom.core.envelope import Envelope
from strongroom.core.fields import Fields
from strongroom.core.insecure_secret_access import TOKEN
from strongroom.enclave.adapters.channel import Channel, inherited_descriptor
from strongroom.enclave.adapters.command import start_command
from strongroom.enclave.adapters.model_folder import ModelFolder
from strongroom.enclave.sandbox import SandboxProfile
from strongroom.keys.recipient import IDENTITY_BYTES, RecipientKey
from strongroom.sealing.adapters.directory import open_directory
from strongroom.sealing.manifest import ManifestExpectation, verify_manifest
from strongroom.walls.adapters.secret_memory import SecretMemoryKind, SecretPage

# The folder above may not be listed inside: what stands there is found by its name.
sys.modules["support"] = ModuleType("support")
sys.modules["support"].__path__ = [str(Path(__file__).resolve().parent)]

from support.sealed import GENESIS, MODEL, SIGNER  # noqa: E402 - see above

MASK = 0xAA


def known_recipient() -> tuple[RecipientKey, bytes]:
    """Return a recipient key as a real one is, and its seed with every byte masked: nobody finds that by the seed."""
    seed = bytearray(IDENTITY_BYTES)
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        source.readinto(seed)
    masked = bytes(byte ^ MASK for byte in seed)
    view = memoryview(seed)
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(view[:64]), X25519PrivateKey.from_private_bytes(view[64:])
    for at in range(len(seed)):
        seed[at] = 0
    key = RecipientKey.__new__(RecipientKey)
    key._private = MLKEM768X25519PrivateKey(mlkem, x25519)
    key.public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return key, masked


def main() -> None:
    channel = Channel.inherited()
    profile = SandboxProfile.from_bytes(os.pread(inherited_descriptor("profile"), 1 << 20, 0))

    def tell(step: str, **members: str) -> Fields:
        channel.send({"step": step, **members}, timeout=60)
        return Fields(channel.receive(timeout=60), "order")

    def watched(chunks: Iterator[memoryview]) -> Iterator[memoryview]:
        for number, chunk in enumerate(chunks):
            if number == 1:
                tell("opening")
            yield chunk

    recipient, masked = known_recipient()
    order = tell("asking", public=to_base64(recipient.public), masked=masked.hex())
    with order.child("manifest") as told:
        envelope = Envelope.read(told)
    expect = ManifestExpectation(genesis=GENESIS, model=MODEL, version=1, digest=None)
    key = recipient.open(order.binary("ciphertext"), b"context")
    kind = SecretMemoryKind(order.text("kind"))
    with key, SecretPage.taking(bytearray(key.reveal(TOKEN)), kind=kind) as data_key:
        key.wipe()
        tell("holding")
        folder = ModelFolder.of(profile)
        manifest = verify_manifest(envelope, SIGNER.public_key, expect=expect)
        with open_directory(Path(order.text("sealed")), data_key=data_key, manifest=manifest) as model:
            for file in model.files():
                folder.write(file.name, watched(model.chunks(file.name)))
        folder.close()
    with start_command(profile, order.texts("command", most=8)) as started:
        while started.poll(timeout=0.1) is None and not Path("/scratch/ready").exists():
            pass
        tell("running")
        started.kill()
    channel.send({"step": "ended"}, timeout=60)


main()
