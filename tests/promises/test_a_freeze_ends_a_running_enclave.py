"""By its commands alone: a model that is served is frozen, and `enclave run` ends with exit code 3 and says why."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from attacks import Attacks
from preparing import IMAGE, MODEL, attest, found_deployment, seal
from stage import Outcome, Stage, free_port
from strongroom.attacks.lab.software_tpm import SoftwareTPM
from strongroom.core.errors import ExitCode
from support.slim import slim_installation

# That a freeze ends a running enclave, and that a command ends with this error's exit code, cheaper tests say for each
# commit; this one says it of the whole, in a minute of commands.
pytestmark = [pytest.mark.integration, pytest.mark.heavy]
SCRIPT = """
import pathlib, time
print("serving", flush=True)
time.sleep(600)
print("never", flush=True)
"""


def test_a_freeze_ends_enclave_run_with_exit_code_3_and_the_reason(tmp_path: Path) -> None:
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    for name in ("plain", "inside", "s"):
        (tmp_path / name).mkdir()
    (tmp_path / "plain" / "config.json").write_text('{"made": "for a test"}')
    (tmp_path / "plain" / "model.bin").write_bytes(bytes(100_000))
    script = tmp_path / "inside" / "serve.py"
    script.write_text(SCRIPT)
    stage = Stage(tmp_path / "s", port=free_port(), program=slim_installation(tmp_path / "slim"))
    ended: list[Outcome] = []
    try:
        with SoftwareTPM(tmp_path / "tpm") as tpm:
            found_deployment(stage)
            sealed = seal(stage, tmp_path / "plain", MODEL, "minilm-1.sealed")
            attest(stage, tpm, sealed, script)
            attacks = Attacks(stage, tpm, sealed=sealed, model=MODEL, image=IMAGE, script=script)
            request = attacks.request()
            attacks.approve(request, "sam", "rina")
            running = threading.Thread(target=lambda: ended.append(attacks.enclave(request)), daemon=True)
            running.start()
            while running.is_alive() and "release:data-key:released" not in logged(stage):
                running.join(0.2)
            running.join(3)
            assert not ended, ended
            stage.ok("freeze", MODEL, who="dana")
            running.join(60)
    finally:
        stage.stop()
    (outcome,) = ended
    assert outcome.code == ExitCode.DENIED, outcome.err
    assert "[model-frozen]" in outcome.err
    assert "never" not in outcome.out
    assert "Traceback" not in outcome.err
    assert '"event":"release:lease:ended"' in logged(stage)


def logged(stage: Stage) -> str:
    folder = stage.home / "log" / "public" / "tile" / "entries"
    return "".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())
