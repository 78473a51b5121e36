"""The commands of the page about virtual machines, run as they are written, within those of the first deployment.

What the page leaves to the reader is filled in: the image's entry goes into the first reference values, people ask and
approve, and the TPM is turned off before a machine gets it. The command runs for longer than a lease.
"""

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
from support.vm_lab import open_to_others, require_tools

pytestmark = [pytest.mark.integration, pytest.mark.heavy, pytest.mark.timeout(900)]
OPERATE = Path(__file__).resolve().parents[2] / "docs" / "operate"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
OFF = "touch off; while [ -e off ]; do sleep 0.1; done\n"
WORK = """
import os, time
print("opened", open(os.environ["STRONGROOM_MODEL"] + "/weights.bin").read(), flush=True)
time.sleep(75)
print("still leased", flush=True)
"""


def turn_off_when_asked(folder: Path, tpm: SoftwareTPM, over: threading.Event) -> None:
    while not over.wait(0.1):
        if (folder / "off").exists():
            tpm.stop()
            (folder / "off").unlink()


def script(kernel: Path) -> str:
    first = BLOCK.findall((OPERATE / "first-deployment.md").read_text("utf-8"))
    build, predict, run, _serve = BLOCK.findall((OPERATE / "vm-enclave.md").read_text("utf-8"))
    build = re.sub(r"/boot/vmlinuz-\S+", str(kernel), build).replace(" --package numpy", "")
    ask = next(at for at, block in enumerate(first) if "request create" in block)
    measuring = next(at for at, block in enumerate(first) if "measurements propose" in block)
    founding = [
        *first[:measuring],
        build,
        predict,
        first[measuring].replace("--image worker.json", "--image atlas-vm.json"),
    ]
    asking = first[ask].partition("strongroom enclave run")[0].replace("--image worker", "--image atlas-vm")
    return "\n".join([*founding, asking, OFF, run])


def test_the_pages_commands_open_a_model_in_a_machine_and_keep_its_lease(tmp_path: Path) -> None:
    kernel, _ = require_tools(boot=True)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "weights.bin").write_text("the weights of atlas")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "work.py").write_text(WORK)
    port = str(free_port())
    with SoftwareTPM(tmp_path / "tpm") as tpm:
        open_to_others(tmp_path / "tpm")
        (tmp_path / "tpm-root.der").write_bytes(tpm.root_certificate)
        (tmp_path / "tpm-intermediate.der").write_bytes(tpm.intermediates[0])
        commands = script(kernel).replace("device:/dev/tpmrm0", f"unix:{tpm.socket_path}").replace("8443", port)
        whole = f"set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{commands}"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        over = threading.Event()
        turning = threading.Thread(target=turn_off_when_asked, args=(tmp_path, tpm, over))
        turning.start()
        try:
            done = subprocess.run(
                ["bash", "-c", whole], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
        finally:
            over.set()
            turning.join()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "opened the weights of atlas\nstill leased\n" in done.stdout
    assert "released: 1 files" in done.stderr
