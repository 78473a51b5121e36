"""peft's adapters (LoRA and others) over sealed models, with no plaintext on a disk.

from strongroom.loaders.peft import load_adapter               # was: PeftModel.from_pretrained(base, ...)
model = load_adapter(base, "adapters/tone.sealed")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.opening import open_sealed, split
from strongroom.loaders.pretrained import WeightsMismatchError, sealing_folder, within
from strongroom.loaders.saving import Publishing, seal_to
from strongroom.loaders.tensors import TensorFile
from strongroom.loaders.torch import as_torch

_CONFIG: Final = "adapter_config.json"
_WEIGHTS: Final = "adapter_model.safetensors"
MAX_CONFIG: Final = 1 << 20


class AdapterConfigError(MalformedError):
    """An adapter's configuration isn't one."""

    code = "adapter-config"


def load_adapter(
    base: Any,
    place: str | Path,
    *,
    adapter_name: str = "default",
    access: Access | None = None,
    is_trainable: bool = False,
) -> Any:
    """Put a sealed adapter into ``base``, a model or a ``PeftModel`` that has other adapters; returns a ``PeftModel``.

    As with ``PeftModel.from_pretrained``, ``base`` is changed in place. That happens only once the whole adapter has
    been read and authenticated. One that doesn't fit it to the last tensor is taken out again.

    :raises WeightsMismatchError: the adapter's tensors aren't those that its configuration makes.
    :raises AdapterConfigError: the configuration can't be used.
    :raises StrongroomError: what doesn't fit.
    """
    peft = need("peft", extra="peft")
    root, folder = split(place)
    with open_sealed(root, access=access) as model:
        if model.file(within(folder) + _CONFIG).size > MAX_CONFIG:
            raise AdapterConfigError(f"`{_CONFIG}` has more than {MAX_CONFIG} bytes")
        config = _configuration(model.read(within(folder) + _CONFIG))
        tensors = {name: as_torch(raw) for name, raw in TensorFile(model, within(folder) + _WEIGHTS).all().items()}
    config.inference_mode = not is_trainable
    there_before = isinstance(base, peft.PeftModel)
    if there_before:
        if adapter_name in base.peft_config:
            raise UsageError(f"the model has an adapter `{ascii(adapter_name)[1:-1]}` already")
        base.add_adapter(adapter_name, config)
        adapted = base
    else:
        kinds = need("peft.auto", extra="peft").MODEL_TYPE_TO_PEFT_MODEL_MAPPING
        adapted = kinds.get(config.task_type, peft.PeftModel)(base, config, adapter_name=adapter_name)
    try:
        _fill(adapted, tensors, adapter_name, config)
    except BaseException:
        if there_before:
            base.delete_adapter(adapter_name)
        elif callable(getattr(adapted.base_model, "unload", None)):
            adapted.base_model.unload()
        raise
    if not is_trainable:
        adapted.eval()
    return adapted


def _configuration(data: bytes) -> Any:
    peft = need("peft", extra="peft")
    try:
        found = json.loads(data)
        config = peft.PeftConfig.from_peft_type(**found)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise AdapterConfigError(f"`{_CONFIG}` can't be used: {type(error).__name__}") from error
    if config.peft_type is None:
        raise AdapterConfigError(f"`{_CONFIG}` doesn't say of which kind the adapter is")
    return config


def _fill(adapted: Any, tensors: dict[str, Any], adapter_name: str, config: Any) -> None:
    peft = need("peft", extra="peft")
    try:
        result = peft.set_peft_model_state_dict(adapted, tensors, adapter_name=adapter_name)
    except (RuntimeError, KeyError) as error:
        raise WeightsMismatchError(
            "the adapter doesn't fit the model", remedy="load the base model that it was trained on"
        ) from error
    mark = need("peft.mapping", extra="peft").PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type, "")
    # What is missing names all of the base model's tensors too: only the adapter's own count.
    missing = [name for name in result.missing_keys if mark in name and f".{adapter_name}" in name]
    unexpected = list(result.unexpected_keys)
    if missing or unexpected:
        raise WeightsMismatchError(
            f"of the adapter's tensors {len(missing)} are missing, and {len(unexpected)} are unexpected",
            remedy="load the base model that it was trained on",
        )


def save_adapter(
    model: Any, place: str | Path, *, publishing: Publishing, replace: bool = False, **options: Any
) -> None:
    """Save and seal a ``PeftModel``'s adapters; ``options`` go to its ``save_pretrained`` (``selected_adapters``...).

    :raises UsageError: it isn't a ``PeftModel``, or pickles are asked for.
    :raises StrongroomError: what doesn't fit; nothing is published then.
    """
    peft = need("peft", extra="peft")
    if not isinstance(model, peft.PeftModel):
        raise UsageError(f"`{type(model).__name__}` isn't a `PeftModel`: it has no adapters to save")
    if not options.pop("safe_serialization", True) or options.get("path_initial_model_for_weight_conversion"):
        raise UsageError("adapters are sealed as safetensors, as they are", reason="loader-option")
    root, folder = split(place)
    with seal_to(root, publishing, replace=replace) as output, sealing_folder(output, folder) as scratch:
        model.save_pretrained(str(scratch), **options)
