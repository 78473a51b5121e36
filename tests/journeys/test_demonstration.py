"""The demonstration itself, as `make demo` runs it: the genuine model, torch inside, every refusal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from preparing import genuine_model
from stage import Stage
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from support.plaintext import Plaintext, files_below

DEMO = Path(__file__).resolve().parents[2] / "demo" / "demo.py"
REFUSALS = 19


@pytest.mark.heavy
@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_the_demonstration_runs_twice_and_leaves_no_plaintext() -> None:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    for _ in range(2):
        done = subprocess.run([sys.executable, DEMO], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "equal to the unsealed model's bit for bit" in done.stdout
        assert done.stdout.count("    refused: ") == REFUSALS
        assert "0 not blocked, 0 neither blocked nor detected" in done.stdout
        assert "no level is held" in done.stdout
        assert "were looked at by software" in done.stdout
        assert (Stage.place(DEMO.parents[1]) / "assessment.html").is_file()
    weights = Plaintext((genuine_model() / "model.safetensors").read_bytes())
    written = list(files_below(Stage.place(DEMO.parents[1])))
    assert any(path.name == "broker.db" for path in written)
    assert [path for path in written if weights.found_in(path) is not None] == []
