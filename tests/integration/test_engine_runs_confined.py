"""The engine in its sandbox: a Llama answers the official client with the tokens of the unsealed model, no more."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from strongroom.enclave.adapters.installation import python_roots
from strongroom.enclave.adapters.process_runner import ProcessRunner
from strongroom.enclave.gateway.wiring import ENGINE
from strongroom.enclave.metered import OUTPUT
from strongroom.enclave.sandbox import SandboxProfile, process_profile
from support import tiny_llama
from support.enclave_lab import SUPPORT, require_sandbox
from support.gateways import ATLAS, Engine, gateway, text_of

pytestmark = pytest.mark.integration
AGENT = str(SUPPORT / "engine_agent.py")
PROMPT = [5, 9, 200, 31]

LOUD = """
import os, socket, sys
print("weights, in plain text", flush=True)
print("weights, in plain text", file=sys.stderr, flush=True)
os.write(1, b"more"), os.write(2, b"more")
others = []
for number in range(3, 256):
    try:
        os.fstat(number)
    except OSError:
        continue
    others.append(number)
channel = socket.socket(fileno=0)
# Ready only if nothing but the channel is open.
channel.sendall(bytes([0xFF, 0xF1, 0, 0, 0]) if not others else b"others")
while channel.recv(4096):
    pass
"""


def profile(folder: Path) -> SandboxProfile:
    for name in ("code", "sealed"):
        (folder / name).mkdir(mode=0o755, exist_ok=True)
    code, links = python_roots()
    return process_profile(
        code_roots=code,
        links=links,
        data_roots=(str(SUPPORT), str(folder / "code")),
        sealed_roots=(str(folder / "sealed"),),
        model_bytes=64 << 20,
        environment=(OUTPUT,),
    )


def confined(folder: Path, command: list[str], said: list[bytes]) -> Engine:
    """Return an engine that runs in a process enclave, with the metered channel and nothing else."""

    def run(channel: socket.socket) -> None:
        inherited = {"meter": channel.fileno()}
        with ProcessRunner().launch(profile(folder), module=AGENT, inherited=inherited) as running:
            files = [name for name in tiny_llama.FILES if (folder / "sealed" / name).exists()]
            running.send({"folder": str(folder / "sealed"), "files": [*files], "command": [*command]}, timeout=10)
            running.receive(timeout=60)
            running.receive(timeout=120)
            running.wait(timeout=10)
            said.extend((running.stdout.read(), running.stderr.read()))

    return run


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    require_sandbox()
    (tmp_path / "sealed").mkdir(mode=0o755)
    return tiny_llama.make(tmp_path / "sealed")


def test_same_tokens_as_the_unsealed_model_through_the_official_client(tmp_path: Path, llama: Path) -> None:
    expected = text_of(tiny_llama.greedy(llama, PROMPT, 40))
    with gateway(tmp_path, confined(tmp_path, ["python", "-m", ENGINE], [])) as live:
        assert live.error is None
        client = live.client()
        whole = client.completions.create(model=ATLAS, prompt=text_of(PROMPT), max_tokens=40, temperature=0)
        assert whole.choices[0].text == expected
        events = client.completions.create(
            model=ATLAS, prompt=text_of(PROMPT), max_tokens=40, temperature=0, stream=True
        )
        assert "".join(event.choices[0].text for event in events) == expected
        # Sampled: other tokens each time, since the seed is the governor's and new.
        sampled = {
            client.completions.create(model=ATLAS, prompt=text_of(PROMPT), max_tokens=40).choices[0].text
            for _ in range(3)
        }
        assert len(sampled) == 3


def test_stop_tokens_end_an_answer_and_do_not_leave(tmp_path: Path, llama: Path) -> None:
    free = tiny_llama.greedy(llama, PROMPT, 40)
    stop = free[10]
    said = free[: free.index(stop)]
    tiny_llama.make(llama, stop=stop)
    with gateway(tmp_path, confined(tmp_path, ["python", "-m", ENGINE], [])) as live:
        answer = live.complete(text_of(PROMPT), most=40, temperature=0).json()
        assert answer["choices"][0]["text"] == text_of(said)
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == len(said)
        # Longer than the model's context: the engine refuses, and nobody is told more than that.
        assert live.complete(text_of([5] * 500), most=40).status_code == 400


def test_what_the_command_prints_leads_nowhere(tmp_path: Path) -> None:
    require_sandbox()
    script = tmp_path / "code" / "loud.py"
    script.parent.mkdir(mode=0o755)
    script.write_text(LOUD)
    said: list[bytes] = []
    with gateway(tmp_path, confined(tmp_path, ["python", str(script)], said)) as live:
        assert live.error is None  # it said that it is ready: the channel was all that it had
    assert said == [b"", b""]
