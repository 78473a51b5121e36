"""In its sandbox, an engine whose model answers otherwise than when it was sealed ends before it says READY."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from strongroom.cli.main import main
from strongroom.core.errors import ExitCode, MalformedError
from strongroom.enclave.engine.builtin import BuiltIn
from strongroom.enclave.engine.canaries import CANARY_FILE, MISMATCH_EXIT
from strongroom.enclave.engine.schedule import Generating, Model
from strongroom.enclave.engine.wiring import run
from strongroom.enclave.gateway.errors import EngineGoneError
from strongroom.enclave.metered import OPENING, Code, Frame, Order
from strongroom.sealing.canary import Canary, canaries_to_bytes, read_canaries
from support import tiny_llama
from support.confined import confined
from support.enclave_lab import require_sandbox
from support.gateways import ATLAS, Counting, gateway, text_of, words

pytestmark = pytest.mark.integration
PROMPT: Final = [5, 9, 200, 31]


class Garbage:
    """A machine that computes garbage without an error: whatever is asked, the same token."""

    def begin(self, _order: Order) -> Generating:
        return self

    def step(self) -> int:
        return 0


def run_engine(folder: Path, model: Model) -> tuple[int, bytes]:
    """Run what the engine's process runs, with nobody who asks; returns its exit code and all that it said."""
    ours, theirs = socket.socketpair()
    with ours:
        ours.shutdown(socket.SHUT_WR)
        with theirs:
            code = run(theirs, folder, lambda _folder: model)
        return code, b"".join(iter(lambda: ours.recv(64), b""))


def test_it_is_compared_before_anything_is_said(tmp_path: Path) -> None:
    ready = Frame(OPENING, Code.READY).to_bytes()
    assert run_engine(tmp_path, Counting()) == (0, ready)
    (tmp_path / CANARY_FILE).write_bytes(canaries_to_bytes([Canary.of_tokens("count", [7], [8, 9, 10])]))
    assert run_engine(tmp_path, Counting()) == (0, ready)
    # Not a byte of why, which canary, or how far off.
    assert run_engine(tmp_path, Garbage()) == (MISMATCH_EXIT, b"")
    (tmp_path / CANARY_FILE).write_bytes(b"{}")
    with pytest.raises(MalformedError):
        run_engine(tmp_path, Counting())


def record(folder: Path, questions: str, out: Path) -> tuple[Canary, ...]:
    """Record canaries as a publisher does; the tokenizer is the one of :func:`support.gateways.words`."""
    (out.parent / "questions.txt").write_text(questions)
    done = CliRunner().invoke(
        main,
        [
            *("enclave", "serve", "canaries", str(folder), "--questions", str(out.parent / "questions.txt")),
            *("--tokenizer", str(out.parent / "tokenizer"), "--out", str(out)),
        ],
    )
    assert done.exit_code == ExitCode.OK, done.output
    assert out.stat().st_mode & 0o777 == 0o600
    return read_canaries(out.read_bytes())


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """Return a Llama with canaries that were recorded by the command, as the agent would have them opened."""
    require_sandbox()
    folder = tmp_path / "sealed"
    folder.mkdir(mode=0o755)
    tiny_llama.make(folder)
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(words()._tokenizer.to_str())
    made = record(folder, f"{text_of(PROMPT)}\n\n{text_of([1, 2, 3])}\n", tmp_path / "canaries.json")
    assert made[0].input == tuple(PROMPT)
    assert list(made[0].output) == tiny_llama.greedy(folder, PROMPT, 16)
    (folder / CANARY_FILE).write_bytes(canaries_to_bytes(made))
    (folder / CANARY_FILE).chmod(0o644)
    return folder


ENGINES: Final = [BuiltIn.NUMPY, pytest.param(BuiltIn.TRANSFORMERS, marks=pytest.mark.heavy)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_that_answers_as_when_sealed_serves(tmp_path: Path, sealed: Path, engine: BuiltIn) -> None:
    expected = text_of(tiny_llama.greedy(sealed, PROMPT, 8))
    with gateway(tmp_path, confined(tmp_path, [*engine.command], [])) as live:
        assert live.error is None
        answer = live.complete(text_of(PROMPT), most=8, temperature=0).json()
        assert answer["choices"][0]["text"] == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_with_one_tensor_exchanged_serves_nothing(tmp_path: Path, sealed: Path, engine: BuiltIn) -> None:
    tiny_llama.exchange_one_tensor(sealed)
    ended: list[Any] = []
    with gateway(tmp_path, confined(tmp_path, [*engine.command], ended)) as live:
        # It never listened: nobody was answered.
        assert live.url == ""
    assert isinstance(live.error, EngineGoneError)
    # The launcher hears one word, from the agent; the engine printed nothing.
    assert ended == [{"refused": "canary-mismatch"}, b"", b""]
    # It is no breach: nothing left, and no freeze is left behind.
    assert not (live.state / f"{ATLAS}.frozen.json").exists()
