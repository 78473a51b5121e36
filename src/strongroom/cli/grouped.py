"""Options that belong together, handed to a command as one value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields
from typing import Any


def grouped(
    kind: type[Any], name: str, *options: Callable[[Any], Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add ``options``, and pass what they give as ``name``: a ``kind``, a dataclass with a member for each.

    With a wrong member the command couldn't start: click passes exactly what the options are called.
    """
    members = tuple(one.name for one in fields(kind))

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*given: Any, **named: Any) -> None:
            made = kind(**{member: named.pop(member) for member in members})
            function(*given, **named, **{name: made})

        taken: Callable[..., None] = wrapped
        for option in reversed(options):
            taken = option(taken)
        return taken

    return add
