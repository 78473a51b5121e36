"""The engine that needs numpy alone says, greedily, what transformers says: for every variant that it takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import MalformedError
from strongroom.enclave.engine.adapters.numpy_llama import NumpyLlama
from strongroom.enclave.engine.schedule import Agreed
from strongroom.enclave.metered import Kind, Order
from support import tiny_llama

PROMPT = (5, 9, 200, 31)
MOST = 24
STRETCHED = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "tied": {"tie_word_embeddings": True},
    "one head of keys": {"num_key_value_heads": 1},
    "as many keys": {"num_key_value_heads": 4},
    "wider heads": {"head_dim": 32},
    "biased": {"attention_bias": True, "mlp_bias": True},
    "stretched": {"rope_parameters": STRETCHED},
    "another base": {"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
}


def made(folder: Path, *, kind: str = "float32", **changes: Any) -> Path:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    whole = {
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "tie_word_embeddings": False,
    }
    torch.manual_seed(tiny_llama.SEED)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(whole | changes))).eval()
    # A bias that is made is zero: then leaving it out would go unseen.
    with torch.no_grad():
        for name, one in model.named_parameters():
            if name.endswith("bias"):
                one.normal_()
    model.to(getattr(torch, kind)).save_pretrained(folder)
    return folder


def said(model: NumpyLlama, **changes: Any) -> list[int | None]:
    members: dict[str, Any] = {"kind": Kind.GENERATE, "answer": 0, "most": MOST, "prompt": PROMPT}
    answer = model.begin(Order(**(members | changes)))
    assert answer is not None
    assert not isinstance(answer, Agreed)
    return [answer.step() for _ in range(MOST)]


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_the_tokens_are_those_of_transformers(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = made(tmp_path, **changes)
    assert said(NumpyLlama(folder)) == tiny_llama.greedy(folder, PROMPT, MOST)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_halves_are_read_exactly(tmp_path: Path, kind: str) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = made(tmp_path, kind=kind)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        told = model.generate(torch.tensor([PROMPT]), max_new_tokens=MOST, do_sample=False)[0, len(PROMPT) :]
    assert said(NumpyLlama(folder)) == told.tolist()


def test_a_seed_gives_the_same_answer_and_another_another(tmp_path: Path) -> None:
    model = NumpyLlama(made(tmp_path))
    answers = [said(model, temperature=1500, seed=seed) for seed in (7, 7, 8)]
    assert answers[0] == answers[1] != answers[2]
    # So small a share leaves the likeliest token alone.
    assert said(model, temperature=1500, seed=7, top_p=1) == said(model)


def test_stop_tokens_end_an_answer(tmp_path: Path) -> None:
    folder = made(tmp_path)
    free = said(NumpyLlama(folder))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [free[3]]}))
    assert said(NumpyLlama(folder))[: free.index(free[3]) + 1] == [*free[: free.index(free[3])], None]


def test_orders_that_do_not_fit_are_turned_down(tmp_path: Path) -> None:
    model = NumpyLlama(made(tmp_path))
    assert model.begin(Order(kind=Kind.GENERATE, answer=0, most=1, prompt=(512,))) is None
    assert model.begin(Order(kind=Kind.GENERATE, answer=0, most=253, prompt=PROMPT)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "mixtral"},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
        {"num_hidden_layers": 9},
        {"vocab_size": 511},
        {"hidden_size": "many"},
    ],
)
def test_what_is_not_computed_here_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = made(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change, "head_dim": 16}))
    if "hidden_size" in change:
        (folder / "config.json").write_text("{")
    with pytest.raises(MalformedError):
        NumpyLlama(folder)
