"""vLLM loads sealed models through the plugin: weights, configuration and tokenizer, with keys by reference only.

The real vLLM runs where ``STRONGROOM_VLLM_PYTHON`` names a Python that has it (and cryptography and rfc8785); those
tests are skipped otherwise. The others use a stand-in of the interface that it documents for plugins.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save as safetensors_bytes
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from simulators.vllm_interface import Interface, LoadConfig, Model, ModelConfig
from strongroom.core.errors import UsageError
from strongroom.core.ids import ModelId
from strongroom.loaders import Keyring, seal_to, use_keyring
from strongroom.loaders import vllm as plugin
from strongroom.loaders.keyring import KEYRING_VARIABLE
from strongroom.loaders.pretrained import WeightsMismatchError
from strongroom.sealing.errors import SegmentTamperedError
from strongroom.sealing.header import HEADER_LENGTH
from support import vllm_run
from support.sealed_access import access, publishing

pytestmark = pytest.mark.integration

PYTHON = os.environ.get("STRONGROOM_VLLM_PYTHON")
needs_vllm = pytest.mark.skipif(PYTHON is None, reason="STRONGROOM_VLLM_PYTHON doesn't name a Python that has vLLM")


@dataclass
class Sealed:
    """A small model: sealed, in a keyring, and as it was."""

    root: Path
    place: Path
    keyring: Path
    model: LlamaForCausalLM
    state: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    root = tmp_path_factory.mktemp("vllm")
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=256,
            max_position_embeddings=256,
            dtype="float32",
            bos_token_id=0,
            eos_token_id=1,
        )
    )
    plain = root / "plain"
    model.save_pretrained(plain)
    words = Tokenizer(
        models.WordLevel({f"w{number}": number for number in range(2, 128)} | {"<s>": 0, "</s>": 1}, "w2")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="w2").save_pretrained(
        plain
    )
    (plain / "generation_config.json").write_text(json.dumps({"top_k": 17, "eos_token_id": [1, 2]}))
    place = root / "tiny.sealed"
    with seal_to(place, publishing(root)) as output:
        for path in sorted(plain.iterdir()):
            output.write(path.name, path.read_bytes())
    keyring = root / "keyring.json"
    Keyring((access(root), access(root, model=ModelId("adapter")))).save(keyring)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    return Sealed(root, place, keyring, model, state)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, sealed: Sealed) -> Interface:
    """The stand-in, with the plugin registered and a keyring named as vLLM's processes find it."""
    interface = Interface()
    for name, module in interface.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(plugin, "_registered", False)
    monkeypatch.setenv(KEYRING_VARIABLE, str(sealed.keyring))
    plugin.register()
    plugin.register()
    return interface


def load(vllm: Interface, sealed: Sealed, model: Model, *, quantization: str | None = None, **extra: Any) -> None:
    loader = vllm.get_model_loader(LoadConfig(plugin.NAME, extra))
    chosen = ModelConfig(str(sealed.place), quantization)
    loader.download_model(chosen)
    loader.load_weights(model, chosen)


def test_weights_arrive(vllm: Interface, sealed: Sealed) -> None:
    model = Model(sealed.state)
    load(vllm, sealed, model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, sealed.state[name])


def test_configuration_and_generation_defaults_arrive(vllm: Interface, sealed: Sealed) -> None:
    found, config = vllm.get_config_parser(plugin.NAME).parse(str(sealed.place), trust_remote_code=False)
    assert found["model_type"] == config.model_type == "llama"
    assert config.hidden_size == 128
    # vLLM looks for the file at the model's path, where it isn't; then it takes what the configuration has.
    assert (config.top_k, config.eos_token_id) == (17, [1, 2])
    assert config.name_or_path == str(sealed.place)


def test_the_tokenizer_arrives(vllm: Interface, sealed: Sealed) -> None:
    tokenizer = vllm.tokenizers.load_tokenizer_cls(plugin.NAME).from_pretrained(
        str(sealed.place), trust_remote_code=False, revision=None, download_dir=None, truncation_side="left"
    )
    assert tokenizer("w5 w6").input_ids == [5, 6]
    assert tokenizer.truncation_side == "left"
    assert tokenizer.name_or_path == str(sealed.place)
    assert vllm.renderers.renderers[plugin.NAME] == vllm.renderers.renderers["hf"]


