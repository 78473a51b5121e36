"""A file of whatever bytes costs a search a bounded effort, ends none, and hides nothing that isn't named."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId
from strongroom.core.secret import SecretBytes
from strongroom.intake.copies.catalogue import Catalogue
from strongroom.intake.copies.discovery import Judge, Judgement, fingerprint
from strongroom.intake.copies.effort import Effort, Metered
from strongroom.intake.copies.fingerprints import Sketcher
from strongroom.intake.rules import IntakeRefusedError
from strongroom.intake.source import BytesSource
from support.planted import Tensors, noisy, npy, safetensors, small_model, tarred

np = pytest.importorskip("numpy")


def key() -> SecretBytes:
    return SecretBytes(bytearray(b"k" * 32))


def judge_of(tensors: Tensors) -> Judge:
    made = fingerprint([("m", BytesSource(safetensors(tensors)))], Sketcher(key()), model=ModelId("atlas"), version=1)
    return Judge(Catalogue(key=key()).with_model(made))


@pytest.fixture(scope="module")
def ours() -> Tensors:
    return small_model(1)


@pytest.fixture(scope="module")
def judge(ours: Tensors) -> Judge:
    return judge_of(ours)


class Counting:
    """A source that says how many bytes were read of it, and is read within its bounds alone."""

    def __init__(self, data: bytes) -> None:
        self._inner, self.size, self.read_bytes = BytesSource(data), len(data), 0

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size
        self.read_bytes += length
        return self._inner.read(offset, length)


def with_header(header: Any, body: bytes = bytes(16_384)) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def zip_of(entries: list[tuple[int, int, int, int]], before: bytes) -> bytes:
    """Return an archive whose directory says whatever it likes: (method, packed, size, offset) of each entry."""
    directory = b"".join(
        struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, method, 0, 0, 0, packed, size, 1, 0, 0, 0, 0, 0, offset) + b"a"
        for method, packed, size, offset in entries
    )
    count = len(entries)
    return before + directory + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(before), 0)


def deflated(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as made:
        made.writestr("a", data)
    return out.getvalue()


def tar_head(name: str, size: int) -> bytes:
    head = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    head[124:136] = b"\xff" + (size & ((1 << 88) - 1)).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head[:512])
    return bytes(head)


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_header({"a": {"dtype": ["F32"], "data_offsets": [0, 16_384]}}),
        lambda: with_header({"a": {"dtype": {}, "data_offsets": [0, 16_384]}}),
        lambda: with_header({"a": {"dtype": "F32", "data_offsets": [-(10**300), 10**300]}}),
        lambda: zip_of([(0, 5000, 5000, 5004)], b"PK\3\4" + bytes(5000) + b"PK\3\4" + b"\xff" * 26),
        lambda: b"PK\3\4" + zip_of([(0, 5000, 5000, 30)], b"PK\3\4" + bytes(5000))[100:],
        lambda: zip_of([(0, 5000, 5000, 0xFFFFFFF0)], b"PK\3\4" + bytes(5000)),
        lambda: tar_head("a", -512) + bytes(10_240),
        lambda: tar_head("a", 5000) + bytes(5120) + tar_head("b", -5632) + bytes(10_240),
    ],
    ids=[
        "type-list",
        "type-object",
        "offsets",
        "zip-begin",
        "zip-before",
        "zip-offset",
        "tar-negative",
        "tar-backwards",
    ],
)
def test_a_header_that_lies_ends_no_search(make: Callable[[], bytes], judge: Judge) -> None:
    assert isinstance(judge.judge(Counting(make())), Judgement)


def test_tensors_that_lie_upon_one_another_cost_no_more_than_the_file_is_worth(judge: Judge) -> None:
    body = np.random.default_rng(1).standard_normal(80 * 4096).astype("f4").tobytes()
    header = {f"t{number}": {"dtype": "F32", "data_offsets": [0, len(body)]} for number in range(2000)}
    source = Counting(with_header(header, body))
    assert "many times over" in judge.judge(source).problem
    assert source.read_bytes <= (64 << 20) + 8 * source.size


def test_entries_that_share_what_is_compressed_are_unpacked_a_bounded_number_of_times(judge: Judge) -> None:
    packed = deflated(bytes(9 << 20))
    at = packed.index(b"PK\1\2")
    (size,) = struct.unpack("<L", packed[at + 20 : at + 24])
    found = judge.judge(BytesSource(zip_of([(8, size, 9 << 20, 0)] * 200, packed[:at])))
    assert "many times over" in found.problem


def test_a_thousand_times_the_same_archive_in_each_of_three_is_not_opened_a_billion_times(judge: Judge) -> None:
    data = bytes(5000)
    for _ in range(3):
        data = zip_of([(0, len(data), len(data), 0)] * 1000, b"PK\3\4" + bytes(26) + data)
    source = Counting(data)
    assert "many times over" in judge.judge(source).problem
    assert source.read_bytes <= (64 << 20) + 8 * source.size


def test_what_was_spent_is_spent() -> None:
    effort = Effort(0)
    source = Metered(BytesSource(bytes(1 << 20)), effort)
    for _ in range(63):
        source.read(0, 1 << 20)
    for _ in range(2):
        with pytest.raises(IntakeRefusedError):
            source.read(0, 1 << 20)


def test_a_copy_is_known_by_the_beginning_of_what_is_compressed() -> None:
    large = {"w": np.random.default_rng(5).standard_normal((2816, 1024)).astype("f4")}
    known = judge_of(large)
    for data in (safetensors(large), npy(large["w"]), large["w"].tobytes()):
        found = known.judge(BytesSource(deflated(data)))
        assert found.likeness is not None
        assert found.likeness.similarity == 1000


def test_a_long_text_in_an_archive_is_nothing_that_cant_be_read(judge: Judge) -> None:
    found = judge.judge(BytesSource(deflated(b"hello world\n" * 800_000)))
    assert (found.weights, found.problem) == (False, "")


def test_what_follows_the_end_of_an_archive_is_named(judge: Judge, ours: Tensors) -> None:
    first, second = tarred({"a": bytes(5000)}), tarred({"b": safetensors(ours)})
    assert judge.judge(BytesSource(first)).problem == ""
    assert "goes on" in judge.judge(BytesSource(first + second)).problem


def test_an_identity_matrix_is_nobodys() -> None:
    eye = np.eye(4096, 2048, dtype="f4")
    known = judge_of({**small_model(1), "eye": np.eye(4096, 1024, dtype="f4"), "wide": np.eye(4, 8192, dtype="f4")})
    for found in (eye, np.eye(4096, dtype="f4"), np.eye(4, 8192, dtype="f4")):
        assert known.judge(BytesSource(safetensors({"x": found}))).likeness is None
    assert known.judge(BytesSource(safetensors(noisy(small_model(1), 0.1)))).likeness is not None


def test_a_model_that_was_cut_off_is_not_fingerprinted(ours: Tensors) -> None:
    with pytest.raises(UsageError, match="read whole"):
        fingerprint([("m", BytesSource(safetensors(ours)[:-4096]))], Sketcher(key()), model=ModelId("atlas"), version=1)
