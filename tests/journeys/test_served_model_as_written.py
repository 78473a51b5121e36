"""The commands of the page about serving, run as they are written, within those of the first deployment.

A Llama is sealed, measured, asked for, approved and served; the official client asks it; one person freezes it, and
the command ends; frozen it isn't served; its quorum resumes it, and it is served again. What the page leaves to the
reader is filled in: whose wallet, and where what is printed goes.
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
from support import tiny_llama
from support.enclave_lab import require_sandbox
from support.gateways import text_of, word_files

pytestmark = [pytest.mark.integration, pytest.mark.heavy, pytest.mark.timeout(600)]
OPERATE = Path(__file__).resolve().parents[2] / "docs" / "operate"
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
STEP = re.compile(r"^ {7}(strongroom (?:.*\\\n)*.*)$", re.MULTILINE)
PROMPT = [5, 9, 200, 31]
# A launch is measured into a register that only a reset empties.
BOOT = "touch boot; while [ -e boot ]; do sleep 0.1; done"
ASK = """
import json, sys
from openai import OpenAI
client = OpenAI(base_url=sys.argv[1], api_key=open("key.txt").read().strip(), max_retries=0, timeout=60)
answer = client.completions.create(model="atlas", prompt=sys.argv[2], max_tokens=40, temperature=0)
streamed = client.chat.completions.create(
    model="atlas", messages=[{"role": "user", "content": "w7 w8"}], max_tokens=5, stream=True
)
print("asked", json.dumps([answer.choices[0].text, len([event for event in streamed if event.choices])]))
"""
# Each start: in the background, until it listens. What it ends with is told.
SERVE = """
{command} --port {port} > serve.out 2> serve.err &
serve=$!
until grep -q '^serving' serve.out; do kill -0 $serve; sleep 0.2; done
python ask.py http://127.0.0.1:{port}/v1 '{prompt}'
"""
END = """
code=0; wait $serve || code=$?
echo "ended with $code: $(tail -n 3 serve.err | tr '\\n' ' ')"
"""
RESUME = """
strongroom resume atlas --as wallets/dana --json > resume.json || test $? = 4  # others must agree
resume=$(python3 -c 'import json; print(json.load(open("resume.json"))["request"])')
strongroom approve $resume --as wallets/sam --yes
strongroom approve $resume --as wallets/rina --yes
strongroom resume --request $resume --as wallets/dana
"""


def boot_when_asked(folder: Path, tpm: SoftwareTPM, over: threading.Event) -> None:
    """Turn the platform off and on when the script asks for it."""
    while not over.wait(0.1):
        if (folder / "boot").exists():
            tpm.power_cycle()
            (folder / "boot").unlink()


def script(gateway_port: str) -> str:
    first = BLOCK.findall((OPERATE / "first-deployment.md").read_text("utf-8"))
    ask = next(at for at, block in enumerate(first) if "request create" in block)
    measuring = next(at for at, block in enumerate(first) if "measurements propose" in block)
    steps = STEP.findall((OPERATE / "gateway.md").read_text("utf-8"))
    policy, bound, propose, measure, key, run = steps[:6]
    enrolling = first[measuring].partition("worker.json\n")[2].replace("worker.json", "engine.json")
    asking = first[ask].partition("strongroom enclave run")[0].replace("--image worker", "--image engine")
    again = run.replace("sha256:...", "$request") + f" --port {gateway_port}"
    serve = SERVE.format(
        command=run.replace("sha256:...", "$request") + " --context 512", port=gateway_port, prompt=text_of(PROMPT)
    )
    return "\n".join(
        [
            *first[:measuring],
            "export STRONGROOM_WALLET=wallets/root-1",
            policy.replace("128256", "512"),
            bound,
            f"{propose} --first",
            "strongroom sign egress egress.json --yes",
            "strongroom sign egress egress.json --as wallets/root-2 --yes",
            "strongroom adopt egress egress.json",
            "export STRONGROOM_WALLET=wallets/host",
            f"{measure} > engine.json",
            enrolling,
            f"{key} > entry.json 2> key.txt",
            """printf '{"v": 1, "keys": [%s]}' "$(cat entry.json)" > keys.json""",
            asking,
            serve,
            "strongroom freeze atlas --as wallets/dana",
            END,
            BOOT,
            f"if {again} > serve.out 2> serve.err; then exit 9; fi",
            'echo "refused: $(tail -n 2 serve.err | tr "\\n" " ")"',
            RESUME,
            # The lease told it to: what ended with the freeze isn't resumed with the model.
            asking,
            BOOT,
            serve,
            "kill -TERM $serve",
            END,
            "strongroom egress show atlas --as wallets/dana",
        ]
    )


def test_the_pages_commands_serve_a_model_until_it_is_frozen_and_again_once_it_is_resumed(tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the official `openai` client isn't installed")
    require_sandbox()
    if not SoftwareTPM.available():
        pytest.skip("no software TPM: install swtpm and swtpm-tools")
    tiny_llama.make(tmp_path / "ckpt")
    expected = text_of(tiny_llama.greedy(tmp_path / "ckpt", PROMPT, 40))
    (tmp_path / "tokenizer").mkdir()
    for name, data in word_files().items():
        (tmp_path / "tokenizer" / name).write_bytes(data)
    (tmp_path / "ask.py").write_text(ASK)
    port, gateway_port = str(free_port()), str(free_port())
    with SoftwareTPM(tmp_path / "tpm") as tpm:
        (tmp_path / "tpm-root.der").write_bytes(tpm.root_certificate)
        (tmp_path / "tpm-intermediate.der").write_bytes(tpm.intermediates[0])
        # The page's TPM is a device, its state a folder of the system's, and its port the usual one.
        commands = script(gateway_port).replace("device:/dev/tpmrm0", f"unix:{tpm.socket_path}").replace("8443", port)
        commands = commands.replace("/var/lib/strongroom/governor", "governor")
        whole = f"set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n{commands}"
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        over = threading.Event()
        booting = threading.Thread(target=boot_when_asked, args=(tmp_path, tpm, over))
        booting.start()
        try:
            done = subprocess.run(
                ["bash", "-c", whole], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
        finally:
            over.set()
            booting.join()
    said = done.stdout[-3000:] + done.stderr[-3000:]
    assert done.returncode == 0, said
    asked = [json.loads(line) for line in re.findall(r"^asked (.*)$", done.stdout, re.MULTILINE)]
    assert [text for text, _ in asked] == [expected] * 2
    assert all(events >= 1 for _, events in asked)
    frozen, stopped = re.findall(r"^ended with (.*)$", done.stdout, re.MULTILINE)
    assert frozen.startswith("3: ")
    assert "[model-frozen]" in frozen
    assert re.search(r"^refused: .*model-frozen", done.stdout, re.MULTILINE), said
    assert stopped.startswith("0: ")
    # Forty tokens of nine bits twice, at the least: the deployment's log counted what left.
    assert int(re.findall(r"^life +([0-9,]+) of", done.stdout, re.MULTILINE)[0].replace(",", "")) >= 2 * 40 * 9
