"""The commands of two pages, as they are written: the ceremony, and the day on which the key service is gone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stage import free_port
from support.key_labs import PIN, SOFTHSM

pytestmark = [pytest.mark.integration, pytest.mark.heavy]

OPERATE = Path(__file__).resolve().parents[2] / "docs" / "operate"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
MAKE_TOKEN = f"""
mkdir tokens
printf 'directories.tokendir = %s/tokens\\nlog.level = ERROR\\n' "$PWD" > softhsm2.conf
export SOFTHSM2_CONF=$PWD/softhsm2.conf
softhsm2-util --init-token --free --label strongroom --pin {PIN} --so-pin {PIN} > /dev/null
python - <<'END'
import pkcs11
with pkcs11.lib("{SOFTHSM}").get_token(token_label="strongroom").open(user_pin="{PIN}", rw=True) as session:
    session.generate_key(pkcs11.KeyType.AES, 256, store=True, label="root", id=b"root")
END
"""


def test_the_pages_commands_lead_through_the_loss_of_the_key_service(tmp_path: Path) -> None:
    if not Path(SOFTHSM).exists():
        pytest.skip("no SoftHSM2 here: apt-get install softhsm2")
    pages = ("\n".join(BLOCK.findall((OPERATE / page).read_text("utf-8"))) for page in ("ceremony.md", "recovery.md"))
    commands = "\n".join(pages).replace("8443", str(free_port())).replace("1234-5678", PIN)
    commands = commands.replace("/usr/lib/softhsm/libsofthsm2.so", SOFTHSM)
    script = f"set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{MAKE_TOKEN}\n{commands}\n"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    assert "it doesn't start" in done.stdout
    assert "1 of 2 shares are there: bo" in done.stdout
    assert "the keeper has its root key" in done.stdout
    assert "needs its passphrase" in done.stdout
    assert "keys:escrow:opened" in done.stdout
    assert PIN not in said
