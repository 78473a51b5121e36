"""Where vectors made by others lie: ``../shared/vectors`` beside the checkout, or where STRONGROOM_VECTORS says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def vectors_root() -> Path:
    """Return where the vectors should be."""
    checkout = Path(__file__).resolve().parents[2]
    return Path(os.environ.get("STRONGROOM_VECTORS", checkout.parent / "shared" / "vectors"))


def vectors_folder(name: str) -> Path:
    """Return the folder ``name`` of the vectors, or skip the calling test with the reason."""
    folder = vectors_root() / name
    if not folder.is_dir():
        pytest.skip(f"no vectors `{name}`: set STRONGROOM_VECTORS to a folder that holds them")
    return folder
