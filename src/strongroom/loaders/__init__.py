"""The ecosystem's own doors to sealed weights: SL1-WST-02, SL2-WST-02; with them nobody needs plaintext on a disk.

:func:`open_sealed` opens a sealed model wherever it lies; :func:`seal_to` makes one, with no plaintext in between. The
modules here give both in the form that each library knows: ``torch``, ``numpy``, ``jax``, ``transformers``,
``diffusers``, ``peft``, ``vllm``, ``dcp`` (torch.distributed.checkpoint), ``filesystem`` (fsspec) and ``gguf``.
"""

from strongroom.loaders.access import Access, Checking, DataKey, Identity, KeySource
from strongroom.loaders.keyring import Keyring, use_keyring
from strongroom.loaders.opening import SealedModel, open_sealed
from strongroom.loaders.remote import use_storage_options
from strongroom.loaders.saving import Publishing, SealedOutput, seal_to

__all__ = [
    "Access",
    "Checking",
    "DataKey",
    "Identity",
    "KeySource",
    "Keyring",
    "Publishing",
    "SealedModel",
    "SealedOutput",
    "open_sealed",
    "seal_to",
    "use_keyring",
    "use_storage_options",
]
