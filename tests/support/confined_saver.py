"""``python confined_saver.py FOLDER``: save, seal and load where the kernel lets only FOLDER and memory be written.

FOLDER is for the sealed models. /dev/shm has to be a file system in memory; it may be written to. Prints, as JSON, for
each model whether what was loaded is what was saved.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from strongroom.loaders import diffusers as sealed_diffusers
from strongroom.loaders import transformers as sealed_transformers
from strongroom.loaders.peft import load_adapter, save_adapter
from strongroom.loaders.torch import load_file, save_file
from strongroom.walls.adapters import landlock, syscalls
from support.pretrained import llama, word_tokenizer
from support.sealed_access import access, publishing

MARK = bytes(range(1, 251, 2)) * 8
"""In every model's weights."""
_MAKE_SYM = 1 << 12


def marked(model: Any) -> Any:
    with torch.no_grad():
        largest = max(model.parameters(), key=lambda one: one.numel())
        words = torch.frombuffer(bytearray(MARK), dtype=torch.float32)
        largest.reshape(-1)[: len(words)] = words
    return model


def confine(folder: Path) -> None:
    syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
    read, write = landlock.READ | landlock.EXECUTE, landlock.WRITE | _MAKE_SYM
    landlock.restrict((("/", read), (str(folder), write), ("/dev/shm", write), ("/dev/null", write)))  # noqa: S108


def can_write(folder: Path) -> bool:
    try:
        (folder / "written").write_bytes(b"x")
    except PermissionError:
        return False
    return True


def main() -> None:
    folder = Path(sys.argv[1])
    elsewhere = [Path(tempfile.mkdtemp()), Path.cwd(), Path.home()]
    # Before the doors close: they make folders for their caches.
    diffusers, peft, transformers = (importlib.import_module(name) for name in ("diffusers", "peft", "transformers"))
    sealed_as, opening = publishing(folder), access(folder)
    confine(folder)
    assert not any(map(can_write, elsewhere)), "the kernel lets other folders be written"

    model = marked(llama(vocab_size=512))
    both = [model, word_tokenizer()]
    place = folder / "llama.sealed"
    sealed_transformers.save_pretrained(both, place, publishing=sealed_as, max_shard_size="600KB")
    found = sealed_transformers.from_pretrained(transformers.AutoModelForCausalLM, place, access=opening)
    same = [all(torch.equal(one, found.state_dict()[name]) for name, one in model.state_dict().items())]
    same.append(sealed_transformers.tokenizer(place, access=opening)("w7").input_ids == [7])

    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = marked(peft.get_peft_model(model, config)).eval()
    save_adapter(adapted, folder / "lora.sealed", publishing=sealed_as)
    again = load_adapter(found, folder / "lora.sealed", access=opening)
    tokens = torch.tensor([[1, 2, 3]])
    same.append(torch.equal(again(tokens).logits, adapted(tokens).logits))

    unet = marked(
        diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D",) * 2,
            up_block_types=("UpBlock2D",) * 2,
        )
    )
    pipeline = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(num_train_timesteps=10))
    sealed_diffusers.save_pretrained(pipeline, folder / "unet.sealed", publishing=sealed_as)
    loaded = sealed_diffusers.from_pretrained(diffusers.DDPMPipeline, folder / "unet.sealed", access=opening)
    same.append(all(torch.equal(one, loaded.unet.state_dict()[name]) for name, one in unet.state_dict().items()))

    tensors = {"w": torch.frombuffer(bytearray(MARK), dtype=torch.uint8)}
    save_file(tensors, folder / "plain.sealed", publishing=sealed_as)
    same.append(torch.equal(load_file(folder / "plain.sealed", access=opening)["w"], tensors["w"]))
    sys.stdout.write(json.dumps(same))


if __name__ == "__main__":
    main()
