"""A bundle that can't be written whole leaves nothing behind, under no name."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from strongroom.client.adapters.bundle_file import pack


def gather(folder: Path) -> Path:
    gathered = folder / "gathered"
    (gathered / "log").mkdir(parents=True)
    for name in ("genesis.json", "log/checkpoint"):
        (gathered / name).write_bytes(b"{}")
    return gathered


def test_what_was_gathered_by_a_clock_of_1970_is_packed(tmp_path: Path) -> None:
    gathered = gather(tmp_path)
    os.utime(gathered / "genesis.json", (0, 0))
    assert pack(gathered, {}, tmp_path / "bundle.zip") == 2


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = gather(tmp_path)
    target = tmp_path / "bundle.zip"
    target.write_bytes(b"an older one")

    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "writestr", full)
        with pytest.raises(OSError, match="no space"):
            pack(gathered, {"assessment.json": b"{}"}, target)
    assert {path.name for path in tmp_path.iterdir()} == {"gathered", "bundle.zip"}
    assert target.read_bytes() == b"an older one"
    assert pack(gathered, {"assessment.json": b"{}"}, target) == 3
    assert zipfile.is_zipfile(target)
