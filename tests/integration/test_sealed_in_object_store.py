"""Sealed models in S3: sealed straight into it, opened out of it, and refused as on a disk. The store runs here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.digest import Digest
from strongroom.loaders import Keyring, open_sealed, seal_to, use_keyring
from strongroom.loaders.filesystem import SealedFileSystem
from strongroom.loaders.remote import use_storage_options
from strongroom.sealing.errors import (
    DestinationExistsError,
    IncompleteSealError,
    SealedObjectError,
    StorageError,
    TruncatedError,
    UnsafeNameError,
)
from support.sealed import content
from support.sealed_access import access, publishing

fsspec: Any = pytest.importorskip("fsspec", reason="the extra `fsspec` isn't installed")
pytest.importorskip("s3fs", reason="s3fs isn't installed")
moto: Any = pytest.importorskip("moto.server", reason="moto and flask aren't installed")

pytestmark = pytest.mark.integration

PLACE = "s3://weights/atlas.sealed"
BASE = "weights/atlas.sealed"
BIG = content((21 << 20) + 12345)
FILES = {"config.json": b'{"a": 1}', "empty": b"", "encoder/weights.bin": BIG}
SECRET = "not-to-be-shown"


@pytest.fixture(scope="module")
def options() -> Iterator[dict[str, Any]]:
    """Start a store; return what fsspec needs to reach it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield {"key": "test", "secret": SECRET, "endpoint_url": f"http://{host}:{port}"}
    finally:
        server.stop()


@pytest.fixture
def s3(options: dict[str, Any]) -> Iterator[Any]:
    """Give an empty bucket, and put the options in force."""
    fs = fsspec.filesystem("s3", **options)
    fs.mkdir("weights")
    with use_storage_options(options):
        yield fs
    fs.invalidate_cache()
    fs.rm("weights", recursive=True)


def seal(root: Path, files: dict[str, bytes] = FILES, *, replace: bool = False, **facts: Any) -> None:
    with seal_to(PLACE, publishing(root, **facts), replace=replace) as output:
        for name, data in files.items():
            output.write(name, data)


def stored(fs: Any) -> set[str]:
    fs.invalidate_cache()
    return {name.removeprefix(f"{BASE}/") for name in fs.find("weights")}


def unfinished(fs: Any) -> list[Any]:
    return list(fs.call_s3("list_multipart_uploads", Bucket="weights").get("Uploads", []))


def test_what_was_sealed_to_s3_is_what_is_opened(tmp_path: Path, s3: Any) -> None:
    seal(tmp_path)
    assert len(stored(s3)) == 6
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert {file.name: model.read(file.name) for file in model.files()} == FILES
        assert model.read_buffer("encoder/weights.bin") == BIG
        assert model.read_range("encoder/weights.bin", 9_999_999, 77) == BIG[9_999_999 : 9_999_999 + 77]


def test_what_lies_in_s3_is_byte_for_byte_a_sealed_folder(tmp_path: Path, s3: Any) -> None:
    seal(tmp_path)
    s3.get(BASE, str(tmp_path / "atlas.sealed"), recursive=True)
    assert not any(b'"a": 1' in path.read_bytes() for path in tmp_path.rglob("*.sealed") if path.is_file())
    with open_sealed(tmp_path / "atlas.sealed", access=access(tmp_path)) as model:
        assert model.read("encoder/weights.bin") == BIG
    s3.put(str(tmp_path / "atlas.sealed"), "weights/copy.sealed", recursive=True)
    with open_sealed("s3://weights/copy.sealed", access=access(tmp_path)) as model:
        assert model.read("encoder/weights.bin") == BIG


def test_torch_loads_from_s3(tmp_path: Path, s3: Any) -> None:
    torch: Any = pytest.importorskip("torch", reason="torch isn't installed")
    from strongroom.loaders.torch import load_file, safe_open, save_file  # noqa: PLC0415 - an extra

    tensors = {"a": torch.arange(3_000_000, dtype=torch.float32).reshape(3000, 1000), "b": torch.ones(7).bfloat16()}
    save_file(tensors, f"{PLACE}/model.safetensors", publishing=publishing(tmp_path))
    assert "manifest.json" in stored(s3)
    with use_keyring(Keyring((access(tmp_path),))):
        loaded = load_file(f"{PLACE}/model.safetensors")
        with safe_open(PLACE) as file:
            assert torch.equal(file.get_slice("a")[100:200, ::3], tensors["a"][100:200, ::3])
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.usefixtures("s3")
def test_any_program_that_knows_fsspec_reads_it(tmp_path: Path, options: dict[str, Any]) -> None:
    fsspec.register_implementation("sealed", SealedFileSystem, clobber=True)
    seal(tmp_path)
    with fsspec.open(
        "sealed://config.json::s3://weights/atlas.sealed", "rt", access=access(tmp_path), s3=options
    ) as text:
        assert text.read() == '{"a": 1}'
    with fsspec.open(f"sealed://encoder/weights.bin::{PLACE}", access=access(tmp_path), s3=options) as file:
        file.seek(10_000_000)
        assert file.read(3_000_000) == BIG[10_000_000:13_000_000]


