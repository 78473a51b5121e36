"""Save-and-seal and loading need no plaintext on a disk: they work where the kernel lets none be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.walls.adapters import landlock, syscalls

pytestmark = pytest.mark.integration

TESTS = Path(__file__).resolve().parents[1]
MARK = bytes(range(1, 251, 2))


def test_no_disk_is_written_to_but_with_sealed_objects(tmp_path: Path) -> None:
    for needed in ("torch", "transformers", "diffusers", "peft"):
        pytest.importorskip(needed)
    try:
        version = syscalls.landlock_version()
    except OSError:
        version = 0
    if version < landlock.LEAST_VERSION:
        pytest.skip("the kernel has no Landlock that says which folders may be written")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent / "src")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
        "HOME": str(tmp_path / "home"),
        "TMPDIR": str(tmp_path / "temporary"),
    }
    for name in ("home", "temporary", "work", "sealed"):
        (tmp_path / name).mkdir()
    ran = subprocess.run(
        [sys.executable, str(TESTS / "support/confined_saver.py"), str(tmp_path / "sealed")],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=tmp_path / "work",
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == [True] * 5
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in written if path.parent.name == "objects"]) > 10
    for path in written:
        assert MARK not in path.read_bytes(), path
