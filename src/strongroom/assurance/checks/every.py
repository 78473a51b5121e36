"""All checks: importing this module registers each of them."""

from __future__ import annotations

from strongroom.assurance.checks import hosts, interfaces, people, records, weights
from strongroom.assurance.checks.registry import CHECKS

__all__ = ["CHECKS"]
_MODULES = (hosts, interfaces, people, records, weights)
