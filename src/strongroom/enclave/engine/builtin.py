"""Strongroom's own engines, as an image names them. Pure."""

from __future__ import annotations

from enum import StrEnum


class BuiltIn(StrEnum):
    """Which engine."""

    TRANSFORMERS = "transformers"
    """Whatever transformers knows, by torch."""
    NUMPY = "numpy"
    """Llamas, in float32, by numpy alone: small enough for a machine that is emulated."""

    @property
    def other(self) -> BuiltIn:
        """The engine that replays what this one says, with as little code in common as there is."""
        return BuiltIn.NUMPY if self is BuiltIn.TRANSFORMERS else BuiltIn.TRANSFORMERS

    @property
    def command(self) -> tuple[str, ...]:
        """What the agent starts beside the opened weights."""
        inner = {BuiltIn.TRANSFORMERS: "engine", BuiltIn.NUMPY: "engine.light"}[self]
        return ("python", "-m", f"strongroom.enclave.{inner}.wiring")

    @property
    def packages(self) -> tuple[str, ...]:
        """What it imports beside Strongroom, and what those import: the folders' names."""
        small = ("numpy", "safetensors")
        return small if self is BuiltIn.NUMPY else tuple(sorted((*small, *_OF_TRANSFORMERS)))


_OF_TRANSFORMERS = (
    "anyio",
    "certifi",
    "charset_normalizer",
    "filelock",
    "fsspec",
    "h11",
    "httpcore2",
    "httpx2",
    "huggingface_hub",
    "idna",
    "jinja2",
    "markupsafe",
    "mpmath",
    "networkx",
    "packaging",
    "regex",
    "sniffio",
    "sympy",
    "tokenizers",
    "torch",
    "torchgen",
    "tqdm",
    "transformers",
    "truststore",
    "typing_extensions",
    "urllib3",
    "yaml",
)
