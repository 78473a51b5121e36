"""transformers over sealed models: ``from_pretrained`` and ``save_pretrained`` with no plaintext on a disk.

    from strongroom.loaders.transformers import from_pretrained        # was: AutoModelForCausalLM.from_pretrained(...)
    model = from_pretrained(AutoModelForCausalLM, "models/atlas.sealed")
    tokens = from_pretrained(AutoTokenizer, "models/atlas.sealed")

A model's weights are decrypted tensor by tensor, when transformers puts each in its place. How the sealed model is
opened is ``access``'s to say, or the keyring's in force (:mod:`strongroom.loaders.keyring`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import UsageError
from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.opening import SealedModel, open_sealed, split
from strongroom.loaders.pretrained import (
    check_loaded,
    configuration_of,
    folder_of,
    lazy_weights,
    refuse_options,
    sealing_folder,
    within,
)
from strongroom.loaders.saving import Publishing, seal_to

_CONFIG: Final = "config.json"
_GENERATION: Final = "generation_config.json"
_SHARD_SIZE: Final = "50GB"
_REFUSED: Final = frozenset(
    {
        "state_dict",
        "gguf_file",
        "from_tf",
        "from_flax",
        "variant",
        "revision",
        "code_revision",
        "cache_dir",
        "force_download",
        "proxies",
        "token",
        "weights_only",
        "adapter_kwargs",
        "offload_folder",
        "offload_state_dict",
        "offload_buffers",
    }
)
"""Options that fetch or read something else than the sealed model, or write weights to a disk."""


def _transformers() -> Any:
    return need("transformers", extra="transformers")


def from_pretrained(
    kind: Any, place: str | Path, *, access: Access | None = None, subfolder: str = "", **options: Any
) -> Any:
    """Load what ``kind.from_pretrained`` loads, from a sealed model: a model, tokenizer, processor or configuration.

    ``kind`` is one of the Auto classes or a class of its own. ``place`` is ``MODEL.sealed`` or ``MODEL.sealed/FOLDER``.
    ``options`` go to the library. Code that lies in the model isn't run, so ``trust_remote_code`` is refused. A model
    that doesn't fit its class to the last tensor is refused, unless ``output_loading_info=True`` asks to be told: then
    (model, what didn't fit) comes back, as from the library.

    :raises WeightsMismatchError: the class needs tensors that aren't there, or there are others.
    :raises WeightsIndexError: shards and their index don't agree.
    :raises UsageError: an option that has no meaning here.
    :raises StrongroomError: what doesn't fit; no model is handed out then.
    """
    passed = refuse_options(options, _REFUSED)
    root, inner = split(place)
    folder = within(inner) + subfolder.strip("/")
    with open_sealed(root, access=access) as model:
        if _is_model(kind):
            return _load_model(kind, model, folder.strip("/"), str(place), passed)
        return _load_small(kind, model, folder.strip("/"), str(place), passed)


def tokenizer(place: str | Path, *, access: Access | None = None, **options: Any) -> Any:
    """Load the tokenizer of a sealed model: :func:`from_pretrained` of ``AutoTokenizer``.

    :raises StrongroomError: what doesn't fit.
    """
    return from_pretrained(_transformers().AutoTokenizer, place, access=access, **options)


def save_pretrained(
    what: Any,
    place: str | Path,
    *,
    publishing: Publishing,
    max_shard_size: int | str = _SHARD_SIZE,
    replace: bool = False,
) -> None:
    """Save and seal: a model, tokenizer or processor, or several of them, as one new sealed model at ``place``.

    Weights go from memory into sealed objects; what else the library writes goes through a folder in memory.
    ``place`` is ``MODEL.sealed``, or ``MODEL.sealed/FOLDER`` to have the files in a folder of the model.

    :raises UsageError: something that has no ``save_pretrained``.
    :raises StrongroomError: what doesn't fit; nothing is published then.
    """
    things: Sequence[Any] = list(what) if isinstance(what, list | tuple) else [what]
    root, inner = split(place)
    models = _transformers().PreTrainedModel
    for thing in things:
        if not callable(getattr(thing, "save_pretrained", None)):
            raise UsageError(f"`{type(thing).__name__}` has no `save_pretrained`")
    with seal_to(root, publishing, replace=replace) as output, sealing_folder(output, inner) as scratch:
        for thing in things:
            if isinstance(thing, models):
                thing.save_pretrained(scratch, max_shard_size=max_shard_size)
            else:
                thing.save_pretrained(scratch)


def _is_model(kind: Any) -> bool:
    if getattr(kind, "_model_mapping", None) is not None:
        return True
    return isinstance(kind, type) and issubclass(kind, _transformers().PreTrainedModel)


def _load_small(kind: Any, model: SealedModel, folder: str, place: str, options: dict[str, Any]) -> Any:
    if not callable(getattr(kind, "from_pretrained", None)):
        raise UsageError(f"`{getattr(kind, '__name__', kind)}` has no `from_pretrained`")
    if getattr(kind, "__name__", "").startswith("Auto"):
        # Without it, a model that carries code would have the library ask the terminal whether to run it.
        options = options | {"trust_remote_code": False}
    with folder_of(model, folder) as path:
        loaded = kind.from_pretrained(path, local_files_only=True, **options)
    if hasattr(loaded, "name_or_path"):
        loaded.name_or_path = place
    return loaded


def _load_model(kind: Any, model: SealedModel, folder: str, place: str, options: dict[str, Any]) -> Any:
    tell = bool(options.pop("output_loading_info", False))
    model.file(within(folder) + _CONFIG)
    with configuration_of(model, folder) as path:
        config, options = _configuration(kind, path, options)
        concrete, config = _class_for(kind, config)
        if concrete.can_generate() and options.get("generation_config") is None:
            options["generation_config"] = _generation(model, folder, path)
    weights = lazy_weights(model, folder)
    loaded, info = concrete.from_pretrained(
        None, config=config, state_dict=weights, output_loading_info=True, trust_remote_code=False, **options
    )
    if not tell:
        check_loaded(info)
    loaded.config.name_or_path = place
    loaded.name_or_path = place
    return (loaded, info) if tell else loaded


def _configuration(kind: Any, path: Path, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the configuration, and the options that it has no use for: as the library's Auto classes do it."""
    transformers = _transformers()
    given = options.pop("config", None)
    if isinstance(given, transformers.PreTrainedConfig):
        return given, options
    if given is not None:
        raise UsageError("`config` has to be a configuration, not the name of one", reason="loader-option")
    # These are the model's to use, whatever the configuration makes of them.
    own = {
        name: options.pop(name)
        for name in ("dtype", "torch_dtype", "quantization_config", "generation_config")
        if options.get(name) is not None
    }
    chosen = transformers.AutoConfig if getattr(kind, "_model_mapping", None) is not None else kind.config_class
    trust = {"trust_remote_code": False} if chosen is transformers.AutoConfig else {}
    config, unused = chosen.from_pretrained(path, return_unused_kwargs=True, local_files_only=True, **trust, **options)
    return config, {name: value for name, value in unused.items() if name in options} | own


def _generation(model: SealedModel, folder: str, path: Path) -> Any:
    """Return what ``kind.from_pretrained`` would find: the file of its own, or what older models say in "config"."""
    generation = _transformers().GenerationConfig
    if model.holds(within(folder) + _GENERATION):
        return generation.from_pretrained(path, local_files_only=True)
    return generation.from_pretrained(path, config_file_name=_CONFIG, _from_model_config=True, local_files_only=True)


def _class_for(kind: Any, config: Any) -> tuple[Any, Any]:
    mapping = getattr(kind, "_model_mapping", None)
    if mapping is None:
        return kind, config
    if type(config) not in mapping:
        raise UsageError(f"`{kind.__name__}` has no class for a `{type(config).__name__}`")
    concrete = need("transformers.models.auto.auto_factory", extra="transformers")._get_model_class(  # noqa: SLF001 - no other way
        config, mapping
    )
    text = config.sub_configs.get("text_config")
    if text is not None and concrete.config_class == text:
        # A text model out of a model of several kinds takes the configuration of its own part.
        quantized = getattr(config, "quantization_config", None)
        config = config.get_text_config()
        if quantized is not None:
            config.quantization_config = quantized
    return concrete, config
