"""The commands of docs/operate/intake.md, run as they are written, against the real keeper."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from simulators.deployment_in_memory import InMemoryDeployment, publisher
from strongroom.cli.main import main
from strongroom.client import wiring
from strongroom.core.clock import SystemClock
from strongroom.quarantine.terms import read_rules
from support.clocks import FixedClock
from support.delivered import checkpoint_file, delivery
from support.gated import lay_out, with_reviewers
from support.model_signing import Signing
from support.place import Place

pytestmark = pytest.mark.integration

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "operate" / "intake.md").read_text("utf-8")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Who is in the roster, and what other suppliers sign with, isn't what the page is about.
ELSEWHERE = ("people roster", "--anchor", "--trusted-root")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    deployment = InMemoryDeployment(FixedClock(SystemClock().now()))
    monkeypatch.setattr(wiring, "connect", lambda _wallet: deployment)
    monkeypatch.setattr(wiring, "SystemClock", lambda: deployment.clock)
    monkeypatch.chdir(tmp_path)
    deployment.adopt_first()
    with_reviewers(Place(tmp_path, deployment))
    key = ec.generate_private_key(ec.SECP256R1())
    lay_out(tmp_path / "delivered", delivery())
    lay_out(tmp_path / "checkpoint", {"pytorch_model.bin": checkpoint_file(), "config.json": b"{}"})
    (tmp_path / "model.sig").write_bytes(Signing(key=key, files=delivery()).bundle())
    (tmp_path / "supplier.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    (tmp_path / "bom.json").write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6"}))
    (tmp_path / "dana.pub").write_text(str(publisher("dana").public_key))
    yield tmp_path
    deployment.close()


def test_the_page_leads_from_a_folder_to_a_version(folder: Path) -> None:
    said = ""
    for block in BLOCK.findall(PAGE):
        for line in block.replace("\\\n", " ").strip().splitlines():
            if not any(one in line for one in ELSEWHERE):
                program, *arguments = shlex.split(line)
                assert program == "strongroom"
                done = CliRunner().invoke(main, arguments)
                assert done.exit_code == 0, line + done.output
                said += done.output
    assert "minilm-7  minilm  scanned" in said
    assert "accepted: delivery" in said
    assert (folder / "intake/minilm-7/sealed/manifest.json").is_file()
    assert not (folder / "intake/minilm-7/copy").exists()
    assert "refused by rule `withdrawn`" in said


def test_the_rules_on_the_page_are_rules() -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert read_rules(text.encode()).reviews == 2
