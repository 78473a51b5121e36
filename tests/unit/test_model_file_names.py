"""No name leads out of the weights' folder, and nothing half written stays in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import ConflictError, MalformedError
from strongroom.enclave.adapters.model_folder import ModelFolder
from strongroom.enclave.model_folder import parts_of


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a//b",
        "./a",
        "a/",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
        "a/" * 8 + "b",
        "\ud800",
    ],
)
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(MalformedError):
        parts_of(name)


@given(st.text(max_size=40))
def test_a_name_that_is_taken_stays_inside(name: str) -> None:
    try:
        parts = parts_of(name)
    except MalformedError:
        return
    path = os.path.normpath("/".join(("/model", *parts)))
    assert path.startswith("/model/")
    assert "/".join(parts) == name


def test_files_are_written_with_mode_and_size(tmp_path: Path) -> None:
    folder = ModelFolder(str(tmp_path), limit=100)
    assert folder.write("a/b/c.bin", [b"12", bytearray(b"3"), memoryview(b"45")]) == 5
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"12345"
    assert (tmp_path / "a/b/c.bin").stat().st_mode & 0o777 == 0o400


def test_the_limit_is_for_all_files_together(tmp_path: Path) -> None:
    folder = ModelFolder(str(tmp_path), limit=10)
    folder.write("one", [b"123456"])
    with pytest.raises(MalformedError, match="larger than its enclave's folder"):
        folder.write("two", [b"123", b"45"])
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_what_fails_half_way_is_removed(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("segment 2 was changed")

    folder = ModelFolder(str(tmp_path), limit=100)
    with pytest.raises(ValueError, match="segment 2"):
        folder.write("weights", broken())
    assert not list(tmp_path.iterdir())


def test_a_name_comes_once(tmp_path: Path) -> None:
    folder = ModelFolder(str(tmp_path), limit=100)
    folder.write("a", [b"1"])
    with pytest.raises(ConflictError):
        folder.write("a", [b"2"])
    with pytest.raises(MalformedError):
        folder.write("a/b", [b"2"])
    assert (tmp_path / "a").read_bytes() == b"1"


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "model" / "file").symlink_to(tmp_path / "outside" / "file")
    folder = ModelFolder(str(tmp_path / "model"), limit=100)
    with pytest.raises(MalformedError):
        folder.write("link/a", [b"1"])
    with pytest.raises(ConflictError):
        folder.write("file", [b"1"])
    assert not list((tmp_path / "outside").iterdir())
