"""What the real vLLM does with a sealed model: ``vllm_run.py MODEL [ADAPTER]``, in a virtual environment of its own.

The last line that it prints is JSON: token ids, and the sampling parameters that the model brings.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import ExitStack
from typing import Any

PROMPT = "w5 w6 w7 w8"
NEW_TOKENS = 8


def main() -> None:
    # vLLM isn't where the tests are.
    vllm: Any = importlib.import_module("vllm")
    lora_request: Any = importlib.import_module("vllm.lora.request").LoRARequest
    from strongroom.loaders.vllm import NAME, lora_folder  # noqa: PLC0415 - after vLLM, as a plugin is

    adapter = sys.argv[2] if len(sys.argv) > 2 else None
    options: dict[str, Any] = {"enable_lora": True, "max_lora_rank": 8} if adapter else {}
    llm = vllm.LLM(
        model=sys.argv[1],
        load_format=NAME,
        config_format=NAME,
        tokenizer_mode=NAME,
        enforce_eager=True,
        max_model_len=64,
        dtype="float32",
        seed=0,
        **options,
    )
    greedy = vllm.SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
    (plain,) = llm.generate(PROMPT, greedy)
    seen = {
        "prompt": list(plain.prompt_token_ids),
        "tokens": list(plain.outputs[0].token_ids),
        "top_k": llm.get_default_sampling_params().top_k,
    }
    if adapter:
        with ExitStack() as folders:
            path = folders.enter_context(lora_folder(adapter))
            (adapted,) = llm.generate(PROMPT, greedy, lora_request=lora_request("sealed", 1, str(path)))
        seen["adapted"] = list(adapted.outputs[0].token_ids)
        try:
            llm.generate(PROMPT, greedy, lora_request=lora_request("path", 2, adapter))
        except Exception as error:  # noqa: BLE001 - whatever vLLM raises
            seen["by_path"] = type(error).__name__
    print(json.dumps(seen))  # noqa: T201 - a program's answer


if __name__ == "__main__":
    main()
