"""vLLM over sealed models: a plugin (entry point group ``vllm.general_plugins``), and no plaintext on a disk.

    STRONGROOM_KEYRING=keyring.json vllm serve models/atlas.sealed \
        --load-format strongroom --config-format strongroom --tokenizer-mode strongroom

Each of vLLM's processes opens the model by itself and decrypts the tensors one at a time. Keys come by reference only:
every process finds the keyring in the file that ``STRONGROOM_KEYRING`` names; for the weights alone,
``--model-loader-extra-config '{"keyring": "/path/keyring.json"}'`` may name another. vLLM logs its configuration, so
that nothing but a path has a place in it.

For text models in safetensors files. Weights that a model's class takes from elsewhere are refused, and so is code that
lies in the model. Tested with vLLM 0.32.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import UsageError
from strongroom.core.extras import MissingExtraError, need
from strongroom.loaders.access import Access
from strongroom.loaders.keyring import Keyring, use_keyring
from strongroom.loaders.opening import open_sealed, split
from strongroom.loaders.pretrained import WeightsMismatchError, folder_of, lazy_weights, within

NAME: Final = "strongroom"
"""The load format, configuration format and tokenizer mode."""
_HF: Final = "hf"
_SCALES: Final = (".k_scale", ".v_scale", ".q_scale", ".prob_scale")
"""Of a quantized key-value cache: a checkpoint without them means their defaults."""
_GENERATION: Final = "generation_config.json"
_QUANTIZATION: Final = "hf_quant_config.json"

_registered = False


def register() -> None:
    """Register with vLLM. It calls this in each of its processes, perhaps more than once.

    With a vLLM that lacks what this needs, it warns and registers nothing: then vLLM refuses the load format by name,
    and goes on loading other models.
    """
    global _registered  # noqa: PLW0603 - once in a process
    if _registered:
        return
    try:
        loaders = need("vllm.model_executor.model_loader", extra="vllm")
        configs = need("vllm.transformers_utils.config", extra="vllm")
        tokenizers = need("vllm.tokenizers.registry", extra="vllm").TokenizerRegistry
        renderers = need("vllm.renderers.registry", extra="vllm").RENDERER_REGISTRY
        parser_base = need("vllm.transformers_utils.config_parser_base", extra="vllm").ConfigParserBase
        renderer = renderers.renderers[_HF]
        loader, parser = _loader(loaders.BaseModelLoader), _parser(parser_base, configs)
        register_loader, register_parser = loaders.register_model_loader, configs.register_config_parser
    except (MissingExtraError, AttributeError, KeyError) as error:
        warnings.warn(f"this vLLM can't load sealed models: {type(error).__name__}: {error}", stacklevel=2)
        return
    register_parser(NAME)(parser)
    tokenizers.register(NAME, __name__, SealedTokenizer.__name__)
    renderers.register(NAME, *renderer)
    register_loader(NAME)(loader)
    _registered = True


def _parser(base: Any, configs: Any) -> Any:
    class SealedConfigParser(base):  # type: ignore[misc]  # vLLM isn't there when this is checked
        """Has vLLM's own parser read the configuration, from a folder in memory."""

        def parse(
            self,
            model: str | Path,
            trust_remote_code: bool,  # noqa: FBT001 - vLLM's signature
            revision: str | None = None,
            code_revision: str | None = None,
            **options: Any,
        ) -> tuple[dict[str, Any], Any]:
            if trust_remote_code or options.get("trust_remote_code"):
                raise _remote_code()
            with _small_files(model) as folder:
                found, config = configs.get_config_parser(_HF).parse(
                    folder, trust_remote_code=False, revision=revision, code_revision=code_revision, **options
                )
                # What vLLM looks for beside the configuration, it doesn't find in a sealed model.
                if found.get("quantization_config") is None and (quantization := _json(folder / _QUANTIZATION)):
                    found["quantization_config"] = quantization
                for name, value in _json(folder / _GENERATION).items():
                    if not name.startswith("_") and name != "transformers_version":
                        setattr(config, name, value)
            config.name_or_path = str(model)
            return found, config

    return SealedConfigParser


class SealedTokenizer:
    """What vLLM calls for ``--tokenizer-mode strongroom``: its own tokenizer, read from a folder in memory."""

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo_id: str | Path,
        *args: Any,
        trust_remote_code: bool = False,
        revision: str | None = None,
        download_dir: str | None = None,
        **options: Any,
    ) -> Any:
        """Return vLLM's tokenizer for a sealed model.

        :raises UsageError: ``trust_remote_code``.
        :raises StrongroomError: what doesn't fit.
        """
        if trust_remote_code:
            raise _remote_code()
        tokenizers = need("vllm.tokenizers.registry", extra="vllm").TokenizerRegistry
        with _small_files(path_or_repo_id) as folder:
            found = tokenizers.load_tokenizer_cls(_HF).from_pretrained(
                folder, *args, trust_remote_code=False, revision=revision, download_dir=download_dir, **options
            )
        found.name_or_path = str(path_or_repo_id)
        return found


