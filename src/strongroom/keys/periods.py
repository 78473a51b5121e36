"""How long a key protects before another one takes its place: NIST SP 800-57 part 1 rev. 5, section 5.3.6, table 1.

That table gives a symmetric key-wrapping key at most two years of protecting. Those that stand above many others get
less here, because what one of them opens grows with every model. Nothing stops at the end of a period: it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strongroom.core.clock import Instant

_DAY: Final = 86_400


class Layer(StrEnum):
    """Where a key stands."""

    ROOT = "root"
    EPOCH = "epoch"
    KEK = "kek"


PERIODS: Final[Mapping[Layer, int]] = MappingProxyType(
    {Layer.ROOT: 730 * _DAY, Layer.EPOCH: 365 * _DAY, Layer.KEK: 365 * _DAY}
)
"""Seconds for which a key of each layer protects new keys."""


def due(layer: Layer, created: Instant, now: Instant) -> bool:
    """Tell whether a key that was created then has protected for its whole period."""
    return now - created >= PERIODS[layer]
