"""The engine in its sandbox: a Llama answers the official client with the tokens of the unsealed model, no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.enclave.engine.builtin import BuiltIn
from support import tiny_llama
from support.confined import confined
from support.enclave_lab import require_sandbox
from support.gateways import ATLAS, gateway, text_of

pytestmark = pytest.mark.integration
# Confined, torch and transformers are compiled anew at each start, a quarter of a minute: nothing inside reads bytecode
# that somebody kept. `make test-heavy` starts them.
ENGINES = pytest.mark.parametrize(
    "engine", [BuiltIn.NUMPY, pytest.param(BuiltIn.TRANSFORMERS, marks=pytest.mark.heavy)]
)
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


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    require_sandbox()
    (tmp_path / "sealed").mkdir(mode=0o755)
    return tiny_llama.make(tmp_path / "sealed")


@ENGINES
def test_same_tokens_as_the_unsealed_model_through_the_official_client(
    tmp_path: Path, llama: Path, engine: BuiltIn
) -> None:
    expected = text_of(tiny_llama.greedy(llama, PROMPT, 40))
    with gateway(tmp_path, confined(tmp_path, [*engine.command], [])) as live:
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


@ENGINES
def test_stop_tokens_end_an_answer_and_do_not_leave(tmp_path: Path, llama: Path, engine: BuiltIn) -> None:
    free = tiny_llama.greedy(llama, PROMPT, 40)
    stop = free[10]
    said = free[: free.index(stop)]
    tiny_llama.make(llama, stop=stop)
    with gateway(tmp_path, confined(tmp_path, [*engine.command], [])) as live:
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
    ended: list[Any] = []
    with gateway(tmp_path, confined(tmp_path, ["python", str(script)], ended)) as live:
        assert live.error is None  # it said that it is ready: the channel was all that it had
    assert ended[1:] == [b"", b""]
