"""The keeper's own files on a disk that is full: the old file stands, and the error says what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from strongroom.keeper.adapters.files import replace_own

pytestmark = pytest.mark.integration
WRITE = """
import resource, signal, sys
from pathlib import Path
from strongroom.core.errors import UnavailableError
from strongroom.keeper.adapters.files import replace_own
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    replace_own(Path(sys.argv[1]), b"n" * 5000)
except UnavailableError as error:
    print(error.reason, error.remedy)
"""


def test_the_old_file_stands(tmp_path: Path) -> None:
    path = tmp_path / "pins.json"
    replace_own(path, b"old")
    done = subprocess.run([sys.executable, "-c", WRITE, path], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("keeper-disk free space")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["pins.json"]
