"""Targets of the search for copies: files of all kinds, catalogues, fingerprints, the register, challenges, answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Final

from fuzz.targets.target import Target
from strongroom.client.fingerprints import read_fingerprints, write_fingerprints
from strongroom.core.digest import Digest
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.core.signature import Ed25519Signer
from strongroom.intake.copies.catalogue import Catalogue, KnownModel, KnownTensor
from strongroom.intake.copies.discovery import Judge
from strongroom.intake.copies.possession import NONCE_BYTES, Answer, Challenge
from strongroom.intake.copies.register import CopyKind, Ending, Register, Statement, Step, Terms, read_register
from strongroom.intake.source import BytesSource
from strongroom.keys.recipient import RecipientIdentity
from support.planted import gguf, npy, npz, onnx, safetensors, small_model, tarred, zipped

_SIGNER: Final = Ed25519Signer.from_seed(b"r" * 32)
_GENESIS: Final = Digest.of(b"genesis")
_COPY: Final = "1" * 32
_AT: Final = 1_800_000_000


def _key() -> SecretBytes:
    return SecretBytes(bytearray(b"k" * 32))


def _catalogue() -> Catalogue:
    tensors = (KnownTensor(name="a", blocks=2, sketches=b"s" * 64), KnownTensor(name="b", blocks=1, sketches=bytes(32)))
    return Catalogue(key=_key(), models=(KnownModel(model=ModelId("atlas"), version=1, tensors=tensors),))


@cache
def _judge() -> Judge:
    return Judge(_catalogue())


@cache
def _identity() -> RecipientIdentity:
    with SecretBytes(bytearray(b"i" * 96)) as seed:
        return RecipientIdentity(seed)


def _fingerprints() -> bytes:
    return write_fingerprints(
        _catalogue(), [_identity().public], _SIGNER, genesis=_GENESIS, random_bytes=lambda size: b"f" * size
    )


def _statements() -> list[bytes]:
    register = Register(genesis=_GENESIS)
    challenge = Challenge(copy=_COPY, nonce=b"n" * NONCE_BYTES, until=_AT + 60)
    return [
        register.next(_COPY, Step.CHALLENGED, _AT, challenge=challenge).to_bytes(),
        register.next(_COPY, Step.PROVED, _AT).to_bytes(),
        register.next(_COPY, Step.RETIRED, _AT, ending=Ending.LOST, evidence=Digest.of(b"e")).to_bytes(),
    ]


def _line() -> list[bytes]:
    terms = Terms(
        model=ModelId("atlas"),
        version=1,
        kind=CopyKind.SEALED,
        host="w1",
        place="/data",
        holder="ops",
        reason="serving",
        expires=_AT,
        prove_seconds=60,
        files=Digest.of(b"files"),
    )
    return [Register(genesis=_GENESIS).next(_COPY, Step.ADDED, _AT, terms=terms).signed_by(_SIGNER).to_bytes()]


def _files() -> list[bytes]:
    one = {"a": small_model(1)["layers.0.q.weight"][:64]}
    arrays = npz(one)
    made = [safetensors(one), gguf(one), onnx(one), npy(one["a"]), arrays, npz(one, packed=True)]
    return [*made, zipped({"x.npz": arrays}), tarred({"x.npz": arrays})]


def _envelope(data: bytes) -> None:
    read_register([data], _SIGNER.public_key, _GENESIS)


COPIES: Final[Mapping[str, Target]] = MappingProxyType(
    {
        "copies-files": Target(read=lambda data: _judge().judge(BytesSource(data)), seeds=_files, changes=300),
        "copies-catalogue": Target(read=Catalogue.parse, seeds=lambda: (_catalogue().to_bytes(),)),
        "copies-fingerprints": Target(
            read=lambda data: read_fingerprints(data, _SIGNER.public_key, _identity()),
            seeds=lambda: (_fingerprints(),),
            changes=100,
        ),
        "copies-statement": Target(read=Statement.parse, seeds=_statements),
        "copies-register": Target(read=_envelope, seeds=_line, changes=100),
        "copies-challenge": Target(
            read=Challenge.parse,
            seeds=lambda: (Challenge(copy=_COPY, nonce=b"n" * NONCE_BYTES, until=_AT).to_bytes(),),
        ),
        "copies-answer": Target(
            read=Answer.parse, seeds=lambda: (Answer(copy=_COPY, nonce=b"n", code=b"c" * 32).to_bytes(),)
        ),
    }
)
