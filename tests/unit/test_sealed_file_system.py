"""fsspec sees a sealed model as its plaintext files, wherever it lies; a storage is believed in nothing."""

from __future__ import annotations

import errno
import io
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.loaders import Checking, Keyring, open_sealed, use_keyring
from strongroom.loaders.filesystem import SealedFileSystem
from strongroom.loaders.remote import Prefix, RemoteStore, use_storage_options
from strongroom.sealing.errors import (
    DestinationExistsError,
    IncompleteSealError,
    SealedObjectError,
    StorageError,
    TruncatedError,
    UnexpectedObjectError,
)
from support.fsspec_storage import BASE, BIG, FILES, PLACE, SECRET, Storage, empty_storage, fsspec, seal
from support.sealed_access import access


@pytest.fixture(autouse=True)
def storage() -> Iterator[Any]:
    fsspec.register_implementation("sealed", SealedFileSystem, clobber=True)
    with empty_storage() as fs:
        yield fs


def test_what_was_sealed_to_a_storage_is_what_is_opened(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    assert not any(BIG[:100] in bytes(file.getbuffer()) for file in storage.store.values())
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert {file.name: model.read(file.name) for file in model.files()} == FILES
        assert model.manifest.version == 1


@pytest.mark.parametrize("scheme", ["file://", "local://", "memory://"])
def test_other_storages_too(tmp_path: Path, scheme: str) -> None:
    place = seal(tmp_path, f"{scheme}{tmp_path}/atlas.sealed")
    with open_sealed(place, access=access(tmp_path)) as model:
        assert model.read("encoder/weights.bin") == BIG
    with pytest.raises(DestinationExistsError):
        seal(tmp_path, place)
    seal(tmp_path, place, replace=True, files={"b": b"2"})
    with open_sealed(place, access=access(tmp_path)) as model:
        assert [file.name for file in model.files()] == ["b"]
    if scheme == "memory://":
        fsspec.filesystem("memory").rm(str(tmp_path), recursive=True)


def test_sealed_to_a_storage_is_sealed_to_a_folder(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    for path, file in storage.store.items():
        local = tmp_path / "copy.sealed" / path.removeprefix(f"{BASE}/")
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(file.getvalue())
    with open_sealed(tmp_path / "copy.sealed", access=access(tmp_path)) as model:
        assert model.read("encoder/weights.bin") == BIG


def test_ranges_read_their_segments_only(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    files.cat_file("encoder/weights.bin", 0, 1)
    storage.read.clear()
    assert files.cat_file("encoder/weights.bin", 100, 200) == BIG[100:200]
    assert [count for _, count in storage.read] == [1 << 20]
    storage.read.clear()
    assert (
        files.cat_file("encoder/weights.bin", (1 << 20) + 50, (3 << 20) - 5000)
        == BIG[(1 << 20) + 50 : (3 << 20) - 5000]
    )
    assert sum(count for _, count in storage.read) == 2 << 20
    storage.read.clear()
    ends = [10, 20, (1 << 20) - 100]
    found = files.cat_ranges(["encoder/weights.bin"] * 3, [0, 10, (1 << 20) - 200], ends)
    assert found == [BIG[:10], BIG[10:20], BIG[(1 << 20) - 200 : (1 << 20) - 100]]
    assert sum(count for _, count in storage.read) == 1 << 20


@pytest.mark.parametrize("checking", list(Checking))
def test_files_are_seekable_and_read_as_others(tmp_path: Path, checking: Checking) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path, checking=checking))
    with files.open("encoder/weights.bin") as file:
        assert file.read(10) == BIG[:10]
        assert file.seek(-7, io.SEEK_END) == len(BIG) - 7
        assert file.read() == BIG[-7:]
        assert file.read() == b""
        file.seek(1_000_000)
        file.seek(50_000, io.SEEK_CUR)
        into = bytearray(3 << 20)
        assert file.readinto(into) == 3 << 20
        assert into == BIG[1_050_000 : 1_050_000 + (3 << 20)]
        file.seek(0)
        assert file.read() == BIG
        assert (file.size, file.path, file.info()["size"]) == (len(BIG), "encoder/weights.bin", len(BIG))
        with pytest.raises(ValueError, match="before"):
            file.seek(-1)
        assert file.seek(len(BIG) + 5) == len(BIG) + 5
        assert file.read(1) == b""
    with files.open("config.json", "r") as text:
        assert text.read() == '{"a": 1}'
    assert files.open("empty").read() == b""


def test_the_tree_is_that_of_the_files(tmp_path: Path) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    assert files.ls("", detail=False) == ["config.json", "empty", "encoder"]
    assert [entry["type"] for entry in files.ls("/")] == ["file", "file", "directory"]
    assert files.ls("encoder", detail=False) == files.ls("encoder/weights.bin", detail=False) == ["encoder/weights.bin"]
    assert files.find("") == sorted(FILES)
    assert files.glob("**/*.bin") == ["encoder/weights.bin"]
    assert files.info("encoder/weights.bin") == {
        "name": "encoder/weights.bin",
        "type": "file",
        "size": len(BIG),
        "mode": 0o100644,
    }
    assert files.exists("config.json")
    assert files.exists("encoder")
    assert not files.exists("enc")
    assert files.isdir("encoder")
    assert files.isfile("config.json")
    assert not files.isfile("encoder")
    assert files.cat("config.json") == FILES["config.json"]
    assert files.cat_file("config.json", -4) == FILES["config.json"][-4:]
    assert files.ukey("config.json") != files.ukey("empty")
    for read in (files.info, files.ls, files.open, files.cat_file):
        with pytest.raises(FileNotFoundError):
            read("nothing")
    with pytest.raises(IsADirectoryError):
        files.open("encoder")
    missing = files.cat_ranges(["nothing", "config.json"], 0, 3)
    assert isinstance(missing[0], FileNotFoundError)
    assert missing[1] == FILES["config.json"][:3]
    with pytest.raises(FileNotFoundError):
        files.cat_ranges(["nothing"], 0, 3, on_error="raise")


def test_a_path_alone_is_enough(tmp_path: Path) -> None:
    seal(tmp_path, f"{tmp_path}/atlas.sealed")
    address = f"sealed://{tmp_path}/atlas.sealed/config.json"
    with use_keyring(Keyring((access(tmp_path),))):
        with fsspec.open(address, "rt") as text:
            assert text.read() == '{"a": 1}'
        files, path = fsspec.url_to_fs(address)
        assert files.ls(f"{tmp_path}/atlas.sealed/encoder", detail=False) == [
            f"{tmp_path}/atlas.sealed/encoder/weights.bin"
        ]
        assert files.isfile(path)
        assert not files.exists(f"{tmp_path}/other.sealed/config.json")
    with pytest.raises(UsageError, match=r"doesn't lie in a sealed model"):
        files.exists(f"{tmp_path}/plain/config.json")


def test_a_chained_address_reaches_other_storages(tmp_path: Path) -> None:
    seal(tmp_path)
    chained = f"sealed://encoder/weights.bin::{PLACE}"
    with fsspec.open(chained, access=access(tmp_path)) as file:
        assert file.read() == BIG
    with use_keyring(Keyring((access(tmp_path),))):
        assert fsspec.open_files(f"sealed://*.json::{PLACE}")[0].path == "config.json"
        with fsspec.open(f"simplecache::{chained}", simplecache={"cache_storage": str(tmp_path / "cache")}) as file:
            assert file.read(10) == BIG[:10]


def test_options_reach_the_storage(tmp_path: Path) -> None:
    seal(tmp_path)
    options = {"marker": "one"}
    files = SealedFileSystem(
        "bucket/atlas.sealed", target_protocol="storage", target_options=options, access=access(tmp_path)
    )
    Storage.clear_instance_cache()
    assert files.cat_file("config.json") == FILES["config.json"]
    assert [fs.storage_options for fs in Storage._cache.values()] == [options]
    Storage.clear_instance_cache()
    with use_storage_options(options), open_sealed(PLACE, access=access(tmp_path)):
        assert [fs.storage_options for fs in Storage._cache.values()] == [options]


def test_a_file_system_travels_to_other_processes(tmp_path: Path) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    assert pickle.loads(pickle.dumps(files)).cat_file("config.json") == FILES["config.json"]  # noqa: S301 - our own


def test_it_is_not_shared_with_who_has_another_keyring(tmp_path: Path) -> None:
    seal(tmp_path)
    with use_keyring(Keyring((access(tmp_path),))):
        assert SealedFileSystem(PLACE).exists("config.json")
    with use_keyring(Keyring(())), pytest.raises(StrongroomError, match="no keyring"):
        SealedFileSystem(PLACE).exists("config.json")


def test_what_is_in_force_where_it_is_made_holds_in_other_threads(tmp_path: Path) -> None:
    seal(tmp_path)
    with use_keyring(Keyring((access(tmp_path),))):
        files = SealedFileSystem(PLACE)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(files.exists, ["config.json"] * 4)) == [True] * 4


