"""Files and output that verbs share which need no wallet and no deployment: light enough to import first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from strongroom.core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add ``--json``; passed as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def read_file(path: Path, *, most: int) -> bytes:
    """Read a file of at most ``most`` bytes.

    :raises UsageError: it isn't there, or is larger.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no file `{path}`") from None
    if len(data) > most:
        raise UsageError(f"`{path.name}` is larger than {most} bytes")
    return data
