"""FLOE's published known answers, made by its C++, Go and Java implementations."""

from __future__ import annotations

import pytest

from strongroom.core.secret import SecretBytes
from strongroom.sealing.errors import SealedObjectError
from strongroom.sealing.floe import HEADER_LENGTH, IV_LENGTH, LENGTH_FIELD, NONCE_LENGTH, OVERHEAD, Floe, FloeParameters
from support.vectors import vectors_folder, vectors_root

AAD = b"This is AAD"
KNOWN = [
    *(
        f"{made_by}_{kind}"
        for made_by in ("cpp", "go", "java")
        for kind in ("GCM256_IV256_4K", "GCM256_IV256_64", "rotation")
    ),
    "java_lastSegAligned",
    "java_lastSegEmpty",
]
FOLDER = vectors_root() / "floe"
CASES = sorted({*KNOWN, *(path.name.removesuffix("_ct.txt") for path in FOLDER.glob("*_ct.txt"))})
"""Whatever lies there is tried: a file made by another implementation needs no change here."""


def _parameters(case: str, sealed: bytes) -> FloeParameters:
    # Segment length: as the header states it. Only those that are named for it change their AES key early.
    return FloeParameters(int.from_bytes(sealed[2:6], "big"), rotation_bits=2 if "rotation" in case else 20)


def _key() -> SecretBytes:
    return SecretBytes(bytearray(32))


def _load(case: str) -> tuple[FloeParameters, bytes, bytes]:
    folder = vectors_folder("floe")
    sealed = bytes.fromhex((folder / f"{case}_ct.txt").read_text().strip())
    plain = bytes.fromhex((folder / f"{case}_pt.txt").read_text().strip())
    return _parameters(case, sealed), sealed, plain


def _segments(parameters: FloeParameters, sealed: bytes) -> list[bytes]:
    body = sealed[HEADER_LENGTH:]
    return [body[i : i + parameters.segment_length] for i in range(0, len(body), parameters.segment_length)]


def _decrypt(parameters: FloeParameters, sealed: bytes, aad: bytes = AAD) -> list[bytes]:
    floe = Floe.resume(_key(), aad, sealed[:HEADER_LENGTH], parameters)
    result = []
    segments = _segments(parameters, sealed)
    for position, segment in enumerate(segments):
        out = bytearray(len(segment) - OVERHEAD)
        final = position == len(segments) - 1
        floe.decrypt_segment(memoryview(out), memoryview(segment), position=position, final=final)
        result.append(bytes(out))
    return result


@pytest.mark.parametrize("case", CASES)
def test_decrypts_known_answer(case: str) -> None:
    parameters, sealed, plain = _load(case)
    assert b"".join(_decrypt(parameters, sealed)) == plain


@pytest.mark.parametrize("case", CASES)
def test_encrypts_known_answer_to_the_same_bytes(case: str) -> None:
    parameters, sealed, _plain = _load(case)
    parts = _decrypt(parameters, sealed)
    floe, header = Floe.begin(_key(), AAD, sealed[10 : 10 + IV_LENGTH], parameters)
    made = bytearray(header)
    for position, (part, segment) in enumerate(zip(parts, _segments(parameters, sealed), strict=True)):
        out = bytearray(len(part) + OVERHEAD)
        nonce = segment[LENGTH_FIELD : LENGTH_FIELD + NONCE_LENGTH]
        final = position == len(parts) - 1
        floe.encrypt_segment(memoryview(out), memoryview(part), position=position, nonce=nonce, final=final)
        made += out
    assert bytes(made) == sealed


def test_each_bit_of_a_known_answer_counts() -> None:
    parameters, sealed, _plain = _load("java_lastSegAligned")
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealedObjectError):
            _decrypt(parameters, bytes(changed))


def test_other_associated_data_is_refused() -> None:
    parameters, sealed, _plain = _load("go_GCM256_IV256_64")
    with pytest.raises(SealedObjectError):
        _decrypt(parameters, sealed, aad=b"This is aad")
