"""peft's adapters: sealed and loaded they act as plain ones do, and one that doesn't fit leaves the model as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.loaders import Checking, open_sealed
from strongroom.loaders.peft import AdapterConfigError, load_adapter, save_adapter
from strongroom.loaders.pretrained import WeightsMismatchError
from support.pretrained import flip, llama, object_of, seal_folder
from support.sealed_access import access, publishing

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

# peft asks transformers for something that transformers has renamed.
pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::FutureWarning")]

SIZES = {"vocab_size": 128, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
TOKENS = [[1, 5, 6, 7, 100]]


def base(**changes: Any) -> Any:
    return llama(**(SIZES | changes))


def adapted(**changes: Any) -> Any:
    torch.manual_seed(8)
    facts: dict[str, Any] = {"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    config = peft.LoraConfig(init_lora_weights=False, **(facts | changes))
    return peft.get_peft_model(base(), config).eval()


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits


@pytest.fixture
def place(tmp_path: Path) -> Path:
    save_adapter(adapted(), tmp_path / "atlas.sealed", publishing=publishing(tmp_path))
    return tmp_path / "atlas.sealed"


@pytest.mark.parametrize("checking", list(Checking))
def test_an_adapter_acts_as_the_plain_one(tmp_path: Path, place: Path, checking: Checking) -> None:
    adapted().save_pretrained(tmp_path / "plain")
    expected = peft.PeftModel.from_pretrained(base(), tmp_path / "plain")
    found = load_adapter(base(), place, access=access(tmp_path, checking=checking))
    assert type(found) is type(expected)
    assert torch.equal(logits(found), logits(expected))
    assert not torch.equal(logits(found), logits(base()))
    assert not found.training
    assert not any(one.requires_grad for one in found.parameters())
    mine, theirs = found.peft_config["default"].to_dict(), expected.peft_config["default"].to_dict()
    assert mine == theirs | {"base_model_name_or_path": mine["base_model_name_or_path"]}


def test_the_sealed_files_are_those_that_peft_saves(tmp_path: Path, place: Path) -> None:
    adapted().save_pretrained(tmp_path / "plain")
    with open_sealed(place, access=access(tmp_path)) as opened:
        assert {file.name for file in opened.files()} == {path.name for path in (tmp_path / "plain").iterdir()}
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            assert opened.read(name) == (tmp_path / "plain" / name).read_bytes()


def test_to_train_on(tmp_path: Path, place: Path) -> None:
    found = load_adapter(base(), place, access=access(tmp_path), is_trainable=True)
    assert {name.split(".")[-3] for name, one in found.named_parameters() if one.requires_grad} == {"lora_A", "lora_B"}


def test_several_adapters_on_one_model(tmp_path: Path, place: Path) -> None:
    other = adapted(r=2, target_modules=["o_proj"])
    save_adapter(other, tmp_path / "other.sealed/tone", publishing=publishing(tmp_path))
    found = load_adapter(base(), place, access=access(tmp_path))
    assert load_adapter(found, tmp_path / "other.sealed/tone", adapter_name="tone", access=access(tmp_path)) is found
    assert torch.equal(logits(found), logits(adapted()))
    found.set_adapter("tone")
    assert torch.equal(logits(found), logits(other))
    with pytest.raises(UsageError, match="already"):
        load_adapter(found, place, adapter_name="tone", access=access(tmp_path))
    save_adapter(found, tmp_path / "both.sealed", publishing=publishing(tmp_path))
    again = load_adapter(base(), tmp_path / "both.sealed/tone", access=access(tmp_path))
    assert torch.equal(logits(again), logits(other))


@pytest.mark.parametrize(
    "changes",
    [{"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"hidden_size": 32}],
    ids=["fewer layers", "more layers", "other shapes"],
)
def test_an_adapter_of_another_model_leaves_the_model_as_it_was(
    tmp_path: Path, place: Path, changes: dict[str, Any]
) -> None:
    model = base(**changes)
    before, names = logits(model), set(model.state_dict())
    with pytest.raises(WeightsMismatchError):
        load_adapter(model, place, access=access(tmp_path))
    assert set(model.state_dict()) == names
    assert torch.equal(logits(model), before)


def test_an_adapter_that_does_not_fit_leaves_the_others(tmp_path: Path, place: Path) -> None:
    found = load_adapter(base(), place, access=access(tmp_path))
    config = json.loads((adapted_folder(tmp_path) / "adapter_config.json").read_text()) | {"r": 3}
    changed = {"adapter_config.json": json.dumps(config).encode()}
    seal_folder(tmp_path / "plain", tmp_path / "other.sealed", tmp_path, files=changed)
    with pytest.raises(WeightsMismatchError):
        load_adapter(found, tmp_path / "other.sealed", adapter_name="tone", access=access(tmp_path))
    assert set(found.peft_config) == {"default"}
    assert torch.equal(logits(found), logits(adapted()))


def adapted_folder(tmp_path: Path) -> Path:
    adapted().save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def test_an_adapter_that_was_changed_touches_nothing(tmp_path: Path) -> None:
    plain = adapted_folder(tmp_path)
    seal_folder(plain, tmp_path / "atlas.sealed", tmp_path)
    weights = (plain / "adapter_model.safetensors").stat().st_size
    flip(object_of(tmp_path / "atlas.sealed", weights), 8000)
    model = base()
    names = set(model.state_dict())
    with pytest.raises(StrongroomError):
        load_adapter(model, tmp_path / "atlas.sealed", access=access(tmp_path))
    assert set(model.state_dict()) == names


@pytest.mark.parametrize(
    "config", [b"{", b"[]", b'{"peft_type":"STRANGE"}', b"{}", b'{"peft_type":"LORA","r":"x"'], ids=str
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, config: bytes) -> None:
    changed = {"adapter_config.json": config}
    seal_folder(adapted_folder(tmp_path), tmp_path / "atlas.sealed", tmp_path, files=changed)
    with pytest.raises(AdapterConfigError):
        load_adapter(base(), tmp_path / "atlas.sealed", access=access(tmp_path))


def test_only_adapters_are_saved_and_only_as_safetensors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="isn't a `PeftModel`"):
        save_adapter(base(), tmp_path / "atlas.sealed", publishing=publishing(tmp_path))
    with pytest.raises(UsageError, match="as safetensors"):
        save_adapter(adapted(), tmp_path / "atlas.sealed", publishing=publishing(tmp_path), safe_serialization=False)
    assert not (tmp_path / "atlas.sealed").exists()