def test_many_readers_at_once(tmp_path: Path) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))

    def read(number: int) -> bool:
        start = number * 97_003 % len(BIG)
        with files.open("encoder/weights.bin") as file:
            file.seek(start)
            return bool(file.read(200_000) == BIG[start : start + 200_000])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(64)))


def test_tampering_is_an_error_and_no_absence(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path, files={"weights.bin": BIG})
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    name = next(path for path in storage.store if "/objects/" in path)
    data = bytearray(storage.store[name].getvalue())
    data[2_500_000] ^= 1
    Storage.pipe_file(storage, name, bytes(data))
    assert files.cat_file("weights.bin", 0, 1000) == BIG[:1000]
    into = bytearray(b"x" * (1 << 20))
    with files.open("weights.bin", block_size=1) as file:
        file.seek(2_400_000)
        with pytest.raises(SealedObjectError):
            file.readinto(into)
    assert not any(into[:1000])
    storage.store[name].truncate(1 << 20)
    files.invalidate_cache()
    with pytest.raises(TruncatedError):
        files.exists("weights.bin")


def test_no_manifest_is_no_model(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    storage.rm(f"{BASE}/manifest.json")
    with pytest.raises(IncompleteSealError):
        open_sealed(PLACE, access=access(tmp_path))
    assert not SealedFileSystem(PLACE, access=access(tmp_path)).exists("config.json")


@pytest.mark.parametrize(
    "entry",
    [
        f"{BASE}/../other.sealed/x",
        f"{BASE}/objects/../../x",
        "/etc/passwd",
        "/bucket/atlas.sealed2/x",
        BASE,
        f"{BASE}//x",
        7,
    ],
)
def test_a_listing_with_what_cannot_lie_there_is_refused(tmp_path: Path, storage: Any, entry: object) -> None:
    seal(tmp_path)
    storage.lies["find"] = {entry: {"type": "file", "size": 1}}
    with pytest.raises(StorageError, match="can't lie in the folder"):
        open_sealed(PLACE, access=access(tmp_path))


def test_an_empty_object_that_stands_for_a_folder_is_none_of_the_files(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    markers = {f"{BASE}/": {"type": "file", "size": 0}, f"{BASE}/objects/": {"type": "file", "size": 0}}
    storage.lies["find"] = storage.find(BASE, detail=True) | markers
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.holds("config.json")


@pytest.mark.parametrize("listing", [None, 7, ["x"]])
def test_a_listing_that_is_none_is_refused(tmp_path: Path, storage: Any, listing: object) -> None:
    seal(tmp_path)
    storage.lies["find"] = listing
    with pytest.raises(StorageError):
        open_sealed(PLACE, access=access(tmp_path))


def test_what_the_manifest_does_not_name_is_refused(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    storage.pipe_file(f"{BASE}/objects/more", b"1")
    with pytest.raises(UnexpectedObjectError):
        open_sealed(PLACE, access=access(tmp_path))


@pytest.mark.parametrize("info", [None, {}, {"size": None}, {"size": -1}, {"size": True}, {"size": "9"}])
def test_a_size_that_is_none_is_refused(tmp_path: Path, storage: Any, info: object) -> None:
    seal(tmp_path)
    listed = storage.find(BASE, detail=True)
    storage.lies |= {"find": {name: {"type": "file"} for name in listed}, "info": info}
    with pytest.raises(StorageError, match="doesn't say how large"):
        open_sealed(PLACE, access=access(tmp_path))


def test_a_wrong_size_is_refused(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    storage.lies["find"] = {name: {**info, "size": 5000} for name, info in storage.find(BASE, detail=True).items()}
    with pytest.raises(SealedObjectError):
        open_sealed(PLACE, access=access(tmp_path))


@pytest.mark.parametrize("answer", [lambda data: data[:-1], lambda _: b""])
def test_a_short_range_is_refused(tmp_path: Path, storage: Any, answer: Any) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    assert files.exists("empty")
    storage.lies["read"] = answer
    with pytest.raises(TruncatedError):
        files.cat_file("encoder/weights.bin")


@pytest.mark.parametrize("answer", [lambda data: data + b"1", lambda _: None, lambda _: "text"])
def test_an_answer_that_is_no_range_is_refused(tmp_path: Path, storage: Any, answer: Any) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    assert files.exists("empty")
    storage.lies["read"] = answer
    with pytest.raises(StorageError):
        files.cat_file("encoder/weights.bin")


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, SECRET),
        OSError(SECRET),
        RuntimeError(SECRET),
        ValueError(f"https://storage/?X-Amz-Signature={SECRET}"),
        KeyError(SECRET),
        TimeoutError(SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("doing", ["find", "read"])
def test_errors_become_ours_without_their_text(tmp_path: Path, storage: Any, doing: str, error: Exception) -> None:
    seal(tmp_path)
    storage.fail[doing] = error
    with pytest.raises(StorageError) as caught:
        open_sealed(PLACE, access=access(tmp_path))
    assert SECRET not in caught.value.diagnosis()
    assert caught.value.__suppress_context__


def test_a_password_in_an_address_is_not_repeated(tmp_path: Path) -> None:
    place = Prefix(Storage(), f"ftp://dana:{SECRET}@host/atlas.sealed?sig={SECRET}").place
    assert place.endswith("://host/atlas.sealed")
    for address in (f"nowhere://dana:{SECRET}@host/x.sealed", f"storage://bucket/x.sealed::nowhere://{SECRET}"):
        with pytest.raises(UsageError) as caught:
            open_sealed(address, access=access(tmp_path))
        assert SECRET not in caught.value.diagnosis()
    with pytest.raises(UsageError, match="whole storage"):
        open_sealed("memory://", access=access(tmp_path))


def test_what_vanishes_while_it_is_read_is_an_error(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    files = SealedFileSystem(PLACE, access=access(tmp_path))
    assert files.cat_file("encoder/weights.bin", 0, 1)
    storage.rm(BASE, recursive=True)
    with pytest.raises(StorageError, match="vanished"):
        files.cat_file("encoder/weights.bin")


def test_a_store_says_what_is_missing_as_python_does(storage: Any) -> None:
    store = RemoteStore(Prefix(storage, BASE))
    assert store.names() == set()
    with pytest.raises(FileNotFoundError):
        store.document("manifest.json", most=10)
    with pytest.raises(FileNotFoundError), store.source("objects/x"):
        pass


def test_fsspec_knows_the_protocol_by_the_entry_point() -> None:
    from importlib.metadata import entry_points  # noqa: PLC0415

    (found,) = entry_points(group="fsspec.specs", name="sealed")
    assert found.load() is SealedFileSystem
