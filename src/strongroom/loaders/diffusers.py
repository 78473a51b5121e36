"""diffusers over sealed models: pipelines and models, with no plaintext on a disk.

    from strongroom.loaders.diffusers import from_pretrained       # was: DiffusionPipeline.from_pretrained(...)
    pipeline = from_pretrained(DiffusionPipeline, "models/atlas.sealed")

diffusers opens paths only, so it reads from files in memory, each checked whole before it is seen
(:mod:`strongroom.loaders.memory_files` says who else can read them). It maps the weights rather than copying them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import UsageError
from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.opening import open_sealed, split
from strongroom.loaders.pretrained import check_loaded, folder_of, lazy_weights, refuse_options, sealing_folder, within
from strongroom.loaders.saving import Publishing, seal_to

_INDEX: Final = ".safetensors.index.json"
_PIPELINE: Final = "model_index.json"
_REFUSED: Final = frozenset(
    {
        "cache_dir",
        "custom_pipeline",
        "custom_revision",
        "disable_mmap",
        "force_download",
        "offload_folder",
        "offload_state_dict",
        "proxies",
        "revision",
        "token",
        "use_flashpack",
        "use_onnx",
    }
)
"""Options that fetch or read something else than the sealed model, or write weights to a disk."""
_SHARD_SIZE: Final = "10GB"


def _diffusers() -> Any:
    return need("diffusers", extra="diffusers")


def from_pretrained(
    kind: Any, place: str | Path, *, access: Access | None = None, subfolder: str = "", **options: Any
) -> Any:
    """Load what ``kind.from_pretrained`` loads, from a sealed model: a pipeline, a model, a scheduler.

    ``place`` is ``MODEL.sealed`` or ``MODEL.sealed/FOLDER``. ``options`` go to the library. A model that doesn't fit
    its class to the last tensor is refused, unless ``output_loading_info=True`` asks to be told. A pipeline's models
    are checked in the same way, but where ``device_map`` or ``quantization_config`` leaves all of its loading to the
    library.

    :raises WeightsMismatchError: a class needs tensors that aren't there, or there are others.
    :raises UsageError: an option that has no meaning here.
    :raises StrongroomError: what doesn't fit; nothing is handed out then.
    """
    library = _diffusers()
    if not callable(getattr(kind, "from_pretrained", None)):
        raise UsageError(f"`{getattr(kind, '__name__', kind)}` has no `from_pretrained`")
    options = refuse_options(options, _REFUSED)
    root, inner = split(place)
    folder = (within(inner) + subfolder.strip("/")).strip("/")
    with open_sealed(root, access=access) as model:
        for name in sorted(file.name for file in model.files()):
            if name.startswith(within(folder)) and name.endswith(_INDEX):
                where, _, stem = name.removesuffix(_INDEX).rpartition("/")
                lazy_weights(model, where, stem=stem)
        with folder_of(model, folder, weights=True) as path:
            if kind is library.AutoModel:
                kind = _class_of(path)
            if isinstance(kind, type) and issubclass(kind, library.ModelMixin):
                return _model(kind, path, options, str(place))
            if (path / _PIPELINE).exists():
                options = options | _components(kind, path, options, str(place)) | {"use_safetensors": True}
            return _named(kind.from_pretrained(str(path), local_files_only=True, **options), str(place))


def _class_of(path: Path) -> Any:
    """Return what ``AutoModel`` would choose; it can't tell what it loaded."""
    library = _diffusers()
    try:
        name = json.loads((path / "config.json").read_bytes())["_class_name"]
        found = getattr(library, name)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError("the model doesn't name a class of diffusers", remedy="pass its own class") from None
    if not isinstance(found, type) or not issubclass(found, library.ModelMixin):
        raise UsageError(f"`{found}` isn't a class of models", remedy="pass its own class")
    return found


def _named(loaded: Any, place: str) -> Any:
    """Let what was loaded say where from: not from the folder in memory, which is gone."""
    if "_name_or_path" in getattr(loaded, "config", ()) and callable(getattr(loaded, "register_to_config", None)):
        loaded.register_to_config(_name_or_path=place)
    return loaded


def _model(kind: Any, path: Path, options: dict[str, Any], place: str) -> Any:
    tell = bool(options.pop("output_loading_info", False))
    loaded, info = kind.from_pretrained(
        str(path), output_loading_info=True, use_safetensors=True, local_files_only=True, **options
    )
    _named(loaded, place)
    if not tell:
        check_loaded(info)
    return (loaded, info) if tell else loaded


def _components(kind: Any, path: Path, options: dict[str, Any], place: str) -> dict[str, Any]:
    """Load a pipeline's models one by one: by itself it would fill in what is missing with random numbers."""
    if options.get("device_map") is not None or options.get("quantization_config") is not None:
        return {}
    library, transformers = _diffusers(), need("transformers", extra="transformers")
    checked = {"diffusers": library.ModelMixin, "transformers": transformers.PreTrainedModel}
    found = {}
    for name, value in kind.load_config(str(path), local_files_only=True).items():
        if not isinstance(value, list | tuple) or len(value) != 2 or name in options or value[0] not in checked:
            continue
        one = getattr({"diffusers": library, "transformers": transformers}[value[0]], str(value[1]), None)
        if isinstance(one, type) and issubclass(one, checked[value[0]]):
            found[name] = _model(one, path / name, _options_of(name, options), f"{place}/{name}")
    return found


def _options_of(name: str, options: dict[str, Any]) -> dict[str, Any]:
    chosen = {key: options[key] for key in ("dtype", "torch_dtype", "low_cpu_mem_usage") if key in options}
    variant = options.get("variant")
    for key in ("dtype", "torch_dtype"):
        if isinstance(chosen.get(key), dict):
            chosen[key] = chosen[key].get(name, chosen[key].get("default"))
    return chosen | ({"variant": variant} if variant is not None else {})


def save_pretrained(
    what: Any,
    place: str | Path,
    *,
    publishing: Publishing,
    max_shard_size: int | str = _SHARD_SIZE,
    replace: bool = False,
) -> None:
    """Save and seal a pipeline, model or scheduler as one new sealed model at ``place``.

    Weights go from memory into sealed objects; what else the library writes goes through a folder in memory.

    :raises UsageError: something that has no ``save_pretrained``.
    :raises StrongroomError: what doesn't fit; nothing is published then.
    """
    library = _diffusers()
    if not callable(getattr(what, "save_pretrained", None)):
        raise UsageError(f"`{type(what).__name__}` has no `save_pretrained`")
    root, inner = split(place)
    sized = isinstance(what, library.ModelMixin | library.DiffusionPipeline)
    with seal_to(root, publishing, replace=replace) as output, sealing_folder(output, inner) as scratch:
        what.save_pretrained(scratch, **({"max_shard_size": max_shard_size} if sized else {}))
