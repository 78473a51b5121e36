"""A file system of a few megabytes, to be filled up. Making one takes root."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, *, mebibytes: int) -> Iterator[Path]:
    """Mount a tmpfs at ``folder``; skips the test where that isn't allowed."""
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "tmpfs", str(folder)]
    if mount is None or subprocess.run([mount, *options], check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system can't be mounted here: that takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, *, leave: int) -> Path:
    """Fill the disk with a file, but for ``leave`` bytes; returns the file."""
    filler = folder / "filler"
    free = shutil.disk_usage(folder).free
    with filler.open("wb") as file:
        for _ in range(max(0, free - leave) // 65536):
            file.write(b"\0" * 65536)
    return filler
