"""The worked example in docs/spec/sealed-weights.md is what the code makes, and opens."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from strongroom.core.digest import Digest
from strongroom.core.ids import model_id
from strongroom.core.secret import SecretBytes
from strongroom.sealing.header import HEADER_LENGTH
from strongroom.sealing.open import ObjectExpectation, ObjectReader
from strongroom.sealing.plan import Part
from strongroom.sealing.prelude import Prelude, key_commitment, model_version_id
from strongroom.sealing.source import BytesSource
from support.sealed import seal_object

SPEC = Path(__file__).resolve().parents[2] / "docs" / "spec" / "sealed-weights.md"


@pytest.fixture(scope="module")
def example() -> dict[str, str]:
    block = SPEC.read_text(encoding="utf-8").split("```text\n")[1].split("```")[0]
    return {name.strip(): value for name, value in re.findall(r"(?m)^(.+?) += (\S+)$", block)}


def _key(example: dict[str, str]) -> SecretBytes:
    return SecretBytes(bytearray.fromhex(example["data key"]))


def _object(example: dict[str, str]) -> bytes:
    start = bytes.fromhex(example["bytes 0-77"])
    return b"".join(
        [
            start.ljust(4022, b"\0"),
            bytes.fromhex(example["bytes 4022-4095"]),
            bytes.fromhex(example["bytes 4096-4134"]),
        ]
    )


def test_the_example_is_made(example: dict[str, str]) -> None:
    version = model_version_id(Digest.parse(example["genesis"]), model_id("atlas"), 1)
    assert version.hex() == example["model version id"]
    assert key_commitment(_key(example)).hex() == example["commitment"]
    random = iter([bytes.fromhex(example["random IV"]), bytes.fromhex(example["random nonce"])])
    out = bytearray(HEADER_LENGTH + 39)

    def put(offset: int, data: memoryview) -> None:
        out[offset : offset + len(data)] = data

    facts = seal_object(
        io.BytesIO(b"weights"),
        put,
        prelude=Prelude(
            model_version=version,
            object_id=bytes.fromhex(example["object id"]),
            commitment=bytes.fromhex(example["commitment"]),
        ),
        data_key=_key(example),
        random_bytes=lambda _count: next(random),
    )
    assert out == _object(example)
    assert (str(facts.header), str(facts.root)) == (example["header digest"], example["tree root"])


def test_the_example_opens(example: dict[str, str]) -> None:
    sealed = _object(example)
    expected = ObjectExpectation(
        name="example",
        model_version=bytes.fromhex(example["model version id"]),
        object_id=bytes.fromhex(example["object id"]),
        size=len(sealed),
        header=Digest.parse(example["header digest"]),
        root=Digest.parse(example["tree root"]),
    )
    buffer = bytearray(7)
    with ObjectReader(BytesSource(sealed), expected, _key(example)) as reader:
        reader.read_parts_of_whole([Part(0, memoryview(buffer))])
    assert buffer == b"weights"
