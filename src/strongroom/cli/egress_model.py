"""How many parameters a model has, for the theft bound: counted in headers, or worked out from sealed sizes.

Counting too few is safe (the budget gets smaller), counting too many isn't: what may not be weights is left out.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import click

from strongroom.cli.files import read_file
from strongroom.core.errors import MalformedError, UsageError
from strongroom.core.safetensors_header import LENGTH_BYTES, header_length, parse_header
from strongroom.sealing.adapters.directory import inspect_directory
from strongroom.sealing.header import Geometry

_CONFIG: Final = "config.json"
_MAX_CONFIG: Final = 1 << 20
_ENDING: Final = ".safetensors"
_NO_WEIGHTS: Final = frozenset({"BOOL", "I64", "U64"})
"""Masks, positions and counters. Integers that pack several small weights count as one each."""
_SMALL: Final = 100
"""Sealed objects that are so many times smaller than the largest are tokenizers and the like."""
_UNITS: Final = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What the bound needs of a model."""

    parameters: int
    vocabulary: int | None
    """None where the model doesn't say."""


class Count(click.ParamType[int]):
    """A count such as 8B, 1.5T or 70000000000, read exactly."""

    name = "count"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the integer."""
        text = str(value).upper().replace("_", "")
        unit = _UNITS.get(text[-1:], 1)
        digits = text[:-1] if unit > 1 else text
        try:
            # Fractions take "3/4" and "1e9" too; neither is a count that somebody would write.
            found = Fraction(digits) * unit if set(digits) <= set("0123456789.") else Fraction(1, 2)
        except ValueError:
            found = Fraction(1, 2)
        if found.denominator != 1 or found < 1:
            self.fail(f"{value!r} isn't a count such as 8B, 1.5T or 70000000000", param, ctx)
        return int(found)


def model_facts(path: Path, stored_bits: int | None) -> ModelFacts:
    """Count the parameters of a safetensors file, a folder of them, or a sealed directory.

    :raises UsageError: there is nothing to count, or a sealed directory without ``stored_bits``.
    :raises StrongroomError: a file isn't what it says.
    """
    if path.is_file():
        return ModelFacts(parameters=_count(path), vocabulary=_vocabulary(path.parent))
    if shards := sorted(path.glob(f"*{_ENDING}")):
        return ModelFacts(parameters=sum(map(_count, shards)), vocabulary=_vocabulary(path))
    if stored_bits is None:
        raise UsageError(
            "a sealed directory shows its size and not its tensors",
            remedy="say how many bits each weight is stored with: --stored-bits 16 for bf16",
        )
    return ModelFacts(parameters=_sealed_bytes(path) * 8 // stored_bits, vocabulary=None)


def _count(path: Path) -> int:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = header_length(file.read(LENGTH_BYTES), file_size=size)
        header = parse_header(file.read(length), file_size=size)
    return sum(math.prod(each.shape) for each in header.tensors.values() if each.dtype not in _NO_WEIGHTS)


def _sealed_bytes(path: Path) -> int:
    facts = inspect_directory(path)
    sizes = [
        Geometry.of_object(item.size, 1 << facts.headers[item.name].prelude.segment_bits).plain_size
        for item in facts.manifest.objects
        if item.name in facts.headers
    ]
    return sum(size for size in sizes if size * _SMALL >= max(sizes))


def _vocabulary(folder: Path) -> int | None:
    path = folder / _CONFIG
    if not path.is_file():
        return None
    try:
        config = json.loads(read_file(path, most=_MAX_CONFIG))
        found = config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))
    except (ValueError, RecursionError, AttributeError):
        raise MalformedError(f"`{path}` isn't a model's configuration") from None
    return found if isinstance(found, int) and not isinstance(found, bool) else None
