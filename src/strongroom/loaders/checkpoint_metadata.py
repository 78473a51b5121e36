"""A sealed checkpoint's ``.metadata``: a pickle, opened by an unpickler that knows DCP's own classes alone."""

from __future__ import annotations

import io
import pickle
from typing import Any, Final

from strongroom.core.errors import MalformedError, StrongroomError
from strongroom.core.extras import need

_torch: Any = need("torch", extra="torch")
_metadata: Any = need("torch.distributed.checkpoint.metadata", extra="torch")


class CheckpointMetadataError(MalformedError):
    """A checkpoint's ``.metadata`` isn't DCP's metadata, or it names more than that."""

    code = "checkpoint-metadata"


_ALLOWED: Final = {
    "torch.distributed.checkpoint.metadata": frozenset(
        {
            "BytesStorageMetadata",
            "ChunkStorageMetadata",
            "Metadata",
            "MetadataIndex",
            "StorageMeta",
            "TensorProperties",
            "TensorStorageMetadata",
            "_MEM_FORMAT_ENCODING",
        }
    ),
    "torch.distributed.checkpoint.filesystem": frozenset({"_StorageInfo"}),
    "torch.serialization": frozenset({"_get_layout"}),
    "torch": frozenset({"Size"}),
}


class _MetadataUnpickler(pickle.Unpickler):
    """Knows the classes of DCP's metadata, and torch's types. None of them does anything but hold values."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _ALLOWED.get(module, ()):
            return super().find_class(module, name)
        found = getattr(_torch, name, None) if module == "torch" and "." not in name else None
        if isinstance(found, _torch.dtype):
            return found
        raise CheckpointMetadataError(
            f"the metadata names `{ascii(f'{module}.{name}'[:80])[1:-1]}`, which isn't DCP's",
            remedy="whoever published this checkpoint put it there: ask them why",
        )


def unpickled(data: bytes) -> Any:
    """Return the metadata in a file that was checked whole.

    :raises CheckpointMetadataError: it isn't DCP's, or names something else.
    """
    try:
        metadata = _MetadataUnpickler(io.BytesIO(data)).load()
    except StrongroomError:
        raise
    except Exception as error:  # noqa: BLE001 - bytes that aren't a pickle may raise nearly anything
        raise CheckpointMetadataError(f"the metadata can't be read: {type(error).__name__}") from None
    if not isinstance(metadata, _metadata.Metadata):
        raise CheckpointMetadataError("the metadata is something else than DCP's")
    return metadata
