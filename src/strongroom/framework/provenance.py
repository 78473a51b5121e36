"""Where an entry comes from and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strongroom.core.fields import Fields

LONG: Final = 4096
"""Longest prose, in characters."""


class Confidence(StrEnum):
    """How sure an entry is."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Source(StrEnum):
    """What was read."""

    CONFIRMED = "confirmed-by-source"
    PARTIAL = "partial"
    RECALLED = "recalled"


@dataclass(frozen=True, slots=True)
class Provenance:
    """The standing of one entry; ``reference`` is a page or table, empty where the section as a whole has one."""

    source: Source
    reference: str
    confidence: Confidence

    @classmethod
    def read(cls, f: Fields) -> Provenance:
        """Read the three members that each entry has.

        :raises MalformedError: one is missing or holds a value outside the closed choice.
        """
        return cls(
            source=f.parsed("source", Source),
            reference=optional_text(f, "source_ref"),
            confidence=f.parsed("confidence", Confidence),
        )


def optional_text(f: Fields, name: str) -> str:
    """Take a text that may be absent or null; then it is empty."""
    return f.text(name, max_length=LONG) if f.optional(name) else ""


def optional_texts(f: Fields, name: str) -> tuple[str, ...]:
    """Take a list of texts that may be absent; then it is empty."""
    return f.texts(name, most=64, max_length=LONG) if f.optional(name) else ()
