"""The commands of the page about incidents, as they are written: from an alert to a closed incident, and a drill."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stage import free_port
from support.responders import need_fanotify

pytestmark = [pytest.mark.integration, pytest.mark.heavy, pytest.mark.timeout(600)]
OPERATE = Path(__file__).resolve().parents[2] / "docs" / "operate"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: str) -> list[str]:
    return BLOCK.findall((OPERATE / page).read_text("utf-8"))


def test_the_page_s_commands_lead_from_an_alert_to_a_closed_incident(tmp_path: Path) -> None:
    need_fanotify(tmp_path)
    before = "\n".join(blocks("first-deployment.md"))
    # Up to where its people are vetted; nothing is sealed or run here.
    before = before[: before.index("strongroom people ls")]
    commands = "\n".join((before, *blocks("incidents.md"))).replace("8443", str(free_port()))
    script = f"set -euo pipefail\ntrap 'cat warden.err >&2; kill $(jobs -p)' EXIT\n{commands}\n"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    assert "denied" in done.stdout
    assert re.search(r"verified +freeze-releases of model:atlas", done.stdout)
    assert re.search(r"failed +zero-egress of model:atlas", done.stdout)
    assert "[blank: whether the duty applies, and who judged so]" in done.stdout
    assert re.search(r"^closed; \d+ entries$", done.stdout, re.MULTILINE)
    assert "response:incident:recorded" in done.stdout
    assert re.search(r"missed +\['notify'\]", done.stdout)
    report = (tmp_path / "report.md").read_text()
    assert "Measure 9.3(2)" in report
    assert "model:atlas" in report
