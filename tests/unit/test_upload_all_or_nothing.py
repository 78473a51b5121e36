"""A model appears in a storage whole or not at all: what is interrupted leaves nothing, mixtures are refused."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.digest import Digest
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.loaders import open_sealed, seal_to
from strongroom.loaders.filesystem import NoTransactionError, SealedFileSystem
from strongroom.loaders.remote import Prefix
from strongroom.loaders.upload import RemoteTarget, _Upload
from strongroom.sealing.errors import (
    DestinationExistsError,
    NoSpaceError,
    StorageError,
    UnexpectedObjectError,
    UnfinishedFileError,
    UnsafeNameError,
)
from support.fsspec_storage import BASE, BIG, FILES, PLACE, SECRET, Storage, empty_storage, names, seal
from support.sealed import content
from support.sealed_access import access, publishing


@pytest.fixture(autouse=True)
def storage() -> Iterator[Any]:
    with empty_storage() as fs:
        yield fs


def test_the_manifest_comes_last(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    done = [name for doing, name in storage.calls if doing in {"write", "upload"}]
    assert done[-1] == "manifest.json"
    assert done[-3:-1] == ["recipients.json", "index.sealed"] or done[-3:-1] == ["index.sealed", "recipients.json"]
    assert all(name.startswith("objects/") for name in done[:-3])


@pytest.mark.parametrize("where", ["objects", "index.sealed", "recipients.json", "manifest.json", "upload"])
def test_an_interrupted_upload_leaves_nothing(tmp_path: Path, storage: Any, where: str) -> None:
    if where == "objects":
        with pytest.raises(UnsafeNameError):
            seal(tmp_path, files={"weights.bin": BIG, "../escape": b""})
    else:
        storage.fail[where] = OSError(errno.EIO, SECRET)
        with pytest.raises(StorageError):
            seal(tmp_path)
    assert storage.store == {}
    storage.fail.clear()
    seal(tmp_path)
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.read("config.json") == FILES["config.json"]


class Breaking:
    """A file in a storage that takes so many bytes and no more."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error, self.closed = room, error, False

    def write(self, data: memoryview) -> int:
        if self.room < len(data):
            raise self.error
        self.room -= len(data)
        return len(data)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("room", [0, 10_000, 3 << 20])
