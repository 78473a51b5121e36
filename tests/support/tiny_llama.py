"""A Llama with the real architecture and weights of chance, always the same ones. It says nothing of sense."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

SEED: Final = 20260101
FILES: Final = ("config.json", "generation_config.json", "model.safetensors")


def make(folder: Path, *, vocabulary: int = 512, stop: int | None = None) -> Path:
    """Write the model, as transformers does, and return its folder. `stop` is its stop token."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        # Weights of chance that are large enough for answers that change from token to token.
        initializer_range=0.4,
        eos_token_id=stop,
        bos_token_id=None,
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(SEED)
    transformers.LlamaForCausalLM(config).eval().save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def exchange_one_tensor(folder: Path) -> None:
    """Exchange one tensor: one projection's rows in reverse order."""
    torch, safetensors = pytest.importorskip("torch"), pytest.importorskip("safetensors.torch")
    path = folder / "model.safetensors"
    tensors = safetensors.load_file(path)
    name = "model.layers.1.mlp.down_proj.weight"
    tensors[name] = torch.flip(tensors[name], [0]).contiguous()
    safetensors.save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def greedy(folder: Path, prompt: Sequence[int], most: int) -> list[int]:
    """Return the tokens that the unsealed model gives, by transformers' own `generate`."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        said = model.generate(torch.tensor([list(prompt)]), max_new_tokens=most, do_sample=False)
    return [int(token) for token in said[0, len(prompt) :]]
