"""Identifiers of the framework's entries, each with its own type."""

from __future__ import annotations

import re
from typing import Final, NewType

from strongroom.core.errors import MalformedError

MeasureId = NewType("MeasureId", str)
"""A benchmark measure: level, area and number, e.g. ``SL2-WST-01``."""
VectorId = NewType("VectorId", str)
"""An attack vector: category and number, e.g. ``RUC-1``."""
CategoryId = NewType("CategoryId", str)
"""A category of attack vectors, e.g. ``RUC``."""

MEASURE_FORM: Final = re.compile(r"SL[1-5]-[A-Z]{3}-[0-9]{2}")
_VECTOR_FORM: Final = re.compile(r"[A-Z]{3}-[0-9]{1,2}")
_CATEGORY_FORM: Final = re.compile(r"[A-Z]{3}")


def measure_id(text: str) -> MeasureId:
    """Check the form of a measure's id.

    :raises MalformedError: another form.
    """
    if not MEASURE_FORM.fullmatch(text):
        raise MalformedError("a measure's id is written like `SL2-WST-01`")
    return MeasureId(text)


def vector_id(text: str) -> VectorId:
    """Check the form of an attack vector's id.

    :raises MalformedError: another form.
    """
    if not _VECTOR_FORM.fullmatch(text):
        raise MalformedError("an attack vector's id is written like `RUC-1`")
    return VectorId(text)


def category_id(text: str) -> CategoryId:
    """Check the form of a vector category's id.

    :raises MalformedError: another form.
    """
    if not _CATEGORY_FORM.fullmatch(text):
        raise MalformedError("a category's id is three capital letters, like `RUC`")
    return CategoryId(text)
