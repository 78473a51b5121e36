"""A file that is replaced is the old one or the new one, private, and never written through somebody's link."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from strongroom.cli.session import write_file
from strongroom.core.adapters.durable import write_durably


def test_the_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["record"]


def test_a_document_is_readable_as_the_umask_has_it(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "document", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "document").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("write", [write_durably, write_file])
def test_a_link_in_the_new_files_place_is_not_followed(write: Callable[[Path, bytes], None], tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "record", tmp_path / "elsewhere"
    path.write_bytes(b"old")
    elsewhere.write_bytes(b"somebody's")
    (tmp_path / ".record.new").symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        write(path, b"new")
    assert (path.read_bytes(), elsewhere.read_bytes()) == (b"old", b"somebody's")


def test_bytes_are_synced_before_they_take_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "record", list[tuple[bool, bytes]]()
    path.write_bytes(b"old")
    real = os.fsync

    def synced(handle: int) -> None:
        seen.append((os.path.isdir(handle), path.read_bytes()))  # noqa: PTH112 - a descriptor, not a path
        real(handle)

    monkeypatch.setattr(os, "fsync", synced)
    write_durably(path, b"new")
    assert seen == [(False, b"old"), (True, b"new")]


def test_a_sync_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record"
    path.write_bytes(b"old")

    def refuse(_handle: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="input/output"):
        write_durably(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["record"]
