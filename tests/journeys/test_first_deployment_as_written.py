"""The commands of docs/operate/first-deployment.md, run as they are written, in one shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.swtpm import SoftwareTPM
from stage import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate" / "first-deployment.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
WORK = """
import os
folder = os.environ["STRONGROOM_MODEL"]
print("opened", open(os.path.join(folder, "weights.bin")).read())
"""


@pytest.mark.integration
def test_the_page_s_commands_lead_from_nothing_to_an_answer(tmp_path: Path) -> None:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "weights.bin").write_text("the weights of atlas")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "work.py").write_text(WORK)
    port = str(free_port())
    with SoftwareTPM(tmp_path / "tpm") as tpm:
        (tmp_path / "tpm-root.der").write_bytes(tpm.root_certificate)
        (tmp_path / "tpm-intermediate.der").write_bytes(tpm.intermediates[0])
        # The page's TPM is a device and its port the usual one; here both are a test's own.
        commands = "\n".join(BLOCK.findall(PAGE.read_text("utf-8")))
        commands = commands.replace("device:/dev/tpmrm0", f"unix:{tpm.socket_path}").replace("8443", port)
        script = f"set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{commands}"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", script], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "opened the weights of atlas" in done.stdout
    assert "ok: " in done.stdout