def test_no_file_is_left(vllm: Interface, sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def mkdtemp(*args: Any, **options: Any) -> str:
        made.append(Path(original(*args, **options)))
        return str(made[-1])

    original = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    vllm.get_config_parser(plugin.NAME).parse(str(sealed.place), trust_remote_code=False)
    load(vllm, sealed, Model(sealed.state))
    assert made
    assert not any(folder.exists() for folder in made)


def test_a_parameter_that_the_model_lacks_is_refused(vllm: Interface, sealed: Sealed) -> None:
    more = Model(sealed.state | {"model.layers.2.mlp.weight": torch.zeros(2, 2)})
    with pytest.raises(WeightsMismatchError, match=r"layers\.2\.mlp"):
        load(vllm, sealed, more)
    load(vllm, sealed, more, enable_weights_track=False)
    # As vLLM's own: a quantized model has parameters that no checkpoint holds.
    load(vllm, sealed, more, quantization="fp8")
    with pytest.raises(WeightsMismatchError):
        load(vllm, sealed, more, quantization="fp8", enable_weights_track=True)


def test_scales_of_the_cache_may_be_missing(vllm: Interface, sealed: Sealed) -> None:
    load(vllm, sealed, Model(sealed.state | {"model.layers.0.self_attn.attn.k_scale": torch.zeros(1)}))


def test_a_module_that_is_quantized_while_loading_may_be_missing(vllm: Interface, sealed: Sealed) -> None:
    model = Model(sealed.state | {"model.other.weight": torch.zeros(1)})
    model.model.other.quant_method = SimpleNamespace(uses_meta_device=True)
    load(vllm, sealed, model)


@pytest.mark.parametrize("attribute", ["secondary_weights", "allow_patterns_overrides"])
def test_weights_from_elsewhere_are_refused(vllm: Interface, sealed: Sealed, attribute: str) -> None:
    model = Model(sealed.state)
    setattr(model, attribute, ["sparse_linear.pt"])
    with pytest.raises(UsageError):
        load(vllm, sealed, model)
    assert not any(parameter.any() for parameter in model.parameters())


def test_code_in_a_model_is_not_run(vllm: Interface, sealed: Sealed) -> None:
    with pytest.raises(UsageError):
        vllm.get_config_parser(plugin.NAME).parse(str(sealed.place), trust_remote_code=True)
    with pytest.raises(UsageError):
        plugin.SealedTokenizer.from_pretrained(str(sealed.place), trust_remote_code=True)


@pytest.mark.parametrize("extra", [{"key": "c2VjcmV0"}, {"keyring": {"key": "c2VjcmV0"}}, ["c2VjcmV0"], None])
def test_a_key_in_the_configuration_is_refused_and_not_repeated(vllm: Interface, extra: Any) -> None:
    with pytest.raises(UsageError) as refused:
        vllm.get_model_loader(LoadConfig(plugin.NAME, extra))
    assert "c2VjcmV0" not in refused.value.diagnosis()


def test_the_configuration_may_name_another_keyring(
    vllm: Interface, sealed: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEYRING_VARIABLE, str(sealed.root / "none.json"))
    with pytest.raises(UsageError):
        load(vllm, sealed, Model(sealed.state))
    load(vllm, sealed, Model(sealed.state), keyring=str(sealed.keyring))


def test_plaintext_is_not_loaded(vllm: Interface, sealed: Sealed) -> None:
    loader = vllm.get_model_loader(LoadConfig(plugin.NAME))
    with pytest.raises(UsageError):
        loader.load_weights(Model(sealed.state), ModelConfig(str(sealed.root / "plain")))
    with pytest.raises(UsageError):
        vllm.get_config_parser(plugin.NAME).parse(str(sealed.root / "plain"), trust_remote_code=False)


@pytest.fixture
def tampered(sealed: Sealed) -> Iterator[Sealed]:
    largest = max((sealed.place / "objects").iterdir(), key=lambda path: path.stat().st_size)
    good = largest.read_bytes()
    largest.write_bytes(
        good[: HEADER_LENGTH + 99] + bytes([good[HEADER_LENGTH + 99] ^ 1]) + good[HEADER_LENGTH + 100 :]
    )
    yield sealed
    largest.write_bytes(good)


def test_a_tampered_shard_is_refused(vllm: Interface, tampered: Sealed) -> None:
    with pytest.raises(SegmentTamperedError):
        load(vllm, tampered, Model(tampered.state))


def test_an_adapter_is_a_folder_in_memory(sealed: Sealed) -> None:
    adapter = sealed_adapter(sealed)
    with use_keyring(Keyring.load(sealed.keyring)), plugin.lora_folder(adapter) as path:
        assert sorted(file.name for file in path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
        assert all(file.is_symlink() for file in path.iterdir())
    assert not path.exists()


def test_another_vllm_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    interface = Interface()
    modules = interface.modules()
    del vars(modules["vllm.transformers_utils.config"])["register_config_parser"]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(plugin, "_registered", False)
    with pytest.warns(UserWarning, match="can't load sealed models"):
        plugin.register()
    assert interface.loaders == {}


def test_vllm_finds_the_plugin() -> None:
    found = {point.name: point.value for point in importlib.metadata.entry_points(group="vllm.general_plugins")}
    if "strongroom" not in found:
        pytest.skip("the package was installed before it had this entry point")
    assert found["strongroom"] == f"{plugin.__name__}:register"


def sealed_adapter(sealed: Sealed) -> Path:
    """Seal a LoRA adapter, made by hand: rank 4, on one projection."""
    place = sealed.root / "adapter.sealed"
    if place.exists():
        return place
    random = torch.Generator().manual_seed(1)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {
        f"{name}.lora_A.weight": torch.randn(4, 128, generator=random),
        f"{name}.lora_B.weight": torch.randn(128, 4, generator=random),
    }
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    with seal_to(place, publishing(sealed.root, model=ModelId("adapter"))) as output:
        output.write("adapter_config.json", json.dumps(config).encode())
        output.write("adapter_model.safetensors", safetensors_bytes(tensors))
    return place


def run_vllm(sealed: Sealed, folder: Path, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run the real vLLM. Its environment has no strongroom, so the entry point is written where it looks for some."""
    assert PYTHON is not None
    info = folder / "strongroom-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strongroom\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[vllm.general_plugins]\nstrongroom = {plugin.__name__}:register\n")
    source = Path(plugin.__file__).resolve().parents[2]
    settings = {
        "PYTHONPATH": os.pathsep.join([str(source), str(folder)]),
        KEYRING_VARIABLE: str(sealed.keyring),
        "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    return subprocess.run(
        [PYTHON, vllm_run.__file__, str(sealed.place), *map(str, arguments)],
        env=os.environ | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@needs_vllm
def test_the_real_vllm_answers_as_transformers_does(sealed: Sealed, tmp_path: Path) -> None:
    done = run_vllm(sealed, tmp_path, sealed_adapter(sealed))
    assert done.returncode == 0, done.stdout + done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["prompt"] == [5, 6, 7, 8]
    answer = sealed.model.generate(
        torch.tensor([seen["prompt"]]), max_new_tokens=vllm_run.NEW_TOKENS, do_sample=False, eos_token_id=None
    )
    assert seen["tokens"] == answer[0, 4:].tolist()
    assert seen["top_k"] == 17
    # The adapter works from its folder in memory; the path of the sealed one is no use to vLLM.
    assert seen["adapted"] != seen["tokens"]
    assert "by_path" in seen
    assert not any(path.suffix == ".safetensors" for path in tmp_path.rglob("*"))


@needs_vllm
def test_the_real_vllm_refuses_a_tampered_shard(tampered: Sealed, tmp_path: Path) -> None:
    done = run_vllm(tampered, tmp_path)
    assert done.returncode != 0
    assert SegmentTamperedError.__name__ in done.stdout + done.stderr
