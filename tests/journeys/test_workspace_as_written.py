"""The commands of the page about workspaces, run as they are written, after those of the first deployment.

What the pages leave to the reader is filled in: the model, the scripts, the prompts, and a TPM that is started anew.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stage import free_port
from strongroom.attacks.lab.software_tpm import SoftwareTPM

pytestmark = [pytest.mark.integration, pytest.mark.heavy, pytest.mark.timeout(900)]
OPERATE = Path(__file__).resolve().parents[2] / "docs" / "operate"
PAGES = ("first-deployment.md", "workspace.md")
BOOT = "touch boot; while [ -e boot ]; do sleep 0.1; done"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
WORK = """
import os
print("opened", open(os.environ["STRONGROOM_MODEL"] + "/weights.bin").read())
"""
CELLS = (
    "import os, pathlib\nweights = pathlib.Path(os.environ['STRONGROOM_MODEL'], 'weights.bin').read_text()",
    "len(weights)",
    "asked = pathlib.Path(os.environ['STRONGROOM_INPUT'], 'ask.txt').read_text()",
    "pathlib.Path(os.environ['STRONGROOM_DROP'], 'answer.txt').write_text(asked + str(weights.count('a')))",
)


def boot_when_asked(folder: Path, tpm: SoftwareTPM, over: threading.Event) -> None:
    while not over.wait(0.1):
        if (folder / "boot").exists():
            tpm.power_cycle()
            (folder / "boot").unlink()


def prepare(folder: Path) -> None:
    (folder / "ckpt").mkdir()
    (folder / "ckpt" / "weights.bin").write_text("the weights of atlas")
    (folder / "inside").mkdir()
    (folder / "inside" / "work.py").write_text(WORK)
    (folder / "prompts").mkdir()
    (folder / "prompts" / "ask.txt").write_text("how many? ")
    cells = [{"cell_type": "code", "metadata": {}, "outputs": [], "source": cell} for cell in CELLS]
    (folder / "probe.ipynb").write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    )


def test_the_pages_commands_lead_to_a_reviewed_answer(tmp_path: Path) -> None:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    prepare(tmp_path)
    port = str(free_port())
    with SoftwareTPM(tmp_path / "tpm") as tpm:
        (tmp_path / "tpm-root.der").write_bytes(tpm.root_certificate)
        (tmp_path / "tpm-intermediate.der").write_bytes(tpm.intermediates[0])
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
    for folder in ("look", "found"):
        assert (tmp_path / folder / "answer.txt").read_text() == "how many? 2"
        assert (tmp_path / folder / "output.txt").read_text().splitlines()[0] == "20"
    # Neither file, as it lies on the disk, holds the answer.
    for name in ("probe.drop", "probe.accepted"):
        assert b"how many" not in (tmp_path / name).read_bytes()
    assert re.search(r"^people +1 of 50 hold a quota; you are one of them$", done.stdout, re.MULTILINE)
