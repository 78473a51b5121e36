"""What the loaders for Hugging Face's libraries share: weights by their index, folders in memory, and save-and-seal."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import MalformedError, UsageError
from strongroom.loaders.memory_files import memory_folder, memory_scratch
from strongroom.loaders.opening import SealedModel
from strongroom.loaders.saving import SealedOutput
from strongroom.loaders.tensors import TensorFile
from strongroom.loaders.torch import SealedSlice, add_file

MAX_INDEX: Final = 64 << 20
MAX_SMALL: Final = 256 << 20
"""Larger files aren't shown to what loads tokenizers and configurations."""
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}")
_WEIGHTS: Final = (".safetensors", ".gguf", ".onnx", ".h5", ".msgpack", ".ot")
_CODE: Final = (".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Never shown to a library: modules, and what is unpickled, which is code too."""
_SAVERS: Final = (
    ("safetensors.torch", "save_file"),
    ("transformers.modeling_utils", "safe_save_file"),
    ("peft.peft_model", "safe_save_file"),
)
"""Where these libraries keep the function that writes a safetensors file."""


class WeightsIndexError(MalformedError):
    """The index of a sharded model doesn't say what its shards hold."""

    code = "weights-index"


class WeightsMismatchError(UsageError):
    """A model lacks tensors that its class needs, or has others: it isn't of this class, or isn't whole."""

    code = "weights-mismatch"


def refuse_options(options: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    """Return the options that are passed on to the library.

    :raises UsageError: one would have code of the model's run, read plaintext, or write it to a disk.
    """
    if options.get("trust_remote_code"):
        raise UsageError(
            "code in a sealed model isn't run",
            remedy="install the package that defines the model's classes, and pass one of them",
            reason="remote-code",
        )
    for name in sorted(refused):
        if options.get(name) is not None:
            raise UsageError(f"`{name}` has no meaning for a sealed model", reason="loader-option")
    devices = options.get("device_map")
    if isinstance(devices, Mapping) and "disk" in {str(device) for device in devices.values()}:
        raise UsageError("`device_map` would write weights to a disk in clear", reason="loader-option")
    own = {"trust_remote_code", "local_files_only", "use_safetensors", *refused}
    return {name: value for name, value in options.items() if name not in own}


def check_loaded(info: Mapping[str, Any]) -> None:
    """Refuse a model that was loaded in part.

    :raises WeightsMismatchError: names are missing or unexpected, shapes differ, or something couldn't be converted.
    """
    counts = {kind: len(info.get(kind) or ()) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(counts.values()) or info.get("error_msgs"):
        found = [str(name) for kind in counts for name in (info.get(kind) or ())]
        shown = f", e.g. `{ascii(min(found)[:80])[1:-1]}`" if found else ""
        raise WeightsMismatchError(
            f"tensors missing: {counts['missing_keys']}, unexpected: {counts['unexpected_keys']}, "
            f"of another shape: {counts['mismatched_keys']}{shown}",
            remedy="name the model's own class; or pass output_loading_info=True, and look at what comes back",
        )


def within(folder: str) -> str:
    """Return how the names of the files in ``folder`` begin; ``""`` is the whole model."""
    return f"{folder.strip('/')}/" if folder.strip("/") else ""


def lazy_weights(model: SealedModel, folder: str, *, stem: str = "model") -> dict[str, SealedSlice]:
    """Return the tensors of a folder's weights, each read when it is indexed: one file, or shards and their index.

    :raises WeightsIndexError: index and shards don't name the same tensors, or a shard is there that it doesn't name.
    :raises StrongroomError: no such weights, or they aren't what was sealed.
    """
    prefix = within(folder)
    single, index = f"{prefix}{stem}.safetensors", f"{prefix}{stem}.safetensors.index.json"
    shards = {
        file.name
        for file in model.files()
        if file.name.startswith(f"{prefix}{stem}")
        and (file.name == single or _SHARD.fullmatch(file.name[len(prefix) + len(stem) : -len(".safetensors")]))
        and file.name.endswith(".safetensors")
    }
    if not model.holds(index):
        if shards - {single}:
            raise WeightsIndexError(f"`{_shown(index)}` isn't there, but shards are")
        file = TensorFile(model, single)
        return {name: SealedSlice(file, name) for name in file.header.tensors}
    by_shard: dict[str, set[str]] = {}
    for tensor, shard in _weight_map(model, index).items():
        by_shard.setdefault(prefix + shard, set()).add(tensor)
    for shard in sorted(shards - by_shard.keys()):
        raise WeightsIndexError(f"`{_shown(shard)}` isn't named by `{_shown(index)}`")
    found = {}
    for shard, tensors in by_shard.items():
        if not model.holds(shard):
            raise WeightsIndexError(f"`{_shown(index)}` names `{_shown(shard)}`, which isn't there")
        file = TensorFile(model, shard)
        for name in sorted(tensors ^ file.header.tensors.keys()):
            where = "isn't in" if name in tensors else "is only in"
            raise WeightsIndexError(f"tensor `{_shown(name)}` {where} `{_shown(shard)}`: the index says otherwise")
        found.update({name: SealedSlice(file, name) for name in file.header.tensors})
    return found


def _weight_map(model: SealedModel, name: str) -> dict[str, str]:
    size = model.file(name).size
    if size > MAX_INDEX:
        raise WeightsIndexError(f"`{_shown(name)}` has {size} bytes; at most {MAX_INDEX} are read")
    try:
        found = json.loads(model.read(name), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise WeightsIndexError(f"`{_shown(name)}` isn't JSON that can be read") from None
    names = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(shard, str) for shard in names.values()):
        raise WeightsIndexError(f"`{_shown(name)}` has no map from tensors to files")
    return names


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise WeightsIndexError("the index has a name twice")
    return found


def _shown(name: str) -> str:
    return ascii(name[:120])[1:-1]


@contextmanager
def folder_of(model: SealedModel, folder: str, *, weights: bool = False) -> Iterator[Path]:
    """Give ``folder`` of a model as a folder in memory: its small files, or with ``weights`` its safetensors too.

    Code and pickles aren't in it.

    :raises StrongroomError: a file isn't what was sealed.
    """
    unwanted = _CODE if weights else (*_CODE, *_WEIGHTS)
    names = [
        file.name
        for file in model.files()
        if file.name.startswith(within(folder))
        and not file.name.lower().endswith(unwanted)
        and (weights or file.size <= MAX_SMALL)
    ]
    with memory_folder(model, names, under=folder) as path:
        yield path


@contextmanager
def configuration_of(model: SealedModel, folder: str) -> Iterator[Path]:
    """Give a folder in memory with a model's configuration files: the JSON files that lie in ``folder`` itself.

    :raises StrongroomError: a file isn't what was sealed.
    """
    prefix = within(folder)
    names = [
        file.name
        for file in model.files()
        if file.name.startswith(prefix) and "/" not in file.name[len(prefix) :] and file.size <= MAX_SMALL
    ]
    with memory_folder(model, [name for name in names if name.endswith(".json")], under=folder) as path:
        yield path


_lock = threading.Lock()
_taking: dict[str, Callable[[Mapping[str, Any], str, Mapping[str, str] | None], None]] = {}
_originals: dict[tuple[str, str], Any] = {}


@contextmanager
def sealing_folder(output: SealedOutput, folder: str) -> Iterator[Path]:
    """Give a folder for a library's own ``save_pretrained``; what is saved there is sealed under ``folder``.

    Weights never arrive in it: the libraries' function that writes a safetensors file is replaced, and for this folder
    it seals the tensors from where they are in memory. The small files are sealed when the block ends. The folder is in
    memory (:func:`~strongroom.loaders.memory_files.memory_scratch`), so what a library writes otherwise stays there.

    :raises StrongroomError: what doesn't fit.
    """
    prefix = within(folder)
    with memory_scratch() as scratch:

        def take(tensors: Mapping[str, Any], name: str, metadata: Mapping[str, str] | None) -> None:
            add_file(output, prefix + name, tensors, metadata)

        with _replaced_savers(f"{scratch}/", take):
            yield scratch
        for path in sorted(scratch.rglob("*")):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file, output.file(prefix + path.relative_to(scratch).as_posix()) as sealer:
                    sealer.fill(file)


@contextmanager
def _replaced_savers(
    place: str, take: Callable[[Mapping[str, Any], str, Mapping[str, str] | None], None]
) -> Iterator[None]:
    with _lock:
        if not _taking:
            for module, name in _SAVERS:
                if module in sys.modules:
                    original = _originals[module, name] = getattr(sys.modules[module], name)
                    setattr(sys.modules[module], name, _routed(original))
        _taking[place] = take
    try:
        yield
    finally:
        with _lock:
            del _taking[place]
            if not _taking:
                for (module, name), original in _originals.items():
                    setattr(sys.modules[module], name, original)
                _originals.clear()


def _routed(original: Callable[..., None]) -> Callable[..., None]:
    """Return a function that seals what goes to a folder of ours, and leaves other threads' files to ``original``."""

    def save_file(
        tensors: Mapping[str, Any], filename: str | Path, metadata: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        name = os.fspath(filename)
        for place, take in list(_taking.items()):
            if name.startswith(place):
                take(tensors, name.removeprefix(place), metadata)
                return
        original(tensors, filename, metadata=metadata, **options)

    return save_file
