"""diffusers loads sealed pipelines and models as it loads plain ones, bit for bit, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from strongroom.core.errors import StrongroomError, UsageError
from strongroom.loaders import Checking, open_sealed
from strongroom.loaders.diffusers import from_pretrained, save_pretrained
from strongroom.loaders.pretrained import WeightsIndexError, WeightsMismatchError
from support.pretrained import flip, object_of, seal_folder, word_tokenizer
from support.sealed_access import access, publishing

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
diffusers.utils.logging.disable_progress_bar()
diffusers.utils.logging.set_verbosity(50)

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::FutureWarning")]

CHECKS = pytest.mark.parametrize("checking", list(Checking))


def unet() -> Any:
    torch.manual_seed(4)
    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    ).eval()


def ddpm() -> Any:
    return diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler(num_train_timesteps=10))


def same_model(one: Any, other: Any) -> None:
    mine, theirs = one.state_dict(), other.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(
        tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]) for name, tensor in mine.items()
    )


def same_output(one: Any, other: Any) -> None:
    noise = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(5)).to(one.dtype)
    with torch.no_grad():
        assert torch.equal(one(noise, 3).sample, other(noise, 3).sample)


@CHECKS
@pytest.mark.parametrize("shard", ["10GB", "20KB"])
def test_a_model(tmp_path: Path, checking: Checking, shard: str) -> None:
    unet().save_pretrained(tmp_path / "plain", max_shard_size=shard)
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path)
    opening = access(tmp_path, checking=checking)
    found = from_pretrained(diffusers.UNet2DModel, tmp_path / "atlas.sealed", access=opening)
    expected = diffusers.UNet2DModel.from_pretrained(tmp_path / "plain")
    same_model(found, expected)
    same_output(found, expected)
    assert not found.training
    assert found.config["_name_or_path"] == str(tmp_path / "atlas.sealed")
    half = from_pretrained(diffusers.UNet2DModel, tmp_path / "atlas.sealed", access=opening, torch_dtype=torch.bfloat16)
    same_model(half, diffusers.UNet2DModel.from_pretrained(tmp_path / "plain", torch_dtype=torch.bfloat16))
    same_model(from_pretrained(diffusers.AutoModel, tmp_path / "atlas.sealed", access=opening), expected)


@pytest.mark.parametrize("options", [{}, {"torch_dtype": torch.float16}], ids=str)
def test_a_pipeline(tmp_path: Path, options: dict[str, Any]) -> None:
    ddpm().save_pretrained(tmp_path / "plain")
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path)
    expected = diffusers.DDPMPipeline.from_pretrained(tmp_path / "plain", **options)
    for kind in (diffusers.DDPMPipeline, diffusers.DiffusionPipeline):
        found = from_pretrained(kind, tmp_path / "atlas.sealed", access=access(tmp_path), **options)
        assert type(found) is diffusers.DDPMPipeline
        same_model(found.unet, expected.unet)
        assert found.scheduler.config["num_train_timesteps"] == 10
        assert found.config["_name_or_path"] == str(tmp_path / "atlas.sealed")
    if not options:
        same_output(found.unet, expected.unet)
        pictures = [
            one(num_inference_steps=2, output_type="np", generator=torch.Generator().manual_seed(6)).images
            for one in (found, expected)
        ]
        assert (pictures[0] == pictures[1]).all()
    part = from_pretrained(diffusers.UNet2DModel, tmp_path / "atlas.sealed/unet", access=access(tmp_path))
    same_model(part, diffusers.UNet2DModel.from_pretrained(tmp_path / "plain/unet"))


def test_a_pipeline_with_a_model_of_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(7)
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8,),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
    )
    cross = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    made = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=word_tokenizer(),
        unet=cross,
        scheduler=diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save_pretrained(made, tmp_path / "atlas.sealed", publishing=publishing(tmp_path))
    found = from_pretrained(diffusers.DiffusionPipeline, tmp_path / "atlas.sealed", access=access(tmp_path))
    for name in ("vae", "text_encoder", "unet"):
        same_model(getattr(found, name), getattr(made, name))


def test_save_and_seal_gives_the_files_that_diffusers_saves(tmp_path: Path) -> None:
    place = tmp_path / "atlas.sealed"
    save_pretrained(ddpm(), place, publishing=publishing(tmp_path), max_shard_size="40KB")
    ddpm().save_pretrained(tmp_path / "plain", max_shard_size="40KB")
    saved = {path.relative_to(tmp_path / "plain").as_posix(): path for path in (tmp_path / "plain").rglob("*.*")}
    with open_sealed(place, access=access(tmp_path)) as opened:
        assert {file.name for file in opened.files()} == saved.keys()
        for name, path in saved.items():
            assert opened.read(name) == path.read_bytes(), name
    same_model(from_pretrained(diffusers.DDPMPipeline, place, access=access(tmp_path)).unet, unet())
    scheduler = from_pretrained(diffusers.DDPMScheduler, place, subfolder="scheduler", access=access(tmp_path))
    assert scheduler.config["num_train_timesteps"] == 10
    with pytest.raises(UsageError, match="has no `save_pretrained`"):
        save_pretrained({}, tmp_path / "other.sealed", publishing=publishing(tmp_path))


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_comes_back_from_weights_that_were_changed(tmp_path: Path, *, nested: bool) -> None:
    (ddpm() if nested else unet()).save_pretrained(tmp_path / "plain")
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path)
    (weights,) = (tmp_path / "plain").rglob("*.safetensors")
    flip(object_of(tmp_path / "atlas.sealed", weights.stat().st_size), 50_000)
    kind = diffusers.DDPMPipeline if nested else diffusers.UNet2DModel
    with pytest.raises(StrongroomError) as caught:
        from_pretrained(kind, tmp_path / "atlas.sealed", access=access(tmp_path))
    assert caught.value.exit_code.name == "TAMPERED"


def test_tensors_that_are_missing_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - comes with diffusers

    ddpm().save_pretrained(tmp_path / "plain")
    (weights,) = (tmp_path / "plain").rglob("*.safetensors")
    tensors = load_file(weights)
    del tensors["conv_in.bias"]
    save_file(tensors, weights, {"format": "pt"})
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path)
    place = tmp_path / "atlas.sealed"
    for kind, where in ((diffusers.DDPMPipeline, place), (diffusers.UNet2DModel, place / "unet")):
        with pytest.raises(WeightsMismatchError, match=r"missing: 1.*`conv_in\.bias`"):
            from_pretrained(kind, where, access=access(tmp_path))
    _, info = from_pretrained(diffusers.UNet2DModel, place / "unet", access=access(tmp_path), output_loading_info=True)
    assert set(info["missing_keys"]) == {"conv_in.bias"}


def test_an_index_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    unet().save_pretrained(tmp_path / "plain", max_shard_size="20KB")
    name = "diffusion_pytorch_model.safetensors.index.json"
    index = json.loads((tmp_path / "plain" / name).read_text())
    del index["weight_map"]["conv_in.bias"]
    changed = {name: json.dumps(index).encode()}
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path, files=changed)
    with pytest.raises(WeightsIndexError, match=r"`conv_in\.bias` is only in"):
        from_pretrained(diffusers.UNet2DModel, tmp_path / "atlas.sealed", access=access(tmp_path))


@pytest.mark.parametrize(
    "config",
    [b"{}", b"[]", b"{", b'{"_class_name":"nothing"}', b'{"_class_name":"DDPMScheduler"}', b'{"_class_name":1}'],
)
def test_a_model_that_names_no_class_of_models_needs_one(tmp_path: Path, config: bytes) -> None:
    unet().save_pretrained(tmp_path / "plain")
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path, files={"config.json": config})
    with pytest.raises(UsageError, match="class of"):
        from_pretrained(diffusers.AutoModel, tmp_path / "atlas.sealed", access=access(tmp_path))


def test_code_and_pickles_are_not_run(tmp_path: Path) -> None:
    ddpm().save_pretrained(tmp_path / "plain")
    index = json.loads((tmp_path / "plain/model_index.json").read_text())
    index["_class_name"] = ["strange", "Pipeline"]
    code = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    changed = {
        "model_index.json": json.dumps(index).encode(),
        "strange.py": code.encode(),
        "pipeline.py": code.encode(),
        "unet/diffusion_pytorch_model.safetensors": None,
        "unet/diffusion_pytorch_model.bin": b"\x80\x04cos\nsystem\n.",
    }
    seal_folder(tmp_path / "plain", tmp_path / "atlas.sealed", tmp_path, files=changed)
    for kind, where in ((diffusers.DiffusionPipeline, ""), (diffusers.UNet2DModel, "unet")):
        with pytest.raises((OSError, ValueError)):
            from_pretrained(kind, tmp_path / "atlas.sealed", subfolder=where, access=access(tmp_path))
    for options in ({"trust_remote_code": True}, {"custom_pipeline": "strange"}, {"offload_folder": "/elsewhere"}):
        with pytest.raises(UsageError):
            from_pretrained(diffusers.DiffusionPipeline, tmp_path / "atlas.sealed", access=access(tmp_path), **options)
    assert not (tmp_path / "ran").exists()