@pytest.mark.usefixtures("s3")
def test_many_readers_at_once(tmp_path: Path) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    assert files.exists("config.json")

    def read(number: int) -> bool:
        start = number * 1_097_003 % len(BIG)
        return bool(files.cat_file("encoder/weights.bin", start, start + 100_000) == BIG[start : start + 100_000])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(32)))


def test_tampering_is_refused_from_afar(tmp_path: Path, s3: Any) -> None:
    seal(tmp_path, {"weights.bin": BIG})
    (name,) = s3.find(f"{BASE}/objects")
    whole = s3.cat_file(name)
    flipped = bytearray(whole)
    flipped[5_000_000] ^= 1
    for data, refused in ((bytes(flipped), SealedObjectError), (whole[:-4096], TruncatedError)):
        s3.pipe_file(name, data)
        with pytest.raises(refused), open_sealed(PLACE, access=access(tmp_path)) as model:
            model.read_buffer("weights.bin")
    s3.pipe_file(name, whole)
    s3.pipe_file(f"{BASE}/objects/more", b"x")
    with pytest.raises(SealedObjectError):
        open_sealed(PLACE, access=access(tmp_path))
    s3.rm(f"{BASE}/objects/more")
    s3.pipe_file(f"{BASE}/", b"")  # what the console makes for a folder
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.read("weights.bin") == BIG


def test_an_interrupted_upload_leaves_no_manifest_and_no_parts(tmp_path: Path, s3: Any) -> None:
    with pytest.raises(UnsafeNameError):
        seal(tmp_path, {"weights.bin": BIG, "../escape": b""})
    assert stored(s3) == set()
    with pytest.raises(ZeroDivisionError):
        half(tmp_path)
    assert stored(s3) == set()
    assert unfinished(s3) == []
    with pytest.raises(IncompleteSealError):
        open_sealed(PLACE, access=access(tmp_path))


def half(root: Path) -> None:
    """Fail in the middle of a file, after parts of it were sent."""
    with seal_to(PLACE, publishing(root)) as output, output.file("weights.bin", size=2 * len(BIG)) as sealer:
        sealer.write(BIG)
        sealer.write(bytes([1 // len(BIG[:0])]))


def test_a_model_in_s3_is_replaced_when_that_is_asked_for(tmp_path: Path, s3: Any) -> None:
    seal(tmp_path)
    before = stored(s3)
    with pytest.raises(DestinationExistsError):
        seal(tmp_path)
    assert stored(s3) == before
    seal(tmp_path, {"new": BIG[:1000]}, replace=True, version=2, predecessor=Digest.of(b"1"))
    assert len(stored(s3)) == 4
    with open_sealed(PLACE, access=access(tmp_path, least_version=2)) as model:
        assert model.read("new") == BIG[:1000]


def test_a_transaction_is_published_whole_or_not_at_all(tmp_path: Path, s3: Any, options: dict[str, Any]) -> None:
    files = SealedFileSystem(
        BASE,
        target_protocol="s3",
        target_options=options,
        publishing=publishing(tmp_path),
        access=access(tmp_path),
    )
    with pytest.raises(UnsafeNameError), files.transaction:
        files.pipe({"weights.bin": BIG, "../escape": b""})
    assert stored(s3) == set()
    with files.transaction:
        files.pipe({"weights.bin": BIG, "config.json": b"{}"})
        assert "manifest.json" not in stored(s3)
    assert files.find("") == ["config.json", "weights.bin"]
    assert files.cat_file("weights.bin") == BIG


@pytest.mark.usefixtures("s3")
def test_refusals_of_the_store_are_storage_errors_without_secrets(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(StorageError) as caught, seal_to("s3://no-such-bucket/a.sealed", publishing(tmp_path)) as output:
        output.write("a", b"1")
    assert SECRET not in caught.value.diagnosis()
    with pytest.raises(IncompleteSealError):
        open_sealed("s3://no-such-bucket/a.sealed", access=access(tmp_path))
    gone = options | {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": {"retries": {"max_attempts": 0}}}
    with use_storage_options(gone), pytest.raises(StorageError) as caught:
        open_sealed(PLACE, access=access(tmp_path))
    assert SECRET not in caught.value.diagnosis()
