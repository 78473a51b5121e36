"""A cell of a spreadsheet that stays text."""

from __future__ import annotations

from typing import Final

from strongroom.core.printable import printable

_RISKY: Final = ("=", "+", "-", "@", "\t", "\r")


def cell(text: str) -> str:
    """Return a text that no spreadsheet runs: people's words and file names stand in these."""
    return f"'{printable(text)}" if text.startswith(_RISKY) else printable(text)
