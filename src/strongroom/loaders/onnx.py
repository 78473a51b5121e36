"""Sealed ONNX models in onnxruntime: model and external data from memory, never from a disk."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from strongroom.core.errors import MalformedError
from strongroom.core.extras import need
from strongroom.loaders.access import Access
from strongroom.loaders.opening import SealedModel, open_file
from strongroom.sealing.errors import NoSuchFileError

_NOWHERE: Final = "/dev/null"
_FOLDER: Final = "session.model_external_initializers_file_folder_path"
_LOCATION: Final = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x07])", re.DOTALL)
"""An entry of a tensor's ``external_data``, up to the length of its value."""


def session(
    place: str | Path,
    *,
    access: Access | None = None,
    options: Any = None,
    providers: Sequence[Any] = ("CPUExecutionProvider",),
) -> Any:
    """Return an ``onnxruntime.InferenceSession`` over ``MODEL.sealed/FILE.onnx``, or over the only ONNX file there.

    That file is checked whole. Others that it takes tensors from, by their names beside it, are checked as ``access``
    says. onnxruntime copies their tensors, so that for a moment these take their memory twice.

    :raises NoSuchFileError: the sealed model lacks a file of tensors that the ONNX file names.
    :raises StrongroomError: what doesn't fit, and what to do.
    """
    runtime = need("onnxruntime", extra="onnx")
    chosen = options if options is not None else runtime.SessionOptions()
    # Without it, onnxruntime looks in the current directory for files that it isn't given: anybody's weights.
    chosen.add_session_config_entry(_FOLDER, _NOWHERE)
    with open_file(place, ending=".onnx", access=access) as (model, name):
        text = model.read(name)
        folder = posixpath.dirname(name)
        buffers = {
            location: _external(model, posixpath.join(folder, location)) for location in sorted(_locations(text))
        }
        if buffers:
            sizes = [len(buffer) for buffer in buffers.values()]
            chosen.add_external_initializers_from_files_in_memory([*buffers], [*buffers.values()], sizes)
    return runtime.InferenceSession(text, chosen, providers=list(providers))


def _locations(text: bytes) -> set[str]:
    """Find the names of files with tensors. What is missed is refused later, since there is no folder to find it in."""
    found = set()
    for match in _LOCATION.finditer(text):
        low, high = match[1][0], match[1][1:]
        length = low if not high else (low & 0x7F) | high[0] << 7
        try:
            found.add(text[match.end() : match.end() + length].decode())
        except UnicodeDecodeError:
            raise MalformedError("the ONNX file names a file whose name isn't UTF-8") from None
    return found


def _external(model: SealedModel, name: str) -> memoryview:
    if not model.holds(name):
        raise NoSuchFileError(
            "the ONNX file names a file of tensors that the sealed model doesn't have",
            remedy="seal the model's whole folder",
        )
    return model.read_buffer(name)