def test_a_storage_that_fails_meanwhile_holds_nobody_up(
    tmp_path: Path, storage: Any, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    file = Breaking(room, OSError(errno.ENOSPC, SECRET))
    monkeypatch.setattr(storage, "open", lambda *_args, **_options: file)
    with pytest.raises(NoSpaceError):
        seal(tmp_path)
    assert file.closed
    assert storage.store == {}


def test_what_waits_for_a_slow_storage_is_bounded(
    tmp_path: Path, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = []
    send = _Upload._send

    def slowly(self: _Upload, piece: memoryview) -> None:
        time.sleep(0.005)
        waiting.append(sum(map(len, self._early.values())))
        send(self, piece)

    monkeypatch.setattr(_Upload, "_send", slowly)
    with seal_to(PLACE, publishing(tmp_path)) as output, output.file("weights.bin") as sealer:
        for _ in range(32):
            sealer.write(BIG[: 1 << 20])
    assert len(storage.store) == 4
    assert max(waiting) <= 7 << 20


def test_an_error_before_a_piece_is_sent_holds_nobody_up(
    tmp_path: Path, storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strongroom.sealing.floe import Floe  # noqa: PLC0415 - to break it

    whole = Floe.encrypt_segment

    def broken(self: Floe, *args: Any, position: int, **facts: Any) -> None:
        if position == 1:
            raise MemoryError
        whole(self, *args, position=position, **facts)

    monkeypatch.setattr(Floe, "encrypt_segment", broken)
    with pytest.raises(MemoryError):
        seal(tmp_path)
    assert storage.store == {}


def test_pieces_go_out_in_order_from_many_threads(storage: Any) -> None:
    target = RemoteTarget(Prefix(storage, BASE), replace=False)
    pieces = [content(1000 + number, bytes([number])) for number in range(64)]
    offsets = [sum(len(piece) for piece in pieces[:number]) for number in range(64)]
    begin = threading.Barrier(8)

    def put(sink: Any, first: int) -> None:
        begin.wait()
        for number in reversed(range(first, 64, 8)):
            buffer = bytearray(pieces[number])
            sink.put(offsets[number], memoryview(buffer))
            buffer[:] = bytes(len(buffer))  # reused, as a sealer does

    with target.create("objects/x", size=None) as sink, ThreadPoolExecutor(8) as pool:
        for job in [pool.submit(put, sink, first) for first in range(8)]:
            job.result()
        sink.finish(sum(map(len, pieces)))
    assert storage.cat_file(f"{BASE}/objects/x") == b"".join(pieces)
    with target.create("objects/y", size=None) as sink:
        sink.put(10, memoryview(b"1"))
        with pytest.raises(StorageError, match="before all of it"):
            sink.finish(11)


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    before = dict(storage.store)
    with pytest.raises(DestinationExistsError):
        seal(tmp_path)
    with pytest.raises(DestinationExistsError), seal_to(PLACE, publishing(tmp_path)):
        pytest.fail("refused before anything is sealed")
    assert storage.store == before


def test_what_is_not_ours_is_not_touched(tmp_path: Path, storage: Any) -> None:
    storage.pipe_file(f"{BASE}/thesis.tex", b"years of work")
    with pytest.raises(DestinationExistsError, match="something else"):
        seal(tmp_path, replace=True)
    assert names(storage) == {"thesis.tex"}


def test_a_model_is_replaced_whole(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    with seal_to(PLACE, publishing(tmp_path, version=2, predecessor=Digest.of(b"1")), replace=True) as output:
        output.write("new.bin", BIG[::-1])
        # While the new one is uploaded, the old one is there, whole.
        with open_sealed(PLACE, access=access(tmp_path)) as model:
            assert model.read("encoder/weights.bin") == BIG
    with open_sealed(PLACE, access=access(tmp_path, least_version=2)) as model:
        assert [file.name for file in model.files()] == ["new.bin"]
        assert model.read("new.bin") == BIG[::-1]
    assert len(names(storage)) == 4
    assert all(path.startswith(f"{BASE}/") for path in storage.store)


@pytest.mark.parametrize("where", ["index.sealed", "recipients.json", "manifest.json", "objects"])
def test_a_failed_replacement_leaves_the_old_one(
    tmp_path: Path, storage: Any, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    seal(tmp_path)
    failed: list[str] = []
    whole = Storage.pipe_file

    def once(self: Any, path: str, value: bytes, **options: Any) -> None:
        if path.endswith(where) and not failed:
            failed.append(path)
            whole(self, path, value[:100], **options)
            raise OSError(errno.EIO, SECRET)
        whole(self, path, value, **options)

    def no_copy(_self: Any, *paths: str) -> None:
        failed.extend(paths)
        raise OSError(errno.EIO, SECRET)

    monkeypatch.setattr(Storage, "pipe_file", once)
    if where == "objects":
        monkeypatch.setattr(Storage, "cp_file", no_copy)
    before = {name: file.getvalue() for name, file in storage.store.items()}
    with pytest.raises(StorageError):
        seal(tmp_path, replace=True, files={"new.bin": BIG})
    assert failed
    assert {name: file.getvalue() for name, file in storage.store.items()} == before
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.read("encoder/weights.bin") == BIG


def test_every_state_between_two_versions_is_one_of_them_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal(tmp_path, files={"a": b"old", "b": b"old"})
    seen: list[set[bytes] | str] = []

    def look() -> None:
        try:
            with open_sealed(PLACE, access=access(tmp_path)) as model:
                seen.append({model.read(file.name) for file in model.files()})
        except StrongroomError as error:
            seen.append(error.code)

    def watched(whole: Any) -> Any:
        def watching(*args: Any, **options: Any) -> None:
            look()
            whole(*args, **options)
            look()

        return watching

    for method in ("pipe_file", "cp_file", "_rm"):
        monkeypatch.setattr(Storage, method, watched(getattr(Storage, method)))
    seal(tmp_path, replace=True, files={"a": b"new", "b": b"new"})
    look()
    assert seen[0] == {b"old"}
    assert seen[-1] == {b"new"}
    # Many states lie between the two: each is the old one, or the new one, or is refused.
    states = [state for state in seen if not isinstance(state, str)]
    assert all(state in ({b"old"}, {b"new"}) for state in states)
    assert len(seen) > len(states) > 2
    assert states == sorted(states, reverse=True, key=lambda state: b"old" in state)


def test_old_objects_that_cannot_be_deleted_are_said(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    storage.fail["delete"] = PermissionError(errno.EACCES, SECRET)
    with pytest.raises(StorageError, match="is published, but") as caught:
        seal(tmp_path, replace=True, files={"a": b"new"})
    assert SECRET not in caught.value.diagnosis()
    storage.fail.clear()
    with pytest.raises(UnexpectedObjectError):
        open_sealed(PLACE, access=access(tmp_path))
    seal(tmp_path, replace=True, files={"a": b"newer"})
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.read("a") == b"newer"


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_failed_ends_the_model(tmp_path: Path, storage: Any, *, replace: bool) -> None:
    if replace:
        seal(tmp_path)
    before = dict(storage.store)

    def save() -> None:
        with seal_to(PLACE, publishing(tmp_path), replace=replace) as output:
            with suppress(KeyError), output.file("half") as sealer:
                sealer.write(BIG)
                raise KeyError
            output.write("whole", b"1")

    with pytest.raises(UnfinishedFileError):
        save()
    assert storage.store.keys() == before.keys()


def test_what_an_interrupted_upload_left_is_cleared(tmp_path: Path, storage: Any) -> None:
    seal(tmp_path)
    storage.rm(f"{BASE}/manifest.json")
    seal(tmp_path, files={"a": b"1"})
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert [file.name for file in model.files()] == ["a"]


def overtaken(root: Path, *, replace: bool) -> None:
    """Seal while another writer begins after this one and is done before it."""
    with seal_to(PLACE, publishing(root), replace=replace) as slow:
        slow.write("a", b"slow")
        seal(root, files={"a": b"fast"})


def test_of_two_writers_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DestinationExistsError):
        overtaken(tmp_path, replace=False)
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.read("a") == b"fast"


def test_a_writer_whose_objects_were_removed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="another writer"):
        overtaken(tmp_path, replace=True)
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert model.read("a") == b"fast"


def write(files: SealedFileSystem, contents: dict[str, bytes]) -> None:
    with files.transaction:
        files.pipe(contents)


def test_a_transaction_publishes_a_model(tmp_path: Path, storage: Any) -> None:
    files = SealedFileSystem(PLACE, access=access(tmp_path), publishing=publishing(tmp_path))
    with files.transaction:
        files.pipe_file("config.json", FILES["config.json"])
        with files.open("encoder/weights.bin", "wb") as file, files.open("notes.txt", "w") as text:
            for start in range(0, len(BIG), 777_777):
                file.write(BIG[start : start + 777_777])
            text.write("two files at once")
            assert file.tell() == len(BIG)
        assert "manifest.json" not in names(storage)
        assert not files.exists("config.json")
    assert files.cat_file("encoder/weights.bin") == BIG
    assert files.cat_file("notes.txt") == b"two files at once"
    with open_sealed(PLACE, access=access(tmp_path)) as model:
        assert len(model.files()) == 3


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path, storage: Any) -> None:
    files = SealedFileSystem(PLACE, publishing=publishing(tmp_path))
    with pytest.raises(UnsafeNameError):
        write(files, {"config.json": b"{}", "../escape": b""})
    assert storage.store == {}
    files.start_transaction()
    files.pipe_file("config.json", b"{}")
    files.transaction.complete(commit=False)
    assert storage.store == {}
    files.start_transaction()
    files.pipe_file("config.json", b"{}")
    files.end_transaction()
    assert "manifest.json" in names(storage)


def write_and_go_on(files: SealedFileSystem) -> None:
    """Write half a file, and act as if nothing had been."""
    with files.transaction:
        files.pipe_file("config.json", b"{}")
        with suppress(KeyError), files.open("weights.bin", "wb") as file:
            file.write(BIG)
            raise KeyError


def test_half_a_file_is_never_published(tmp_path: Path, storage: Any) -> None:
    files = SealedFileSystem(PLACE, publishing=publishing(tmp_path))
    with pytest.raises(UnfinishedFileError):
        write_and_go_on(files)
    assert storage.store == {}
    with pytest.raises(UnfinishedFileError), files.transaction:
        files.open("weights.bin", "wb").write(BIG)
    assert storage.store == {}
    assert not files._intrans


def test_writing_outside_of_a_transaction_is_refused(tmp_path: Path, storage: Any) -> None:
    files = SealedFileSystem(PLACE, publishing=publishing(tmp_path))
    for options in ({}, {"autocommit": False}):
        with pytest.raises(NoTransactionError):
            files.open("config.json", "wb", **options)
    with pytest.raises(NoTransactionError):
        files.pipe_file("config.json", b"{}")
    with pytest.raises(UsageError):
        files.open("config.json", "ab")
    with pytest.raises(UsageError, match="for whom"):
        write(SealedFileSystem(PLACE), {"config.json": b"{}"})
    with pytest.raises(UsageError, match="one sealed model"):
        write(
            SealedFileSystem(publishing=publishing(tmp_path)),
            {f"{tmp_path}/a.sealed/x": b"1", f"{tmp_path}/b.sealed/x": b"1"},
        )
    assert storage.store == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipient.identity"]
