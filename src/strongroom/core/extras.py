"""Libraries that only some parts need: imported when used, with an error that says what to install."""

from __future__ import annotations

import importlib
from typing import Any

from strongroom.core.errors import UsageError


class MissingExtraError(UsageError):
    """A library that this part needs isn't installed."""

    code = "missing-extra"


def need(module: str, *, extra: str) -> Any:
    """Import ``module``.

    :raises MissingExtraError: it isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"`{module}` can't be imported: {type(error).__name__}", remedy=f"pip install 'strongroom[{extra}]'"
        ) from error
