"""The commands and programs of docs/operate/sealed-weights.md, run as they are written, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate" / "sealed-weights.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.integration
def test_the_page_leads_from_training_to_serving(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "STRONGROOM_KEYRING": str(tmp_path / "keyring.json"),
    }
    said = ""
    blocks = BLOCK.findall(PAGE.read_text("utf-8"))
    assert [kind for kind, _text in blocks] == ["sh", "python", "sh", "python", "python", "sh", "python"]
    for kind, text in blocks:
        program = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(program, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, text + done.stdout[-2000:] + done.stderr[-3000:]
        said += done.stdout
    assert "every byte is what that key signed" in said
    assert "files open, and every segment is authentic" in said
    assert "[segment-tampered]" in said
    left = [path for path in tmp_path.rglob("*") if path.suffix == ".safetensors"]
    assert left == []
