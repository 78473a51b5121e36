"""Foreign text on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """Escape what a terminal would act on or hide: control characters, and marks that reverse the order of text."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
