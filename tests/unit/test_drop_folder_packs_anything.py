"""Whatever hostile code left in its drop folder, it is packed: without following, waiting, or refusing anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strongroom.egress.archive import MAX_FILES, MAX_HEADER, Archive
from strongroom.enclave.drop.adapters import folder as packing
from strongroom.enclave.drop.adapters.folder import pack_folder

LIMIT = MAX_HEADER + 100


def packed(folder: Path, limit: int = LIMIT) -> tuple[dict[str, bytes], dict[str, int]]:
    archive = pack_folder(str(folder), limit=limit, facts={"code": 0})
    assert Archive.parse(archive.to_bytes()) == archive
    return {one.name: one.data for one in archive.files}, {k: v for k, v in archive.facts.items() if k != "code"}


def test_files_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "deep").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "empty folder").mkdir()
    assert packed(tmp_path) == ({"a": b"", "b/c/deep": b"1"}, {})


def test_links_and_pipes_are_left_out_and_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "weights").write_bytes(b"WEIGHTS")
    drop = tmp_path / "drop"
    drop.mkdir()
    (drop / "file").symlink_to(secret / "weights")
    (drop / "folder").symlink_to(secret)
    (drop / "nowhere").symlink_to(drop / "nowhere")
    os.mkfifo(drop / "pipe")
    assert packed(drop) == ({}, {"left-out-link": 3, "left-out-special": 1})


def test_a_drop_folder_that_is_gone_or_a_link_is_an_empty_drop(tmp_path: Path) -> None:
    assert packed(tmp_path / "gone") == ({}, {"left-out-folder": 1})
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert packed(tmp_path / "link") == ({}, {"left-out-folder": 1})


def test_names_that_no_archive_takes_are_counted(tmp_path: Path) -> None:
    for name in (b"line\nbreak", b"back\\slash", b"\xff\xfe", b"escape\x1b[2J"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(b"x")
    deep = tmp_path
    for _ in range(9):
        deep = deep / "d"
        deep.mkdir()
    (deep / "file").write_bytes(b"x")
    assert packed(tmp_path) == ({}, {"left-out-name": 5})


def test_what_is_too_large_is_left_out_and_the_rest_stays(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "a").write_bytes(b"x" * 60)
    (tmp_path / "b").write_bytes(b"x" * 60)
    (tmp_path / "c").write_bytes(b"x" * 40)
    files, told = packed(tmp_path)
    assert files.keys() == {"a", "c"}
    assert told == {"left-out-too-large": 2}


def test_no_number_and_no_length_of_names_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_FILES", 5)
    for n in range(9):
        (tmp_path / f"{n}").write_bytes(b"")
    _files, told = packed(tmp_path)
    assert told == {"left-out-too-many": 4}
    assert MAX_FILES >= 5
    monkeypatch.setattr(packing, "MAX_HEADER", 1600)
    for n in range(9):
        (tmp_path / f"{n}").rename(tmp_path / (f"{n}" + '"' * 200))
    files, told = packed(tmp_path, 4000)
    assert len(files) == 3
    assert told == {"left-out-too-large": 6}


def test_a_file_that_grows_while_it_is_read_is_taken_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"x" * 50)
    read = packing._read

    def grow(descriptor: int, size: int) -> bytes:
        with file.open("ab") as more:
            more.write(b"y" * 1000)
        return read(descriptor, size)

    monkeypatch.setattr(packing, "_read", grow)
    assert packed(tmp_path) == ({"growing": b"x" * 50}, {})


def test_what_cant_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").write_bytes(b"x")
    (tmp_path / "open").write_bytes(b"y")

    def refuse(descriptor: int, size: int) -> bytes:
        data = os.read(descriptor, size)
        if data == b"x":
            raise PermissionError
        return data

    monkeypatch.setattr(packing, "_read", refuse)
    assert packed(tmp_path) == ({"open": b"y"}, {"left-out-unreadable": 1})
