"""The keeper's ring of decisions on a disk, with or without a hold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from strongroom.keeper.adapters.files import MAX_DECISIONS_FILE, DecisionFile


def decision_file(
    folder: Path,
    *,
    most: int = MAX_DECISIONS_FILE,
    held: Callable[[], bool] = lambda: False,
    overwrote: Callable[[], None] = lambda: None,
) -> DecisionFile:
    """Return the decisions of a keeper whose folder is ``folder``; no hold stands unless ``held`` says so."""
    return DecisionFile(folder, most=most, held=held, overwrote=overwrote)
