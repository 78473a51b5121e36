"""Folders in memory: sealed files under their own names, for this user only, and gone when the block ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.core.errors import NotFoundError, StrongroomError, UnavailableError
from strongroom.loaders import memory_files, open_sealed
from strongroom.loaders.memory_files import memory_folder, memory_scratch
from strongroom.loaders.saving import seal_to
from support.pretrained import flip, object_of
from support.sealed_access import access, publishing

FILES = {"config.json": b"{}", "unet/deep/weights": bytes(range(256)) * 700, "vae/config.json": b"[]", "empty": b""}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    with seal_to(tmp_path / "atlas.sealed", publishing(tmp_path / "recipient")) as output:
        for name, data in FILES.items():
            output.write(name, data)
    return tmp_path / "atlas.sealed"


def test_files_are_found_under_their_names_until_the_block_ends(place: Path) -> None:
    with open_sealed(place, access=access(place.parent / "recipient")) as model:
        with memory_folder(model, list(FILES)) as folder:
            found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
            assert found == FILES.keys()
            for name, data in FILES.items():
                assert (folder / name).read_bytes() == data
                assert (folder / name).is_symlink()
            assert folder.stat().st_mode & 0o777 == 0o700
            target = (folder / "config.json").readlink()
        assert not folder.exists()
    assert not target.exists()


def test_only_a_part_under_names_without_what_is_above(place: Path) -> None:
    with (
        open_sealed(place, access=access(place.parent / "recipient")) as model,
        memory_folder(model, ["unet/deep/weights"], under="/unet/") as folder,
    ):
        assert [path.name for path in folder.iterdir()] == ["deep"]
        assert (folder / "deep/weights").read_bytes() == FILES["unet/deep/weights"]


def test_children_find_them_and_nobody_can_change_them(place: Path) -> None:
    with (
        open_sealed(place, access=access(place.parent / "recipient")) as model,
        memory_folder(model, ["config.json"]) as folder,
    ):
        program = f"print(open({str(folder / 'config.json')!r}).read())"
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        assert ran.stdout == "{}\n"
        with pytest.raises(PermissionError), (folder / "config.json").open("r+b", buffering=0) as file:
            file.write(b"x")


def test_nothing_stays_after_a_failure(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(memory_files, "_in_memory", lambda: tmp_path / "here")
    flip(object_of(place, len(FILES["unet/deep/weights"])), 5000)
    opening = access(place.parent / "recipient")
    with open_sealed(place, access=opening) as model:
        with pytest.raises(StrongroomError), memory_folder(model, list(FILES)):
            pytest.fail("a file that was changed was handed out")
        with pytest.raises(NotFoundError), memory_folder(model, ["nothing"]):
            pytest.fail("a file that isn't there was handed out")
    assert list((tmp_path / "here").iterdir()) == []


def test_scratch_is_in_memory_private_and_removed() -> None:
    with memory_scratch() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        device = folder.stat().st_dev
        assert memory_files._mounted_kinds()[os.major(device), os.minor(device)] == "tmpfs"
        (folder / "deep").mkdir()
        (folder / "deep/file").write_text("x")
    assert not folder.exists()


def test_a_disk_is_never_taken_for_memory(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_files, "_mounted_kinds", dict)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(UnavailableError), memory_scratch():
        pytest.fail("something else than memory was taken")
    # Links hold no content, so they may lie anywhere.
    with (
        open_sealed(place, access=access(place.parent / "recipient")) as model,
        memory_folder(model, ["config.json"]) as folder,
    ):
        assert (folder / "config.json").read_bytes() == b"{}"


def test_the_users_own_folder_in_memory_does_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    kinds = {(os.major(device), os.minor(device)): "tmpfs"}
    monkeypatch.setattr(memory_files, "_mounted_kinds", lambda: kinds)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with memory_scratch() as folder:
        assert folder.parent == tmp_path
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(UnavailableError), memory_scratch():
        pytest.fail("something else than memory was taken")