def _loader(base: Any) -> Any:
    class SealedModelLoader(base):  # type: ignore[misc]  # vLLM isn't there when this is checked
        """Gives a model's class its weights, each decrypted when its turn comes."""

        def __init__(self, load_config: Any) -> None:
            super().__init__(load_config)
            self._extra = _Extra(load_config.model_loader_extra_config)

        def download_model(self, model_config: Any) -> None:
            """Do nothing: objects are fetched when they are read."""

        def load_weights(self, model: Any, model_config: Any) -> None:
            _refuse_others(model, model_config)
            root, folder = split(model_config.model)
            with self._extra.keyring(), open_sealed(root) as sealed:
                weights = lazy_weights(sealed, folder)
                loaded = model.load_weights((name, weights[name][...]) for name in weights)
            if loaded is not None and self._extra.tracks(quantized=model_config.quantization is not None):
                _check_complete(model, loaded)

    return SealedModelLoader


class _Extra:
    """What ``model_loader_extra_config`` may say.

    :raises UsageError: anything else. Values aren't shown: a key would be the very thing that doesn't belong there.
    """

    def __init__(self, given: Any) -> None:
        known = {"keyring": str, "enable_weights_track": bool}
        if not isinstance(given, Mapping) or any(
            not isinstance(value, known.get(name, ())) for name, value in given.items()
        ):
            raise UsageError(
                "for load format `strongroom`, `model_loader_extra_config` says `keyring` (a path) or "
                "`enable_weights_track`, and nothing else",
                remedy="keys stay in identity files, which the keyring names",
                reason="loader-option",
            )
        self._keyring: str | None = given.get("keyring")
        self._tracks: bool | None = given.get("enable_weights_track")

    def keyring(self) -> AbstractContextManager[None]:
        """Put the keyring that is named in force, if one is."""
        return nullcontext() if self._keyring is None else use_keyring(Keyring.load(Path(self._keyring).expanduser()))

    def tracks(self, *, quantized: bool) -> bool:
        """Tell whether each parameter must have come from the model; vLLM's own default."""
        return not quantized if self._tracks is None else self._tracks


def _refuse_others(model: Any, model_config: Any) -> None:
    """Refuse what would be read from elsewhere than the sealed model's safetensors files.

    :raises UsageError: it would.
    """
    if getattr(model, "secondary_weights", None) or getattr(model, "allow_patterns_overrides", None):
        raise UsageError(
            "this model's class takes weights from files that it names itself, which aren't read from a sealed model",
            reason="secondary-weights",
        )
    if model_config.quantization == "torchao":
        raise UsageError("torchao's checkpoints aren't read from a sealed model", reason="loader-option")


def _check_complete(model: Any, loaded: set[str]) -> None:
    """Refuse a model some of whose parameters kept what they were initialised with.

    vLLM's own loaders let off each module that changes its weights after loading, which are nearly all.

    :raises WeightsMismatchError: the sealed model lacks some.
    """
    made_later = {
        f"{name}.{parameter}" if name else parameter
        for name, module in model.named_modules()
        if getattr(getattr(module, "quant_method", None), "uses_meta_device", False)
        for parameter, _ in module.named_parameters()
    }
    missing = sorted(
        name
        for name, _ in model.named_parameters()
        if name not in loaded and name not in made_later and not name.endswith(_SCALES)
    )
    if missing:
        raise WeightsMismatchError(
            f"tensors missing: {len(missing)}, e.g. `{ascii(missing[0][:80])[1:-1]}`",
            remedy="the sealed model isn't whole, or vLLM's class for it doesn't tell what it loaded: compare, then "
            "pass --model-loader-extra-config '{\"enable_weights_track\": false}'",
        )


@contextmanager
def lora_folder(place: str | Path, *, access: Access | None = None) -> Iterator[Path]:
    """Give a sealed LoRA adapter as a folder in memory, for ``LoRARequest(name, number, str(path))``.

    vLLM reads adapters by their path and nothing else, so the path of a sealed one is no use to it. Keep the block open
    until the adapter is loaded: vLLM's workers find its files through this process.

    :raises StrongroomError: what doesn't fit.
    """
    root, folder = split(place)
    with open_sealed(root, access=access) as model, folder_of(model, folder, weights=True) as path:
        yield path


@contextmanager
def _small_files(place: str | Path) -> Iterator[Path]:
    root, folder = split(place)
    with open_sealed(root) as model:
        model.file(within(folder) + "config.json")
        with folder_of(model, folder) as path:
            yield path


def _json(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes()) if path.exists() else {}
    return found if isinstance(found, dict) else {}


def _remote_code() -> UsageError:
    return UsageError(
        "code in a sealed model isn't run",
        remedy="start vLLM without --trust-remote-code",
        reason="remote-code",
    )
