"""The commands of two pages, run as they are written, one after the other in one shell, in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stage import free_port
from strongroom.attacks.lab.software_tpm import SoftwareTPM

OPERATE = Path(__file__).resolve().parents[2] / "docs" / "operate"
PAGES = ("first-deployment.md", "people-and-access.md")
# Between the pages the machine is started anew: a launch is measured into a register that only a reset empties.
BOOT = "touch boot; while [ -e boot ]; do sleep 0.1; done"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
WORK = """
import os
folder = os.environ["STRONGROOM_MODEL"]
print("opened", open(os.path.join(folder, "weights.bin")).read())
"""


def boot_when_asked(folder: Path, tpm: SoftwareTPM, over: threading.Event) -> None:
    """Turn the platform off and on when the script asks for it."""
    while not over.wait(0.1):
        if (folder / "boot").exists():
            tpm.power_cycle()
            (folder / "boot").unlink()


@pytest.mark.integration
@pytest.mark.heavy  # two minutes of commands; `.ci/run` runs it
def test_the_pages_commands_lead_from_nothing_to_an_answer_and_to_the_end_of_a_grant(tmp_path: Path) -> None:
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
        pages = ("\n".join(BLOCK.findall((OPERATE / page).read_text("utf-8"))) for page in PAGES)
        commands = f"\n{BOOT}\n".join(pages)
        commands = commands.replace("device:/dev/tpmrm0", f"unix:{tpm.socket_path}").replace("8443", port)
        script = f"set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{commands}"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        over = threading.Event()
        booting = threading.Thread(target=boot_when_asked, args=(tmp_path, tpm, over))
        booting.start()
        try:
            done = subprocess.run(
                ["bash", "-c", script], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
        finally:
            over.set()
            booting.join()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.count("opened the weights of atlas") == 2
    assert "ok: " in done.stdout
    # Dana's grant still holds; Ada's is over.
    assert re.search(r"^\w{12} +dana +atlas +output", done.stdout, re.MULTILINE)
    assert not re.search(r"^\w{12} +ada +atlas +output", done.stdout, re.MULTILINE)
