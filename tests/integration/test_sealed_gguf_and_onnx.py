"""Programs that open a model by its path, or from bytes: GGUF files for llama.cpp, and ONNX models with their tensors.

llama.cpp itself isn't run here: llama-cpp-python comes as source that takes a compiler and many minutes. What it needs
of a path (a regular file with these bytes, which can be mapped) is checked with gguf's own reader, which maps it too.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from strongroom.loaders import seal_to
from strongroom.loaders.gguf import gguf_path
from strongroom.loaders.onnx import session
from strongroom.sealing.errors import NoSuchFileError, SealedObjectError
from strongroom.sealing.header import HEADER_LENGTH
from support.sealed_access import access, publishing

pytestmark = pytest.mark.integration

onnxruntime: Any = importlib.import_module("onnxruntime")  # which has no types

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)
ONES = np.ones((1, 3), np.float32)


def write_gguf(path: Path) -> bytes:
    """Write a small real model file with gguf's own writer."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"w{number}" for number in range(300)])
    random = np.random.default_rng(0)
    for name, shape in {"token_embd.weight": (300, 64), "blk.0.ffn_up.weight": (96, 64)}.items():
        writer.add_tensor(name, random.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture
def sealed_gguf(tmp_path: Path) -> tuple[Path, bytes]:
    plain = write_gguf(tmp_path / "plain.gguf")
    with seal_to(tmp_path / "a.sealed", publishing(tmp_path)) as output:
        output.write("atlas-f32.gguf", plain)
        output.write("README.md", b"hello")
    return tmp_path / "a.sealed", plain


def test_a_gguf_file_is_the_same_to_the_last_byte(tmp_path: Path, sealed_gguf: tuple[Path, bytes]) -> None:
    place, plain = sealed_gguf
    for asked in (place, place / "atlas-f32.gguf"):
        with gguf_path(asked, access=access(tmp_path)) as path:
            assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(plain).digest()
            reader = gguf.GGUFReader(path)
            assert [tensor.name for tensor in reader.tensors] == ["token_embd.weight", "blk.0.ffn_up.weight"]
            assert reader.fields["llama.context_length"].contents() == 128
            # Nobody changes it, this process included.
            with pytest.raises(OSError, match="not permitted"):
                path.write_bytes(b"other")
            total = float(reader.tensors[0].data.sum())
        assert not path.exists()
        # What was mapped stays: llama.cpp reads weights when it needs them.
        assert float(reader.tensors[0].data.sum()) == total


def test_a_child_reads_what_it_inherits(tmp_path: Path, sealed_gguf: tuple[Path, bytes]) -> None:
    place, plain = sealed_gguf
    program = "import sys, hashlib, pathlib; print(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest())"
    with gguf_path(place, access=access(tmp_path)) as path:
        command = [sys.executable, "-c", program, str(path)]
        seen = subprocess.run(command, pass_fds=[int(path.name)], capture_output=True, text=True, check=True)
        alone = subprocess.run(command, capture_output=True, text=True, check=False)
    assert seen.stdout.strip() == hashlib.sha256(plain).hexdigest()
    assert alone.returncode != 0


def test_a_tampered_gguf_file_gives_no_path(tmp_path: Path, sealed_gguf: tuple[Path, bytes]) -> None:
    place, _plain = sealed_gguf
    flip(place)
    with pytest.raises(SealedObjectError), gguf_path(place, access=access(tmp_path)):
        pytest.fail("a path was given")


def test_which_gguf_file_must_be_clear(tmp_path: Path) -> None:
    with seal_to(tmp_path / "a.sealed", publishing(tmp_path)) as output:
        output.write("one.gguf", b"GGUF")
        output.write("two.gguf", b"GGUF")
    with pytest.raises(NoSuchFileError), gguf_path(tmp_path / "a.sealed", access=access(tmp_path)):
        pytest.fail("a path was given")


def flip(place: Path) -> None:
    largest = max((place / "objects").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[HEADER_LENGTH + 50] ^= 1
    largest.write_bytes(data)


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def member(number: int, value: int | bytes) -> bytes:
    """Write one member of a protobuf message: the onnx package isn't here, and isn't needed for a matrix product."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def value_info(name: bytes, *shape: int) -> bytes:
    dims = b"".join(member(1, member(1, extent)) for extent in shape)
    return member(1, name) + member(2, member(1, member(1, 1) + member(2, dims)))


def product(location: str | None) -> bytes:
    """Return an ONNX model, ``y = x @ W``, with ``W`` in it or in the file at ``location``."""
    tensor = member(1, 3) + member(1, 4) + member(2, 1) + member(8, b"W")
    if location is None:
        tensor += member(9, WEIGHTS.tobytes())
    else:
        entries = {b"location": location.encode(), b"offset": b"0", b"length": b"48"}
        tensor += b"".join(member(13, member(1, key) + member(2, value)) for key, value in entries.items())
        tensor += member(14, 1)
    node = member(1, b"x") + member(1, b"W") + member(2, b"y") + member(4, b"MatMul")
    graph = member(1, node) + member(2, b"g") + member(5, tensor)
    graph += member(11, value_info(b"x", 1, 3)) + member(12, value_info(b"y", 1, 4))
    return member(1, 8) + member(7, graph) + member(8, member(2, 17))


def sealed_onnx(root: Path, files: dict[str, bytes]) -> Path:
    with seal_to(root / "a.sealed", publishing(root)) as output:
        for name, data in files.items():
            output.write(name, data)
    return root / "a.sealed"


@pytest.mark.parametrize("location", [None, "w.bin", "deep/" + "w" * 150 + ".onnx_data"])
def test_onnxruntime_answers_from_a_sealed_model(tmp_path: Path, location: str | None) -> None:
    files = {"onnx/model.onnx": product(location)} | ({f"onnx/{location}": WEIGHTS.tobytes()} if location else {})
    place = sealed_onnx(tmp_path, files)
    (answer,) = session(place, access=access(tmp_path)).run(None, {"x": ONES})
    assert np.array_equal(answer, ONES @ WEIGHTS)


def test_tensors_are_never_taken_from_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "w.bin").write_bytes((2 * WEIGHTS).tobytes())
    monkeypatch.chdir(other)
    # What onnxruntime does by itself with a model from memory:
    (taken,) = onnxruntime.InferenceSession(product("w.bin"), providers=["CPUExecutionProvider"]).run(None, {"x": ONES})
    assert np.array_equal(taken, ONES @ (2 * WEIGHTS))
    with pytest.raises(NoSuchFileError):
        session(sealed_onnx(tmp_path, {"model.onnx": product("w.bin")}), access=access(tmp_path))


def test_a_location_that_is_not_recognised_is_found_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes((2 * WEIGHTS).tobytes())
    monkeypatch.chdir(tmp_path)
    # The same entry with its members in the other order: a form of protobuf that nobody writes.
    unusual = product("w.bin").replace(
        member(1, b"location") + member(2, b"w.bin"), member(2, b"w.bin") + member(1, b"location")
    )
    place = sealed_onnx(tmp_path, {"model.onnx": unusual, "w.bin": WEIGHTS.tobytes()})
    with pytest.raises(Exception, match="External data path"):
        session(place, access=access(tmp_path))


def test_tampered_tensors_make_no_session(tmp_path: Path) -> None:
    place = sealed_onnx(tmp_path, {"model.onnx": product("w.bin"), "w.bin": WEIGHTS.tobytes() + os.urandom(4096)})
    flip(place)
    with pytest.raises(SealedObjectError):
        session(place, access=access(tmp_path))
