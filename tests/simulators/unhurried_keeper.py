"""The real keeper without its quotas: for benchmarks in which one person stands for a thousand."""

from __future__ import annotations

from types import MappingProxyType

from strongroom.core.buckets import Rate
from strongroom.keeper import quotas, wiring


def without_quotas() -> None:
    """Let everybody ask as often as they like."""
    boundless = MappingProxyType(dict.fromkeys(quotas.Quota, Rate(per_second=1e6, burst=1_000_000)))
    setattr(quotas, "RATES", boundless)  # noqa: B010 - mypy refuses to see it replaced; here the rates are chosen


if __name__ == "__main__":
    without_quotas()
    wiring.main()
